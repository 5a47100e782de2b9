//! Frames both ways, on one connection.
//!
//! What the agent sends goes out as fast as the server reads. What the server sends is read only while the agent has room for it; pings
//! are answered along the way.
//!
//! Bounds: a message of the server, the buffers of the socket, the silence of the server (three pings), and the time for a close.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink as _, Stream as _};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use crate::connect::Io;
use crate::outbox::{End, Next, Outbox, Part};
use crate::settings::NetworkLimits;

/// Buffers of a socket, in bytes; the default of 128 KiB is for few and busy ones.
const BUFFER_BYTES: usize = 8 << 10;
/// Most bytes that wait in the socket itself.
const WRITE_BYTES_MAX: usize = 8 << 20;
/// Pings without anything from the server, after which it is gone.
const PINGS_MAX: u32 = 3;
/// Longest reason of a close, in bytes (RFC 6455, section 5.5).
const REASON_BYTES_MAX: usize = 123;

/// What happens on a socket.
#[derive(Debug)]
pub(crate) enum WireEvent {
    Text(Utf8Bytes),
    Bytes(Bytes),
    /// A message of this size went out, and whether the agent is to be told that it may write on.
    Sent {
        bytes: usize,
        is_writable: bool,
    },
    /// The socket is over.
    Over {
        code: u16,
        reason: String,
    },
}

/// One socket that is open.
pub(crate) struct Wire {
    socket: WebSocketStream<Box<dyn Io>>,
    outbox: Arc<Outbox>,
    state: State,
    ping_every: Duration,
    close_within: Duration,
    message_bytes_max: usize,
    timer: Pin<Box<Sleep>>,
    /// Pings since the server sent something.
    pings: u32,
}

enum State {
    Open,
    /// A close went out; these are its code and reason.
    Closing {
        code: u16,
        reason: String,
    },
    /// What comes last is sent, and then this is told.
    Ending {
        code: u16,
        reason: String,
    },
}

impl Wire {
    pub(crate) async fn new(stream: Box<dyn Io>, outbox: Arc<Outbox>, limits: &NetworkLimits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_message_size(Some(limits.message_bytes_max))
            .max_frame_size(Some(limits.message_bytes_max));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
        let (ping_every, close_within) = (limits.ping_every, limits.close_within);
        let timer = Box::pin(sleep_until(Instant::now() + ping_every));
        let message_bytes_max = limits.message_bytes_max;
        Self { socket, outbox, state: State::Open, ping_every, close_within, message_bytes_max, timer, pings: 0 }
    }

