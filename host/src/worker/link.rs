//! The WebSocket connection of a worker to its server. A lost connection is made again, until too many attempts in a row failed.
//!
//! Bounds: [`SEND_WITHIN`] for the write of a frame, [`FRAME_BYTES_MAX`] for its size, [`CLOSE_WITHIN`] for the close handshake;
//! [`open`] has those of an attempt and of a received frame. A message that is too long is not sent. One that was received ends
//! the connection, which does not count as a failure of the server.

mod open;

use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use rand::RngExt;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message, protocol::CloseFrame};

use wasm_worker_protocol::frame::FRAME_BYTES_MAX;
use wasm_worker_protocol::reconnect::Reconnect;
use wasm_worker_protocol::report::Report;
use wasm_worker_protocol::status::Status;

use open::{ConnectError, Socket};
use wasm_worker_network::connect;
use wasm_worker_network::proxies::is_this_machine;

const SEND_WITHIN: Duration = Duration::from_secs(5);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The path at which a server has its workers.
const WORKERS: &str = "/agent";
/// Most messages that are sent before a flush.
const FLUSH_AFTER: usize = 64;
/// The lifetime that LiveKit's own workers ask for.
const TOKEN_TTL: Duration = Duration::from_secs(6 * 60 * 60);
/// The lifetime of a token for a server on this machine. Another user's program may have taken the port of one that ended.
const LOOPBACK_TOKEN_TTL: Duration = Duration::from_secs(60);

/// The address of a server, and the API key for it.
#[derive(Clone)]
pub(crate) struct Server {
    uri: Uri,
    key: String,
    /// No output shows it.
    secret: String,
}

/// An unusable server URL.
#[derive(Debug, thiserror::Error)]
#[error("the server's URL `{url}` is not usable: {why}")]
pub(crate) struct ServerError {
    url: String,
    why: String,
}

