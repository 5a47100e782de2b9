//! The connection to the server: the one user of WebSockets here. It is made again whenever it is gone, until there have been
//! too many failures in a row.
//!
//! Bounds: [`CONNECT_WITHIN`] for a connection, [`SEND_WITHIN`] for a frame to be taken, [`FRAME_BYTES_MAX`] a frame.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use wasm_worker_core::text::clip;
use wasm_worker_protocol::reconnect::Reconnect;
use wasm_worker_protocol::report::Report;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const SEND_WITHIN: Duration = Duration::from_secs(5);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// As LiveKit's server has it.
const FRAME_BYTES_MAX: usize = 2 << 20;
/// As LiveKit's own workers ask for.
const TOKEN_TTL: Duration = Duration::from_secs(6 * 60 * 60);

/// Where the server is, and what it knows the worker by. The secret is shown to nobody.
#[derive(Clone)]
pub(crate) struct Server {
    uri: Uri,
    key: String,
    secret: String,
}

/// A server that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("the server's URL `{url}` is not usable: {why}")]
pub(crate) struct ServerError {
    url: String,
    why: String,
}

impl Server {
    /// From LiveKit's own URL, of any of the four schemes.
    pub(crate) fn new(url: &str, key: String, secret: String) -> Result<Self, ServerError> {
        let failed = |why: &str| ServerError { url: url.to_owned(), why: why.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| failed("want ws://, wss://, http:// or https://"))?;
        let scheme = match scheme {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            _ => return Err(failed("want ws://, wss://, http:// or https://")),
        };
        let uri = format!("{scheme}://{}/agent", rest.trim_end_matches('/'));
        let uri: Uri = uri.parse().map_err(|error| failed(&format!("{error}")))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(failed("it names no host"));
        }
        Ok(Self { uri, key, secret })
    }

    /// A new token each time: the last one may have expired.
    fn request(&self) -> Result<ClientRequestBuilder, String> {
        let grants = VideoGrants {
            agent: true,
            can_publish: Some(true),
            can_subscribe: Some(true),
            can_publish_data: Some(true),
            ..Default::default()
        };
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_ttl(TOKEN_TTL).with_grants(grants);
        let token = token.to_jwt().map_err(|error| error.to_string())?;
        Ok(ClientRequestBuilder::new(self.uri.clone()).with_header("Authorization", format!("Bearer {token}")))
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Connecting = Pin<Box<dyn Future<Output = Result<Socket, Refused>> + Send>>;

/// Why there is no connection.
struct Refused {
    why: String,
    /// The server does not know the key, or not this secret.
    token: bool,
}

enum State {
    Waiting {
        until: Instant,
    },
    Connecting(Connecting),
    Up(Box<Socket>),
    /// There will be none.
    Over,
}

/// What the connection has to say.
#[expect(clippy::large_enum_variant, reason = "a few at a time, each taken apart at once")]
pub(crate) enum News {
    Connected,
    Frame(proto::ServerMessage),
    /// A ping, or an answer to ours.
    Heard,
    /// It is gone, and tried again after this time.
    Lost {
        why: String,
        retry: Duration,
    },
    /// It is gone for good.
    GaveUp {
        why: String,
    },
}

/// The connection, whether it is there or not.
pub(crate) struct Link {
    server: Server,
    state: State,
    reconnect: Reconnect,
    /// Whether this server has ever taken the worker.
    known: bool,
    /// Since when it has it.
    since: Option<Instant>,
}

impl Link {
    pub(crate) fn new(server: Server, retries_max: usize) -> Self {
        let state = State::Waiting { until: Instant::now() };
        Self { server, state, reconnect: Reconnect::new(retries_max), known: false, since: None }
    }

    /// The server has taken the worker; whether it is not for the first time.
    pub(crate) fn registered(&mut self) -> bool {
        self.since = Some(Instant::now());
        std::mem::replace(&mut self.known, true)
    }

    /// Wait for news. Nothing is lost when the wait is given up.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            match &mut self.state {
                State::Waiting { until } => {
                    sleep_until(*until).await;
                    self.state = State::Connecting(Box::pin(connect(self.server.clone())));
                }
                State::Connecting(connecting) => match connecting.await {
                    Ok(socket) => {
                        self.state = State::Up(Box::new(socket));
                        return News::Connected;
                    }
                    Err(Refused { why, token }) if token && !self.known => {
                        self.state = State::Over;
                        return News::GaveUp { why };
                    }
                    Err(Refused { why, .. }) => return self.lost(why),
                },
                State::Up(socket) => match socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => match proto::ServerMessage::decode(bytes) {
                        Ok(message) => return News::Frame(message),
                        Err(error) => return self.lost(format!("the server sent a frame that is no message: {error}")),
                    },
                    Some(Ok(Message::Text(_))) => {
                        return self.lost("the server sent text; want binary protobuf".into());
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return News::Heard,
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map(|frame| format!(": {} {}", frame.code, frame.reason)).unwrap_or_default();
                        return self.lost(format!("the server closed the connection{why}"));
                    }
                    Some(Err(error)) => return self.lost(error.to_string()),
                    None => return self.lost("the connection ended".into()),
                },
                State::Over => std::future::pending().await,
            }
        }
    }

    /// Whether there is a connection to send on.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Send a message. A failure is news.
    pub(crate) async fn send(&mut self, message: proto::worker_message::Message) -> Result<(), News> {
        let message = proto::WorkerMessage { message: Some(message) };
        self.send_frame(Message::Binary(message.encode_to_vec().into())).await
    }

    /// Send a report. A failure is news.
    pub(crate) async fn report(&mut self, report: &Report) -> Result<(), News> {
        self.send_frame(Message::Binary(report.frame().into())).await
    }

    /// Ask the server for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<(), News> {
        self.send_frame(Message::Ping(tungstenite::Bytes::new())).await
    }

    async fn send_frame(&mut self, frame: Message) -> Result<(), News> {
        let State::Up(socket) = &mut self.state else { return Ok(()) };
        match timeout(SEND_WITHIN, socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost(format!("the server took nothing for {SEND_WITHIN:?}"))),
        }
    }

    /// Give the connection up, for a reason of ours.
    pub(crate) fn lost(&mut self, why: String) -> News {
        use rand::RngExt;
        let held = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        match self.reconnect.failed(held, rand::rng().random()) {
            Some(retry) => {
                self.state = State::Waiting { until: Instant::now() + retry };
                News::Lost { why, retry }
            }
            None => {
                self.state = State::Over;
                News::GaveUp { why }
            }
        }
    }

    /// Say goodbye: what was sent before is delivered first.
    pub(crate) async fn close(self) {
        let State::Up(mut socket) = self.state else { return };
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "the worker was stopped".into() };
        let closing = async {
            socket.as_mut().close(Some(goodbye)).await?;
            while let Some(frame) = socket.next().await {
                frame?;
            }
            Ok::<_, tungstenite::Error>(())
        };
        drop(timeout(CLOSE_WITHIN, closing).await);
    }
}

