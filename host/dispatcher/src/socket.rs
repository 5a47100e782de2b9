//! The connection of one worker: frames in, frames out. [`Session`] decides what they mean.
//!
//! Bounds: [`FRAME_BYTES_MAX`] a frame, [`SEND_WITHIN`] for one to be taken, [`MAILBOX`] messages wait for the worker.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use livekit_protocol as proto;
use proto::server_message::Message as ToWorker;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::order::Order;
use super::owner::MAILBOX;
use super::pool::Id;
use wasm_worker_protocol::dispatcher_session::{Due, Encoded, Encoding, Heard, Session};

/// As LiveKit's server has it.
const FRAME_BYTES_MAX: usize = 2 << 20;
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// Frames sent before they are flushed.
const AT_ONCE: usize = 64;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A worker's connection, and who it turned out to be.
struct Connection {
    socket: Socket,
    session: Session,
    key: String,
    orders: mpsc::Sender<Order>,
    mailbox: mpsc::Sender<ToWorker>,
    worker: Option<Id>,
}

/// Serve a worker, whose token is of this key, until its connection is gone.
pub(crate) async fn serve(upgraded: Upgraded, key: String, orders: mpsc::Sender<Order>) {
    let config =
        WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX)).max_frame_size(Some(FRAME_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mailbox, mail) = mpsc::channel(MAILBOX);
    let session = Session::new(Instant::now());
    let mut connection = Connection { socket, session, key, orders, mailbox, worker: None };
    let why = connection.run(mail).await;
    let Connection { worker, orders, .. } = connection;
    match worker {
        Some(worker) => drop(orders.send(Order::Gone { worker, why }).await),
        None => tracing::debug!(target: "dispatcher", why, "a connection ended before its worker registered"),
    }
}

impl Connection {
    /// Until it is over; returns why.
    async fn run(&mut self, mut mail: mpsc::Receiver<ToWorker>) -> String {
        let mut letters = Vec::with_capacity(AT_ONCE);
        loop {
            let wake = self.session.wake_at();
            tokio::select! {
                // A worker that floods is not to keep its own messages from it.
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
                count = mail.recv_many(&mut letters, AT_ONCE) => {
                    if count == 0 {
                        return "it took no messages".into();
                    }
                    if let Err(why) = self.deliver(&mut letters).await {
                        return why;
                    }
                }
                frame = self.socket.next() => match self.hear(frame).await {
                    // The owner may have taken its time over it.
                    Ok(()) => self.session.heard(Instant::now()),
                    Err(why) => return why,
                },
            }
            // The owner has let go of it.
            if self.worker.is_some() && mail.sender_strong_count() < 2 {
                return "it took no messages".into();
            }
        }
    }

    async fn hear(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), String> {
        let heard = match frame {
            None => return Err("the connection ended".into()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Message::Close(frame))) => {
                return Err(frame.map_or("it closed".into(), |frame| format!("it closed: {}", frame.reason)));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                self.session.heard(Instant::now());
                return Ok(());
            }
            Some(Ok(Message::Binary(bytes))) => self.session.frame(Instant::now(), Encoding::Binary, &bytes)?,
            Some(Ok(Message::Text(text))) => self.session.frame(Instant::now(), Encoding::Json, text.as_bytes())?,
        };
        self.pass_on(heard).await
    }

    async fn pass_on(&mut self, heard: Heard) -> Result<(), String> {
        let order = match (heard, self.worker.clone()) {
            (Heard::Nothing, _) => return Ok(()),
            (Heard::Register(introduction), _) => {
                let (reply, id) = oneshot::channel();
                let (key, mailbox) = (self.key.clone(), self.mailbox.clone());
                self.order(Order::Register { introduction, key, mailbox, reply }).await?;
                self.worker = Some(id.await.map_err(|_| stopped())?);
                return Ok(());
            }
            (Heard::Ping { timestamp }, _) => Order::Ping { timestamp, mailbox: self.mailbox.clone() },
            (Heard::Said(said), Some(worker)) => Order::Said { worker, said },
            (Heard::Simulate(job), Some(worker)) => Order::Simulate { worker, job },
            // The session lets nobody speak before it has registered.
            (Heard::Said(_) | Heard::Simulate(_), None) => return Ok(()),
        };
        self.order(order).await
    }

    async fn order(&mut self, order: Order) -> Result<(), String> {
        self.orders.send(order).await.map_err(|_| stopped())
    }

    async fn deliver(&mut self, letters: &mut Vec<ToWorker>) -> Result<(), String> {
        let sending = async {
            for letter in letters.drain(..) {
                let frame = match self.session.encode(letter) {
                    Encoded::Binary(bytes) => Message::Binary(bytes.into()),
                    Encoded::Json(text) => Message::Text(text.into()),
                };
                self.socket.feed(frame).await?;
            }
            self.socket.flush().await
        };
        match timeout(SEND_WITHIN, sending).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it took nothing for {SEND_WITHIN:?}")),
        }
    }

    async fn send(&mut self, frame: Message) -> Result<(), String> {
        match timeout(SEND_WITHIN, self.socket.send(frame)).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it took nothing for {SEND_WITHIN:?}")),
        }
    }
}

fn stopped() -> String {
    "the dispatcher is being stopped".into()
}
