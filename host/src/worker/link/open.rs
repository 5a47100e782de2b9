//! The making of a connection to the server, and why one cannot be made.
//!
//! Bounds: [`CONNECT_WITHIN`] for an attempt, [`SERVER_FRAME_BYTES_MAX`] for a frame of the server.

use std::time::Duration;

use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::http::{StatusCode, header::LOCATION};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use wasm_worker_core::text::clip;
use wasm_worker_protocol::frame::SERVER_FRAME_BYTES_MAX;

use super::Server;
use wasm_worker_network::connect::{self, Stream};

pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

pub(super) type Socket = WebSocketStream<Stream>;

/// A failed attempt to connect.
pub(super) struct ConnectError {
    pub(super) why: String,
    /// Whether the server refused the key or its secret.
    pub(super) unauthorized: bool,
}

/// Connect to the server, and open the WebSocket.
pub(super) async fn connect(server: Server) -> Result<Socket, ConnectError> {
    match timeout(CONNECT_WITHIN, open(&server)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(ConnectError { why, unauthorized })) => {
            Err(ConnectError { why: format!("{}: {why}", server.uri), unauthorized })
        }
        Err(_) => Err(ConnectError {
            why: format!("{}: no connection within {CONNECT_WITHIN:?}; check the host and the port", server.uri),
            unauthorized: false,
        }),
    }
}

async fn open(server: &Server) -> Result<Socket, ConnectError> {
    let failed = |why: String| ConnectError { why, unauthorized: false };
    let request = server.request().map_err(failed)?;
    let stream = connect::connect(&server.uri, CONNECT_WITHIN).await.map_err(|error| failed(error.to_string()))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(SERVER_FRAME_BYTES_MAX))
        .max_frame_size(Some(SERVER_FRAME_BYTES_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(handshake_error(error)),
    }
}

/// Why a server that can be reached opens no WebSocket.
fn handshake_error(error: tungstenite::Error) -> ConnectError {
    use tungstenite::Error;
    let unauthorized = matches!(&error, Error::Http(answer) if answer.status() == StatusCode::UNAUTHORIZED);
    let why = match error {
        Error::Http(answer) => refusal(&answer),
        Error::Protocol(ProtocolError::HandshakeIncomplete | ProtocolError::HttparseError(_)) | Error::Io(_) => {
            "the server does not answer with HTTP; if the port expects TLS, use a URL with `wss://`".into()
        }
        // The second is what the crate calls more bytes, or smaller parts, than it reads of a head.
        Error::Capacity(CapacityError::TooManyHeaders) | Error::AttackAttempt => {
            format!("the head of the server's answer is too long; {WANTED}")
        }
        Error::Protocol(error) => format!("the server opens no WebSocket: {error}; {WANTED}"),
        error => error.to_string(),
    };
    ConnectError { why, unauthorized }
}

const WANTED: &str = "want the URL of a LiveKit server, or of `wasm-worker serve`";

/// A server's answer that is no WebSocket, in one line.
fn refusal(answer: &tungstenite::http::Response<Option<Vec<u8>>>) -> String {
    let (status, body) = (answer.status(), body_of(answer));
    let location = answer.headers().get(LOCATION).map(|place| clip(&String::from_utf8_lossy(place.as_bytes())));
    match (status, location) {
        (StatusCode::UNAUTHORIZED, _) => format!("the server refused the key or its secret: {body}"),
        (status, Some(place)) if status.is_redirection() => {
            format!("the server answered {status} and redirects to `{place}`; want the URL that it leads to")
        }
        (StatusCode::NOT_FOUND, _) => format!("the server answered {status}: nothing is at this path; {WANTED}"),
        (status, _) if status.is_server_error() => format!("the server answered {status}: {body}"),
        (status, _) => format!("the server answered {status} and opens no WebSocket; {WANTED}: {body}"),
    }
}

fn body_of(response: &tungstenite::http::Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    clip(&String::from_utf8_lossy(body.get(..200).unwrap_or(body)))
}