    /// What happens next. `poll_room`: whether the agent has room for a message.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        poll_room: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<WireEvent> {
        match self.poll_send(context) {
            Ok(Some(sent)) => return Poll::Ready(sent),
            Ok(None) => {}
            Err(error) => return Poll::Ready(self.lost(&error)),
        }
        if let State::Ending { code, reason } = &mut self.state {
            let over = WireEvent::Over { code: *code, reason: std::mem::take(reason) };
            // The close is on its way, or nobody reads it.
            let is_sent = !matches!(Pin::new(&mut self.socket).poll_flush(context), Poll::Pending);
            let is_late = self.timer.as_mut().poll(context).is_ready();
            if !is_sent
                && !is_late
                && let WireEvent::Over { reason: kept, .. } = over
            {
                *reason = kept;
                return Poll::Pending;
            }
            return Poll::Ready(over);
        }
        // While the agent has enough, the server waits, and is not asked for signs of life.
        if poll_room(context).is_pending() {
            if matches!(self.state, State::Open) {
                self.pings = 0;
                self.timer.as_mut().reset(Instant::now() + self.ping_every);
                return Poll::Pending;
            }
            return self.poll_timer(context);
        }
        if let Poll::Ready(event) = self.poll_receive(context) {
            return Poll::Ready(event);
        }
        self.poll_timer(context)
    }

    /// Send what waits, as far as the server reads.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<Option<WireEvent>, Error> {
        let mut socket = Pin::new(&mut self.socket);
        if matches!(self.state, State::Open)
            && socket.as_mut().poll_ready(context)?.is_ready()
            && let Poll::Ready(sent) = self.outbox.poll_take(context)
        {
            let (message, bytes) = match sent.next {
                Next::Part(Part::Text(text)) => (Message::text(&*text), text.len()),
                Next::Part(Part::Binary(bytes) | Part::Body(bytes)) => {
                    let length = bytes.len();
                    (Message::binary(bytes), length)
                }
                Next::End(end) => {
                    let (code, reason) = match end {
                        End::Close { code, reason } => (code, reason),
                        End::Body => (CloseCode::Normal.into(), String::new()),
                    };
                    self.close(code, reason)?;
                    return Ok(None);
                }
                Next::Closed => return Ok(None),
            };
            socket.start_send(message)?;
            return Ok(Some(WireEvent::Sent { bytes, is_writable: sent.is_writable }));
        }
        // Whether it is flushed does not matter for what is read.
        if let Poll::Ready(Err(error)) = socket.poll_flush(context) {
            return Err(error);
        }
        Ok(None)
    }

    fn close(&mut self, code: u16, reason: String) -> Result<(), Error> {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        let reason = reason.get(..end).unwrap_or_default().to_owned();
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.clone().into() };
        Pin::new(&mut self.socket).start_send(Message::Close(Some(frame)))?;
        self.timer.as_mut().reset(Instant::now() + self.close_within);
        self.state = State::Closing { code, reason };
        Ok(())
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<WireEvent> {
        loop {
            let Poll::Ready(received) = Pin::new(&mut self.socket).poll_next(context) else { return Poll::Pending };
            self.pings = 0;
            if matches!(self.state, State::Open) {
                self.timer.as_mut().reset(Instant::now() + self.ping_every);
            }
            match received {
                Some(Ok(Message::Text(text))) => return Poll::Ready(WireEvent::Text(text)),
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(WireEvent::Bytes(bytes)),
                Some(Ok(Message::Close(frame))) => {
                    // The answer is on its way by the next flush.
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    self.end(code, reason);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(self.lost(&error)),
                None => return Poll::Ready(self.lost(&Error::ConnectionClosed)),
            }
        }
    }

    fn end(&mut self, code: u16, reason: String) {
        self.timer.as_mut().reset(Instant::now() + self.close_within);
        self.state = State::Ending { code, reason };
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<WireEvent> {
        while self.timer.as_mut().poll(context).is_ready() {
            if let State::Closing { .. } = self.state {
                let reason = "the server does not answer the close".to_owned();
                return Poll::Ready(WireEvent::Over { code: 1006, reason });
            }
            if self.pings >= PINGS_MAX {
                let silence = self.ping_every * (PINGS_MAX + 1);
                return Poll::Ready(WireEvent::Over {
                    code: 1006,
                    reason: format!("the server was silent for {silence:?}"),
                });
            }
            self.pings += 1;
            self.timer.as_mut().reset(Instant::now() + self.ping_every);
            let mut socket = Pin::new(&mut self.socket);
            // A ping behind much else would tell nothing; what waits has its own time limit.
            if let Poll::Ready(Ok(())) = socket.as_mut().poll_ready(context) {
                drop(socket.as_mut().start_send(Message::Ping(Bytes::new())));
            }
            drop(socket.poll_flush(context));
        }
        Poll::Pending
    }

    /// The end of a socket that is lost, or whose server breaks the rules.
    fn lost(&mut self, error: &Error) -> WireEvent {
        let (code, reason) = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                (1009, format!("the server sent a message of more than {} bytes", self.message_bytes_max))
            }
            Error::Utf8(_) => (1007, "the server sent a text that is none".to_owned()),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => (1006, "the server broke off".to_owned()),
            Error::Protocol(_) => (1002, format!("the server broke the rules of WebSocket: {error}")),
            Error::ConnectionClosed | Error::AlreadyClosed => match std::mem::replace(&mut self.state, State::Open) {
                State::Closing { code, reason } | State::Ending { code, reason } => (code, reason),
                State::Open => (1006, "the server broke off".to_owned()),
            },
            _ => (1006, format!("the connection is lost: {error}")),
        };
        if code != 1006 && matches!(self.state, State::Open) {
            // The server is told why, if it still reads.
            let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
            if Pin::new(&mut self.socket).start_send(Message::Close(Some(frame))).is_ok() {
                drop(Pin::new(&mut self.socket).poll_flush(&mut Context::from_waker(std::task::Waker::noop())));
            }
        }
        WireEvent::Over { code, reason }
    }
}
