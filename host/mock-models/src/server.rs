//! The stand-in as an HTTP server: sockets, time and keys around [`exchange`](crate::exchange).
//!
//! Bounds: those of `connections`; a body of [`REQUEST_BYTES_MAX`] that arrives within [`REQUEST_WITHIN`]; an answer within
//! [`ANSWER_WITHIN`], after which the connection breaks.

mod connections;

mod body;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response as HttpResponse};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until, timeout};
use wasm_worker_core::secret::Secret;

use crate::answer::{Act, Frames};
use crate::error::ApiError;
use crate::exchange::{HeadTime, Response, respond};
use crate::script::{Counts, Script};

/// Largest body of a request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Longest time in which a body arrives.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// Longest time of an answer. A model that hangs breaks the connection then. It is the time-out of the vendor's SDKs.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// The prefix of a header with a key. The case of its letters has no effect.
const BEARER: &str = "Bearer ";

/// What an operator can set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The key that clients need. Without one, each client is answered, with any key and with none.
    pub key: Option<Secret>,
}

/// A response that is never sent: the connection breaks instead.
#[derive(Clone, Copy, Debug)]
struct Broken;

struct Server {
    script: Script,
    options: Options,
    counts: Mutex<Counts>,
}

/// Answer clients by the script. It ends, together with its connections, when the future is dropped.
pub async fn serve(listener: TcpListener, script: Script, options: Options) -> Infallible {
    let server = Arc::new(Server { script, options, counts: Mutex::default() });
    connections::serve(listener, Router::new().fallback(handle).with_state(server)).await
}

async fn handle(State(server): State<Arc<Server>>, request: HttpRequest) -> HttpResponse {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let read = async {
        server.allow(&head.headers)?;
        read(body).await
    };
    let response = match read.await {
        Ok(body) => {
            let mut counts = server.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let (method, path) = (head.method.as_str(), head.uri.path());
            respond(&server.script, &mut counts, method, path, &body, seconds_since_1970())
        }
        Err(error) => {
            tracing::info!(target: "mock-models", code = error.code(), "a request is refused");
            Some(Response::error(&error))
        }
    };
    match response {
        Some(response) => sent(response, began).await,
        None => {
            sleep_until(began + ANSWER_WITHIN).await;
            (StatusCode::GATEWAY_TIMEOUT, axum::Extension(Broken)).into_response()
        }
    }
}

impl Server {
    /// Whether a request may be answered.
    fn allow(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(Secret(key)) = &self.options.key else { return Ok(()) };
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match header.split_at_checked(BEARER.len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) && are_same(token.trim(), key) => Ok(()),
            _ => Err(ApiError::of_status(401)),
        }
    }
}

/// Compare in a time that depends on the lengths alone.
fn are_same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |differences, (one, other)| differences | (one ^ other));
    one.len() == other.len() && differences == 0
}

async fn read(body: Body) -> Result<axum::body::Bytes, ApiError> {
    let too_large = || ApiError::too_large(REQUEST_BYTES_MAX);
    if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let read = timeout(REQUEST_WITHIN, axum::body::to_bytes(body, REQUEST_BYTES_MAX)).await;
    // A body that breaks off has nobody who reads the error.
    read.map_err(|_| ApiError::of_status(408))?.map_err(|_| too_large())
}

async fn sent(response: Response, began: Instant) -> HttpResponse {
    let body = match response.head {
        HeadTime::AtOnce => body::timed(response.frames, began),
        HeadTime::WithBody => whole(response.frames, began).await,
    };
    let mut sent = body.into_response();
    *sent.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        // A script allows no other values.
        if let Ok(value) = HeaderValue::from_str(&value) {
            sent.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    sent
}

/// The body, when it begins. One that is complete then has a length.
async fn whole(frames: Frames, began: Instant) -> Body {
    let mut frames = frames.peekable();
    let Some(first) = frames.next() else { return Body::empty() };
    let end = began + ANSWER_WITHIN;
    sleep_until(began.checked_add(first.at).map_or(end, |at| at.min(end))).await;
    match first.act {
        Act::Send(bytes) if frames.peek().is_none() => bytes.into(),
        _ => body::timed([first].into_iter().chain(frames), began),
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}