impl Server {
    /// Parse a URL of any of the four schemes that LiveKit uses.
    pub(crate) fn new(url: &str, key: String, secret: String) -> Result<Self, ServerError> {
        let failed = |why: &str| ServerError { url: url.to_owned(), why: why.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| failed("want ws://, wss://, http:// or https://"))?;
        let scheme = match scheme {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            _ => return Err(failed("want ws://, wss://, http:// or https://")),
        };
        let uri = format!("{scheme}://{}{WORKERS}", rest.trim_end_matches('/'));
        let uri: Uri = uri.parse().map_err(|error| failed(&format!("{error}")))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(failed("the host is missing"));
        }
        if uri.query().is_some() || rest.contains('#') {
            return Err(failed("want a URL without `?` and `#`"));
        }
        connect::server_of(&uri).map_err(|error| failed(&error.to_string()))?;
        Ok(Self { uri, key, secret })
    }

    /// The URL of the server without the path of workers.
    pub(crate) fn url(&self) -> String {
        let uri = self.uri.to_string();
        uri.strip_suffix(WORKERS).unwrap_or(&uri).to_owned()
    }

    /// The URL of the server's API.
    pub(crate) fn api_url(&self) -> String {
        // The scheme is `ws` or `wss`.
        self.url().replacen("ws", "http", 1)
    }

    /// A token with these grants.
    ///
    /// # Errors
    /// When the key and its secret make none.
    pub(crate) fn token(&self, ttl: Duration, grants: VideoGrants) -> Result<String, String> {
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_ttl(ttl).with_grants(grants);
        token.to_jwt().map_err(|error| error.to_string())
    }

    fn token_ttl(&self) -> Duration {
        if self.uri.host().is_some_and(is_this_machine) { LOOPBACK_TOKEN_TTL } else { TOKEN_TTL }
    }

    /// The request of a connection. Each one has a new token, because the last one may have expired.
    fn request(&self) -> Result<ClientRequestBuilder, String> {
        let grants = VideoGrants {
            agent: true,
            can_publish: Some(true),
            can_subscribe: Some(true),
            can_publish_data: Some(true),
            ..Default::default()
        };
        let token = self.token(self.token_ttl(), grants)?;
        Ok(ClientRequestBuilder::new(self.uri.clone()).with_header("Authorization", format!("Bearer {token}")))
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Socket, ConnectError>> + Send>>;

enum LinkState {
    /// The next attempt begins at this moment.
    Waiting {
        until: Instant,
    },
    Connecting(Connecting),
    Up(Box<Socket>),
    /// No attempt follows.
    Closed,
}

/// A change of the connection, or a message on it.
pub(crate) enum LinkEvent {
    Connected,
    Frame(Box<proto::ServerMessage>),
    /// The server sent a ping or a pong.
    Heartbeat,
    /// The connection is lost.
    Lost {
        /// The cause.
        why: String,
        /// The time to the next attempt.
        retry: Duration,
    },
    /// The connection is lost, and no attempt follows.
    GaveUp {
        /// The cause.
        why: String,
    },
}

/// The connection in all its states.
pub(crate) struct Link {
    server: Server,
    state: LinkState,
    reconnect: Reconnect,
    /// Whether this server ever registered the worker: if so, a refused key is not final.
    was_registered: bool,
    /// The time of the current registration: a long one resets the count of failures.
    registered_at: Option<Instant>,
    /// The number of messages that were sent and not flushed.
    unflushed: usize,
}

impl Link {
    pub(crate) fn new(server: Server, retries_max: usize) -> Self {
        let state = LinkState::Waiting { until: Instant::now() };
        let reconnect = Reconnect::new(retries_max);
        Self { server, state, reconnect, was_registered: false, registered_at: None, unflushed: 0 }
    }

    /// Note a registration, and return whether there was one before.
    pub(crate) fn registered(&mut self) -> bool {
        self.registered_at = Some(Instant::now());
        std::mem::replace(&mut self.was_registered, true)
    }

    /// Wait for the next event. The future may be dropped: no event is lost.
    pub(crate) async fn next_event(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                LinkState::Waiting { until } => {
                    sleep_until(*until).await;
                    self.state = LinkState::Connecting(Box::pin(open::connect(self.server.clone())));
                }
                LinkState::Connecting(connecting) => match connecting.await {
                    Ok(socket) => {
                        self.state = LinkState::Up(Box::new(socket));
                        return LinkEvent::Connected;
                    }
                    Err(ConnectError { why, unauthorized }) if unauthorized && !self.was_registered => {
                        self.state = LinkState::Closed;
                        return LinkEvent::GaveUp { why };
                    }
                    Err(ConnectError { why, .. }) => return self.lost(why),
                },
                LinkState::Up(socket) => match socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => match proto::ServerMessage::decode(bytes) {
                        Ok(message) => return LinkEvent::Frame(Box::new(message)),
                        Err(error) => return self.lost(format!("the server sent a malformed message: {error}")),
                    },
                    Some(Ok(Message::Text(_))) => {
                        return self.lost("the server sent text; want binary protobuf".into());
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return LinkEvent::Heartbeat,
                    Some(Ok(Message::Close(frame))) => {
                        let too_long = frame.as_ref().is_some_and(|frame| frame.code == CloseCode::Size);
                        let why = frame.map(|frame| format!(": {} {}", frame.code, frame.reason)).unwrap_or_default();
                        let why = format!("the server closed the connection{why}");
                        return if too_long { self.too_long(why) } else { self.lost(why) };
                    }
                    Some(Err(tungstenite::Error::Capacity(error))) => {
                        return self.too_long(format!("the server sent a message that is too long: {error}"));
                    }
                    Some(Err(error)) => return self.lost(error.to_string()),
                    None => return self.lost("the connection ended".into()),
                },
                LinkState::Closed => std::future::pending().await,
            }
        }
    }

    /// Whether messages can be sent.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up(_))
    }

    /// Flush the messages that were sent. A failure ends the connection.
    pub(crate) async fn flush(&mut self) -> Result<(), LinkEvent> {
        let LinkState::Up(socket) = &mut self.state else { return Ok(()) };
        if std::mem::take(&mut self.unflushed) == 0 {
            return Ok(());
        }
        let flushed = timeout(SEND_WITHIN, socket.flush()).await;
        self.sent(flushed)
    }

    /// Send a message, to be flushed. A failure ends the connection.
    pub(crate) async fn send(&mut self, message: proto::worker_message::Message) -> Result<(), LinkEvent> {
        let message = proto::WorkerMessage { message: Some(message) };
        self.send_frame(Message::Binary(message.encode_to_vec().into())).await
    }

    /// Send a report, to be flushed. A failure ends the connection.
    pub(crate) async fn report(&mut self, report: &Report) -> Result<(), LinkEvent> {
        self.send_frame(Message::Binary(report.frame().into())).await
    }

    /// Send the status of a full worker, to be flushed. A failure ends the connection.
    pub(crate) async fn status(&mut self, status: &Status) -> Result<(), LinkEvent> {
        self.send_frame(Message::Binary(status.frame().into())).await
    }

    /// Send a ping, to be flushed.
    pub(crate) async fn ping(&mut self) -> Result<(), LinkEvent> {
        self.send_frame(Message::Ping(tungstenite::Bytes::new())).await
    }

    async fn send_frame(&mut self, frame: Message) -> Result<(), LinkEvent> {
        let LinkState::Up(socket) = &mut self.state else { return Ok(()) };
        let bytes = frame.len();
        if bytes > FRAME_BYTES_MAX {
            // The server would close the connection. This is a bug: what the worker sends is bounded.
            tracing::error!(target: "host", bytes, "a message is too long for the server, and is not sent");
            return Ok(());
        }
        let fed = timeout(SEND_WITHIN, socket.feed(frame)).await;
        self.sent(fed)?;
        self.unflushed += 1;
        if self.unflushed < FLUSH_AFTER { Ok(()) } else { self.flush().await }
    }

    fn sent(&mut self, sent: Result<Result<(), tungstenite::Error>, Elapsed>) -> Result<(), LinkEvent> {
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost(format!("the server read nothing for {SEND_WITHIN:?}"))),
        }
    }

    /// Drop the connection because of the length of a message, and plan the next attempt.
    fn too_long(&mut self, why: String) -> LinkEvent {
        self.registered_at = None;
        let retry = self.reconnect.too_long(rand::rng().random());
        self.state = LinkState::Waiting { until: Instant::now() + retry };
        LinkEvent::Lost { why, retry }
    }

    /// Drop the connection, and plan the next attempt.
    pub(crate) fn lost(&mut self, why: String) -> LinkEvent {
        let held = self.registered_at.take().map_or(Duration::ZERO, |since| since.elapsed());
        match self.reconnect.failed(held, rand::rng().random()) {
            Some(retry) => {
                self.state = LinkState::Waiting { until: Instant::now() + retry };
                LinkEvent::Lost { why, retry }
            }
            None => {
                self.state = LinkState::Closed;
                LinkEvent::GaveUp { why }
            }
        }
    }

    /// Close the connection. Messages that were sent before are delivered first.
    pub(crate) async fn close(self) {
        let LinkState::Up(mut socket) = self.state else { return };
        let frame = CloseFrame { code: CloseCode::Normal, reason: "the worker stops".into() };
        let closing = async {
            socket.as_mut().close(Some(frame)).await?;
            while let Some(frame) = socket.next().await {
                frame?;
            }
            Ok::<_, tungstenite::Error>(())
        };
        drop(timeout(CLOSE_WITHIN, closing).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls_of_all_four_schemes_are_accepted() {
        let uri = |url: &str| Server::new(url, String::new(), String::new()).map(|server| server.uri.to_string());
        assert_eq!(uri("http://localhost:7880").unwrap(), "ws://localhost:7880/agent");
        assert_eq!(uri("wss://a.livekit.cloud/").unwrap(), "wss://a.livekit.cloud/agent");
        assert_eq!(uri("https://host/path").unwrap(), "wss://host/path/agent");
        let server = Server::new("https://host/path/", String::new(), String::new()).unwrap();
        assert_eq!(server.url(), "wss://host/path");
        for bad in
            ["localhost:7880", "ftp://x", "ws://", "ws:///x", "ws://a b", "ws://a:99999", "ws://a/?x=1", "ws://a/#x"]
        {
            assert!(uri(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
