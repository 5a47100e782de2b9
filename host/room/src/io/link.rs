//! The WebSocket to the server.
//!
//! Bounds: [`MESSAGE_BYTES_MAX`] for a message of the server, [`UNSENT_BYTES_MAX`] that wait to be written, [`CLOSE_WITHIN`] for
//! the rest of them once the link is given up. The session has the time limits of dialling and of silence.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes, ClientRequestBuilder, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Connect, Io};
use crate::signal::{LinkError, LinkRequest};

/// Largest message that is read, in bytes: the list of 2,000 participants with a kilobyte of attributes each.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Most bytes that wait to be written. LiveKit's messages to the server are small.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Buffers of a socket; the default of 128 KiB is for few and busy ones.
const BUFFER_BYTES: usize = 4 << 10;
/// Time for the last messages and the close handshake.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Most bytes of an answer by HTTP that are told.
const BODY_BYTES_MAX: usize = 200;

type Socket = WebSocketStream<Box<dyn Io>>;
type Dialling = Pin<Box<dyn Future<Output = Result<Socket, LinkError>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What happens on a link.
#[derive(Debug)]
pub(super) enum LinkEvent {
    Opened,
    Failed(LinkError),
    Message(Bytes),
    Lost { why: String },
}

/// The link of a room, or none.
#[derive(Default)]
pub(super) struct Link {
    state: LinkState,
    /// Messages that wait to be written, and their bytes.
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// The link before this one, until its last messages are written.
    closing: Option<Closing>,
    /// Bytes of all messages.
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

#[derive(Default)]
enum LinkState {
    #[default]
    None,
    Dialling(Dialling),
    Open(Box<Socket>),
}

impl Link {
    /// Open a link, in the place of any other.
    pub(super) fn dial(&mut self, request: LinkRequest, connector: &dyn Connect) {
        self.hang_up();
        self.state = match request.url.parse::<tungstenite::http::Uri>() {
            Ok(uri) => {
                let connecting = connector.connect(&uri);
                LinkState::Dialling(Box::pin(open(uri, request, connecting)))
            }
            Err(error) => {
                let why = format!("the server's URL is not usable: {error}");
                LinkState::Dialling(Box::pin(std::future::ready(Err(LinkError::Unreachable { why }))))
            }
        };
    }

    /// Send a message. Without a link it is dropped: the session sends what matters again.
    pub(super) fn send(&mut self, message: Vec<u8>) {
        if matches!(self.state, LinkState::Open(_)) {
            self.unsent_bytes += message.len();
            self.unsent.push_back(message.into());
        }
    }

    /// Give up the link, after the messages that wait.
    pub(super) fn hang_up(&mut self) {
        let unsent = std::mem::take(&mut self.unsent);
        self.unsent_bytes = 0;
        if let LinkState::Open(socket) = std::mem::take(&mut self.state) {
            self.closing = Some(Box::pin(close(socket, unsent)));
        }
    }

    /// Wait for the last messages of a link that was given up.
    pub(super) async fn closed(&mut self) {
        if let Some(closing) = self.closing.take() {
            closing.await;
        }
    }

    /// What happens next; never without a link. Nothing is lost where this is dropped.
    pub(super) async fn next(&mut self) -> LinkEvent {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = None;
        }
        let event = match &mut self.state {
            LinkState::None => return Poll::Pending,
            LinkState::Dialling(dialling) => match ready!(dialling.as_mut().poll(cx)) {
                Ok(socket) => {
                    self.state = LinkState::Open(Box::new(socket));
                    return Poll::Ready(LinkEvent::Opened);
                }
                Err(error) => LinkEvent::Failed(error),
            },
            LinkState::Open(_) => match ready!(self.poll_open(cx)) {
                Ok(message) => return Poll::Ready(LinkEvent::Message(message)),
                Err(why) => LinkEvent::Lost { why },
            },
        };
        self.state = LinkState::None;
        self.unsent.clear();
        self.unsent_bytes = 0;
        Poll::Ready(event)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, String>> {
        let LinkState::Open(socket) = &mut self.state else { return Poll::Pending };
        let mut socket = Pin::new(socket.as_mut());
        while !self.unsent.is_empty() && socket.as_mut().poll_ready(cx).map_err(|error| error.to_string())?.is_ready() {
            let Some(message) = self.unsent.pop_front() else { break };
            self.unsent_bytes = self.unsent_bytes.saturating_sub(message.len());
            self.bytes_sent += message.len() as u64;
            socket.as_mut().start_send(Message::Binary(message)).map_err(|error| error.to_string())?;
        }
        if self.unsent_bytes > UNSENT_BYTES_MAX {
            return Poll::Ready(Err("the server does not read".into()));
        }
        // Whether it is flushed does not matter for what is read.
        if let Poll::Ready(Err(error)) = socket.as_mut().poll_flush(cx) {
            return Poll::Ready(Err(error.to_string()));
        }
        loop {
            match ready!(socket.as_mut().poll_next(cx)) {
                Some(Ok(Message::Binary(message))) => {
                    self.bytes_received += message.len() as u64;
                    return Poll::Ready(Ok(message));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Err("the server closed the link".into())),
                Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.to_string())),
            }
        }
    }
}

async fn open(
    uri: tungstenite::http::Uri,
    request: LinkRequest,
    connecting: super::Connecting,
) -> Result<Socket, LinkError> {
    let stream = connecting.await.map_err(|why| LinkError::Unreachable { why })?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(UNSENT_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let authorization = format!("Bearer {}", request.token.0);
    let request = ClientRequestBuilder::new(uri).with_header("Authorization", authorization);
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body.get(..BODY_BYTES_MAX).unwrap_or(body)).trim().to_owned();
            Err(LinkError::Status { status: answer.status().as_u16(), body })
        }
        Err(error) => Err(LinkError::Unreachable { why: error.to_string() }),
    }
}

async fn close(mut socket: Box<Socket>, unsent: VecDeque<Bytes>) {
    let closing = async {
        for message in unsent {
            socket.feed(Message::Binary(message)).await?;
        }
        SinkExt::close(socket.as_mut()).await
    };
    // The server may be gone, or slow. Nobody waits for this link any more.
    drop(timeout(CLOSE_WITHIN, closing).await);
}
