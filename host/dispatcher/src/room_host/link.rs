//! The link of a participant: the WebSocket for its signalling.
//!
//! Bounds: a message of the client has at most [`MESSAGE_BYTES_MAX`]; [`FRAMES_MAX`] messages wait for the client, and a send takes at
//! most [`SEND_WITHIN`]. The room decides how long a silent client stays, by its datagrams.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use livekit_protocol as proto;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::input::RoomInput;
use super::limits::MESSAGE_BYTES_MAX;
use super::member::LinkId;

/// Most messages that wait for a client. A client whose queue is full loses its link.
pub(super) const FRAMES_MAX: usize = 256;
/// The buffers of a link, in bytes. Most messages are smaller, and most links idle.
const BUFFER_BYTES: usize = 4 << 10;
/// Time limit for sending.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// Most messages that are sent before a flush.
const FLUSH_AFTER: usize = 32;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Serve a link until it ends, and tell the room.
pub(super) async fn serve(
    upgraded: Upgraded,
    link: LinkId,
    mut frames: mpsc::Receiver<Bytes>,
    inputs: mpsc::Sender<RoomInput>,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let why = run(&mut socket, link, &mut frames, &inputs).await;
    tracing::debug!(target: "dispatcher", ?link, why, "a link ended");
    // The client may be gone. Nobody waits for this link any more.
    drop(timeout(SEND_WITHIN, socket.close(None)).await);
    drop(inputs.send(RoomInput::LinkLost { link }).await);
}

async fn run(
    socket: &mut Socket,
    link: LinkId,
    frames: &mut mpsc::Receiver<Bytes>,
    inputs: &mpsc::Sender<RoomInput>,
) -> String {
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            // Messages of the room come first, so that a flood of the client does not delay the end of its link.
            biased;
            count = frames.recv_many(&mut waiting, FLUSH_AFTER) => {
                if count == 0 {
                    return "the room closed it".into();
                }
                if let Err(why) = send(socket, &mut waiting).await {
                    return why;
                }
            }
            message = socket.next() => {
                let request = match message {
                    None => return "the connection ended".into(),
                    Some(Err(error)) => return error.to_string(),
                    Some(Ok(Message::Close(_))) => return "the client closed it".into(),
                    Some(Ok(Message::Binary(bytes))) => proto::SignalRequest::decode(bytes),
                    // Clients of this path send no text.
                    Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                };
                let Ok(request) = request else { return "the client sent no message of the protocol".into() };
                let input = RoomInput::Message { link, request: Box::new(request) };
                if inputs.send(input).await.is_err() {
                    return "the room is over".into();
                }
            }
        }
    }
}

async fn send(socket: &mut Socket, waiting: &mut Vec<Bytes>) -> Result<(), String> {
    let sending = async {
        for frame in waiting.drain(..) {
            socket.feed(Message::Binary(frame)).await?;
        }
        socket.flush().await
    };
    match timeout(SEND_WITHIN, sending).await {
        Ok(sent) => sent.map_err(|error: Error| error.to_string()),
        Err(_) => Err(format!("the client accepted no data for {SEND_WITHIN:?}")),
    }
}
