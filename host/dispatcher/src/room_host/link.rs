//! The link of a participant: the WebSocket for its signalling.
//!
//! Bounds: a message of the client has at most [`MESSAGE_BYTES_MAX`], and one without offer, answer or facts
//! [`SMALL_MESSAGE_BYTES_MAX`]. Of a client that sends more than [`Pace`] allows, less is read. [`FRAMES_MAX`] messages wait for the
//! client, and a send takes at most [`SEND_WITHIN`]. The room decides how long a silent client stays, by its datagrams.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_request::Message as Request;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::input::RoomInput;
use super::limits::{MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};
use super::member::LinkId;

/// Most messages that wait for a client. A client whose queue is full loses its link.
pub(super) const FRAMES_MAX: usize = 256;
/// The buffers of a link, in bytes. Most messages are smaller, and most links idle.
const BUFFER_BYTES: usize = 4 << 10;
/// Time limit for sending.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// Most messages that are sent before a flush.
const FLUSH_AFTER: usize = 32;

/// Messages of a client in a second, for as long as it likes. The busiest moment of a client is its join, with some twenty.
const MESSAGES_A_SECOND: u32 = 50;
/// Bytes of a client in a second.
const BYTES_A_SECOND: u32 = 1 << 20;
/// The time whose share of messages and bytes may come at once.
const BURST: Duration = Duration::from_secs(4);

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

/// How fast messages of a client are read. Pure.
struct Pace {
    /// When the messages up to now would have come at the allowed rate.
    even_at: Instant,
}

impl Pace {
    /// A message of this size was read.
    fn count(&mut self, bytes: usize, now: Instant) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let by_bytes = Duration::from_secs(bytes.into()) / BYTES_A_SECOND;
        let by_messages = Duration::from_secs(1) / MESSAGES_A_SECOND;
        self.even_at = self.even_at.max(now) + by_bytes.max(by_messages);
    }

    /// When the next message may be read, if that is later than now.
    fn wait_until(&self, now: Instant) -> Option<Instant> {
        let next = self.even_at.checked_sub(BURST)?;
        (next > now).then_some(next)
    }
}

async fn run(
    socket: &mut Socket,
    link: LinkId,
    frames: &mut mpsc::Receiver<Bytes>,
    inputs: &mpsc::Sender<RoomInput>,
) -> String {
    let mut waiting = Vec::new();
    let mut pace = Pace { even_at: Instant::now() };
    loop {
        let pause = pace.wait_until(Instant::now());
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
            () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
            message = socket.next(), if pause.is_none() => {
                let bytes = message.as_ref().map_or(0, |message| message.as_ref().map_or(0, Message::len));
                pace.count(bytes, Instant::now());
                let request = match message {
                    None => return "the connection ended".into(),
                    Some(Err(error)) => return error.to_string(),
                    Some(Ok(Message::Close(_))) => return "the client closed it".into(),
                    Some(Ok(Message::Binary(bytes))) => proto::SignalRequest::decode(bytes),
                    // Clients of this path send no text.
                    Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                };
                let Ok(request) = request else { return "the client sent no message of the protocol".into() };
                if bytes > SMALL_MESSAGE_BYTES_MAX && !may_be_large(&request) {
                    return format!("the client sent a message of {bytes} bytes that has to be small");
                }
                let input = RoomInput::Message { link, request: Box::new(request) };
                if inputs.send(input).await.is_err() {
                    return "the room is over".into();
                }
            }
        }
    }
}

/// Whether a message may have more than [`SMALL_MESSAGE_BYTES_MAX`].
const fn may_be_large(request: &proto::SignalRequest) -> bool {
    matches!(
        request.message,
        Some(Request::Offer(_) | Request::Answer(_) | Request::SyncState(_) | Request::UpdateMetadata(_))
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Send messages of this size for some time, each as soon as it may. Returns their number.
    fn sent(bytes: usize, time: Duration) -> u32 {
        let begin = Instant::now();
        let (mut now, mut count, mut pace) = (begin, 0, Pace { even_at: begin });
        loop {
            now = pace.wait_until(now).unwrap_or(now);
            if now >= begin + time {
                return count;
            }
            pace.count(bytes, now);
            count += 1;
        }
    }

    #[test]
    fn messages_and_bytes_have_a_rate_and_a_burst() {
        let seconds = Duration::from_secs;
        let burst = 50 * 4;
        assert!((burst..=burst + 1).contains(&sent(10, Duration::from_nanos(1))));
        assert!((burst + 500..=burst + 501).contains(&sent(10, seconds(10))));
        assert_eq!(sent(1 << 20, seconds(10)), 10 + 4);
        let (now, mut pace) = (Instant::now(), Pace { even_at: Instant::now() });
        (0..300).for_each(|_| pace.count(1, now));
        assert!(pace.wait_until(now).is_some() && pace.wait_until(now + seconds(3)).is_none());
    }

    #[test]
    fn only_offers_states_and_facts_are_large() {
        let request = |message| proto::SignalRequest { message: Some(message) };
        assert!(may_be_large(&request(Request::Offer(proto::SessionDescription::default()))));
        assert!(may_be_large(&request(Request::Answer(proto::SessionDescription::default()))));
        assert!(may_be_large(&request(Request::SyncState(proto::SyncState::default()))));
        assert!(!may_be_large(&request(Request::AddTrack(proto::AddTrackRequest::default()))));
        assert!(!may_be_large(&proto::SignalRequest { message: None }));
    }
}
