//! The WebSocket of one worker. A [`Session`] interprets its frames.
//!
//! Bounds: a frame has at most [`FRAME_BYTES_MAX`] in both directions, a send takes at most [`SEND_WITHIN`], and
//! [`OUTBOUND_MAX`] messages wait for the worker. The second half of a message arrives within [`MESSAGE_WITHIN`].

mod half_message;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use livekit_protocol as proto;
use proto::server_message::Message as ServerMessage;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::api_state::STOPPING;
use crate::command::WorkerCommand;
use crate::limits::OUTBOUND_MAX;
use crate::scheduler::Id;
use half_message::Followed;
use wasm_worker_protocol::dispatcher_session::{Due, Encoded, Encoding, Received, Session};
use wasm_worker_protocol::frame::FRAME_BYTES_MAX;

/// The read buffer of a connection, in bytes. Most frames of a worker are smaller, and most connections idle.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Time limit for the second half of a message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(30);
/// Time limit for sending.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// Most messages that are sent before a flush.
const FLUSH_AFTER: usize = 64;
/// The reason for closing the connection of a worker that does not read.
const SLOW_READER: &str = "the worker does not read its messages";

type Socket = WebSocketStream<Followed<TokioIo<Upgraded>>>;

/// The connection of a worker.
struct Connection {
    socket: Socket,
    session: Session,
    /// The API key that signed the worker's token.
    api_key: String,
    commands: mpsc::Sender<WorkerCommand>,
    /// The sender of the worker's outbound queue, for the coordinator.
    outbound: mpsc::Sender<ServerMessage>,
    /// The id of the worker, once it has registered.
    worker: Option<Id>,
}

/// Serve a worker until its connection ends.
pub(crate) async fn serve(upgraded: Upgraded, api_key: String, commands: mpsc::Sender<WorkerCommand>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let stream = Followed::new(TokioIo::new(upgraded));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (outbound, queue) = mpsc::channel(OUTBOUND_MAX);
    let session = Session::new(Instant::now());
    let mut connection = Connection { socket, session, api_key, commands, outbound, worker: None };
    let why = connection.run(queue).await;
    let Connection { worker, commands, .. } = connection;
    match worker {
        Some(worker) => drop(commands.send(WorkerCommand::WorkerLeft { worker, why }).await),
        None => tracing::debug!(target: "dispatcher", why, "a connection ended before its worker registered"),
    }
}

impl Connection {
    /// Serve until the connection ends, and return the reason.
    async fn run(&mut self, mut queue: mpsc::Receiver<ServerMessage>) -> String {
        let mut messages = Vec::new();
        loop {
            let wake = self.session.wake_at();
            let half = self.socket.get_ref().half_since();
            tokio::select! {
                // Deadlines and outbound messages come first, so that a flood of frames does not delay them.
                biased;
                () = sleep_until(wake) => match self.session.due(Instant::now()) {
                    Some(Due::Ping) => {
                        if let Err(why) = self.send(Message::Ping(Bytes::new())).await {
                            return why;
                        }
                    }
                    Some(Due::Close(why)) => return why,
                    None => {}
                },
                count = queue.recv_many(&mut messages, FLUSH_AFTER) => {
                    if count == 0 {
                        return SLOW_READER.into();
                    }
                    if let Err(why) = self.send_all(&mut messages).await {
                        return why;
                    }
                }
                frame = self.socket.next() => match self.receive(frame).await {
                    // The command may have waited for the coordinator; that time is not silence of the worker.
                    Ok(()) => self.session.note_alive(Instant::now()),
                    Err(why) => return why,
                },
                // The other half may have arrived by now, so the frames come first.
                () = half_is_over(half) => {
                    return format!("the worker sent half a message, and not the rest within {MESSAGE_WITHIN:?}");
                }
            }
            // The coordinator has dropped its sender.
            if self.worker.is_some() && queue.sender_strong_count() < 2 {
                return SLOW_READER.into();
            }
        }
    }

    async fn receive(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), String> {
        let now = Instant::now();
        let received = match frame {
            None => return Err("the connection ended".into()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.map(|frame| format!(": {}", frame.reason)).unwrap_or_default();
                return Err(format!("the worker closed the connection{reason}"));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(()),
            Some(Ok(Message::Binary(bytes))) => self.session.receive(now, Encoding::Binary, &bytes)?,
            Some(Ok(Message::Text(text))) => self.session.receive(now, Encoding::Json, text.as_bytes())?,
        };
        self.forward(received).await
    }

    /// Give the meaning of a frame to the coordinator.
    async fn forward(&mut self, received: Received) -> Result<(), String> {
        let command = match (received, self.worker.clone()) {
            (Received::Nothing, _) => return Ok(()),
            (Received::Register(registration), _) => {
                let (reply, id) = oneshot::channel();
                let (api_key, outbound) = (self.api_key.clone(), self.outbound.clone());
                self.command(WorkerCommand::Register { registration, api_key, outbound, reply }).await?;
                self.worker = Some(id.await.map_err(|_| STOPPING)?);
                return Ok(());
            }
            (Received::Ping { timestamp }, _) => WorkerCommand::Ping { timestamp, outbound: self.outbound.clone() },
            (Received::Message(message), Some(worker)) => WorkerCommand::Message { worker, message },
            (Received::Simulate(job), Some(worker)) => WorkerCommand::Simulate { worker, job },
            // The session refuses messages before the registration.
            (Received::Message(_) | Received::Simulate(_), None) => return Ok(()),
        };
        self.command(command).await
    }

    async fn command(&mut self, command: WorkerCommand) -> Result<(), String> {
        self.commands.send(command).await.map_err(|_| STOPPING.into())
    }

    async fn send_all(&mut self, messages: &mut Vec<ServerMessage>) -> Result<(), String> {
        // The jobs whose messages are too long, which would end the connection.
        let mut undeliverable = Vec::new();
        let sending = async {
            for message in messages.drain(..) {
                let job = job_of(&message);
                let encoded = self.session.encode(message);
                if encoded.bytes() > FRAME_BYTES_MAX {
                    undeliverable.push((job, encoded.bytes()));
                    continue;
                }
                let frame = match encoded {
                    Encoded::Binary(bytes) => Message::Binary(bytes.into()),
                    Encoded::Json(text) => Message::Text(text.into()),
                };
                self.socket.feed(frame).await?;
            }
            self.socket.flush().await
        };
        sent(timeout(SEND_WITHIN, sending).await)?;
        for (job, bytes) in undeliverable {
            if let Some((worker, job)) = self.worker.clone().zip(job) {
                self.command(WorkerCommand::Undeliverable { worker, job, bytes }).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, frame: Message) -> Result<(), String> {
        sent(timeout(SEND_WITHIN, self.socket.send(frame)).await)
    }
}

/// Wait until half a message has waited for too long.
async fn half_is_over(half_since: Option<Instant>) {
    match half_since {
        Some(since) => sleep_until(since + MESSAGE_WITHIN).await,
        None => std::future::pending().await,
    }
}

/// The job that an offer or an assignment is about. Other messages are short.
fn job_of(message: &ServerMessage) -> Option<String> {
    let job = match message {
        ServerMessage::Availability(request) => request.job.as_ref(),
        ServerMessage::Assignment(assignment) => assignment.job.as_ref(),
        _ => None,
    };
    job.map(|job| job.id.clone())
}

fn sent<E>(result: Result<Result<(), Error>, E>) -> Result<(), String> {
    match result {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the worker accepted no data for {SEND_WITHIN:?}")),
    }
}
