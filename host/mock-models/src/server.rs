//! The stand-in as an HTTP server.
//!
//! ```text
//! POST /v1/chat/completions   an answer by the script
//! POST /v1/responses          the same in the other protocol
//! GET  /v1/models             the models of the script
//! GET  /v1/models/{id}        one of them
//! GET  /                      a text that says what this is
//! ```
//!
//! Every answer carries [`HEADER`]. A log has the numbers of requests, models and rules, and no contents of messages.
//!
//! Bounds: those of `connections`; a body of [`REQUEST_BYTES_MAX`] that arrives within [`REQUEST_WITHIN`]; an answer within
//! [`ANSWER_WITHIN`], after which the connection breaks.

mod connections;

mod body;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until, timeout};
use wasm_worker_core::secret::Secret;
use wasm_worker_core::text::clip;

use crate::answer::{self, Act, HEADER, Head, banner, frames, model_name};
use crate::error::ApiError;
use crate::plan::{Plan, Reply};
use crate::request::{Delivery, Protocol, Request};
use crate::script::{Counts, MODEL, Script};

/// Largest body of a request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Longest time in which a body arrives.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// Longest time of an answer. A model that hangs breaks the connection then. It is the time-out of the vendor's SDKs.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// The name of an id in the answers of the vendor's servers.
const REQUEST_ID: &str = "x-request-id";
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
    /// HTTP requests of every kind, for their ids.
    requests: AtomicU64,
}

/// Answer clients by the script. It ends, together with its connections, when the future is dropped.
pub async fn serve(listener: TcpListener, script: Script, options: Options) -> Infallible {
    let server = Arc::new(Server { script, options, counts: Mutex::default(), requests: AtomicU64::new(0) });
    let router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/responses", post(responses))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/", get(this))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(server.clone());
    connections::serve(listener, router, server).await
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

    /// Add what every response has.
    fn finish(&self, mut response: Response) -> Response {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static(HEADER), HeaderValue::from_static(banner()));
        if let Ok(id) = HeaderValue::from_str(&format!("req_stand-in-{number}")) {
            headers.insert(HeaderName::from_static(REQUEST_ID), id);
        }
        response
    }
}

/// Compare in a time that depends on the lengths alone.
fn are_same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |differences, (one, other)| differences | (one ^ other));
    one.len() == other.len() && differences == 0
}

async fn chat(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(&server, Protocol::Chat, request).await
}

async fn responses(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(&server, Protocol::Responses, request).await
}

async fn answer(server: &Server, protocol: Protocol, request: HttpRequest) -> Response {
    let began = Instant::now();
    if request.body().size_hint().lower() > REQUEST_BYTES_MAX as u64 {
        return ApiError::too_large(REQUEST_BYTES_MAX).into_response();
    }
    let body = match timeout(REQUEST_WITHIN, axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return unread(&error),
        Err(_) => return ApiError::of_status(408).into_response(),
    };
    let request = match Request::parse(protocol, &body) {
        Ok(request) => request,
        Err(error) => {
            tracing::info!(target: "mock-models", code = error.code(), "a request is refused");
            return error.into_response();
        }
    };
    let (plan, number) = {
        let mut counts = server.counts.lock().unwrap_or_else(PoisonError::into_inner);
        (server.script.plan(&mut counts, &request), counts.requests())
    };
    log(&request, &plan, number);
    match plan.reply {
        Reply::Silence => {
            sleep_until(began + ANSWER_WITHIN).await;
            (StatusCode::GATEWAY_TIMEOUT, axum::Extension(Broken)).into_response()
        }
        Reply::Refusal(error) => error.into_response(),
        Reply::Answer(answer) => {
            let head = Head::new(&request, number, seconds_since_1970());
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(head.content_type()));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            (headers, delivered(answer, head, began).await).into_response()
        }
    }
}

/// The body of an answer. A whole answer has its head when its body begins, a stream at once.
async fn delivered(answer: crate::plan::Answer, head: Head, began: Instant) -> Body {
    let is_whole = head.delivery == Delivery::Whole;
    let mut frames = frames(answer, head).peekable();
    let Some(first) = frames.next_if(|_| is_whole) else { return body::timed(frames, began) };
    sleep_until((began + first.at).min(began + ANSWER_WITHIN)).await;
    match first.act {
        Act::Send(bytes) if frames.peek().is_none() => bytes.into(),
        _ => body::timed([first].into_iter().chain(frames), began),
    }
}

fn log(request: &Request, plan: &Plan, number: u64) {
    let (model, tools, line) = (clip(&request.model), request.tools.len(), plan.line);
    let (protocol, delivery) = (request.protocol, request.delivery);
    let reply = match &plan.reply {
        Reply::Silence => "silence".into(),
        Reply::Refusal(error) => error.code(),
        Reply::Answer(answer) => format!("{:?}", answer.finish),
    };
    tracing::info!(target: "mock-models", number, ?protocol, ?delivery, model, tools, line, reply, "a request");
}

fn unread(error: &axum::Error) -> Response {
    tracing::info!(target: "mock-models", %error, "the body of a request cannot be read");
    ApiError::too_large(REQUEST_BYTES_MAX).into_response()
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    let models = server.script.models();
    let data: Vec<Value> = models.into_iter().map(model_json).collect();
    json_body(&json!({ "object": "list", "data": data }))
}

async fn model(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    match server.script.models().into_iter().find(|known| *known == id) {
        Some(model) => json_body(&model_json(model)),
        None => ApiError::no_such_model(&id).into_response(),
    }
}

/// The id is the name by which clients ask for the model.
fn model_json(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": model_name(MODEL) })
}

async fn this() -> String {
    format!(
        "{}\n\nThis is a stand-in for a model server. Its answers are scripted.\nPOST /v1/chat/completions\n",
        banner()
    )
}

async fn no_such_path(method: Method, uri: Uri) -> Response {
    ApiError::no_such_path(method.as_str(), &clip(uri.path())).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    ApiError::wrong_method(method.as_str(), &clip(uri.path())).into_response()
}

fn json_body(value: &Value) -> Response {
    ([(CONTENT_TYPE, answer::JSON)], value.to_string()).into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (content_type, body) = self.encoded();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let more = self.retry_headers().into_iter().chain([(CONTENT_TYPE.as_str(), content_type)]);
        for (name, value) in more {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                headers.insert(name, value);
            }
        }
        response
    }
}