async fn connect(server: Server) -> Result<Socket, Refused> {
    let failed = |why: String| Refused { why, token: false };
    let request = server.request().map_err(failed)?;
    let config =
        WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX)).max_frame_size(Some(FRAME_BYTES_MAX));
    let connecting = connect_async_with_config(request, Some(config), true);
    match timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) if response.status() == StatusCode::UNAUTHORIZED => Err(Refused {
            why: format!("the server refused the key or its secret: {}", body_of(&response)),
            token: true,
        }),
        Ok(Err(tungstenite::Error::Http(response))) => {
            Err(failed(format!("the server answered {}: {}", response.status(), body_of(&response))))
        }
        Ok(Err(error)) => Err(failed(format!("{}: {error}", server.uri))),
        Err(_) => Err(failed(format!("{}: no connection within {CONNECT_WITHIN:?}", server.uri))),
    }
}

fn body_of(response: &tungstenite::http::Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    clip(&String::from_utf8_lossy(body.get(..200).unwrap_or(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_scheme_of_livekit_s_is_taken() {
        let uri = |url: &str| Server::new(url, String::new(), String::new()).map(|server| server.uri.to_string());
        assert_eq!(uri("http://localhost:7880").unwrap(), "ws://localhost:7880/agent");
        assert_eq!(uri("wss://a.livekit.cloud/").unwrap(), "wss://a.livekit.cloud/agent");
        assert_eq!(uri("https://host/path").unwrap(), "wss://host/path/agent");
        for bad in ["localhost:7880", "ftp://x", "ws://", "ws:///x", "ws://a b"] {
            assert!(uri(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
