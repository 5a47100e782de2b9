//! The HTTP routes of the dispatcher, in one table: [`ROUTES`]. `host/docs/openapi-dispatcher.json` describes them.
//!
//! Every route but `/` and `/metrics` needs a token that one of the API keys signed.
//!
//! Bounds: a request has at most [`BODY_BYTES_MAX`], as in LiveKit's server, and arrives within [`BODY_WITHIN`]. At most
//! [`WORKERS_MAX`](crate::limits::WORKERS_MAX) workers are connected, and at most [`WAITS_MAX`](crate::limits::WAITS_MAX)
//! requests wait for a change. [`connections`](crate::connections) and [`answers`](crate::answers) have further bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, SERVER};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::api_state::{ApiState, SharedState};
use crate::auth::{allow_agent, caller_of};
use crate::keys::Caller;
use crate::proof::PROOF_HEADER;
use crate::rest::RestError;
use crate::twirp::{Code, Content, TwirpError};
use crate::{dispatch_service, proof, rest, room_service, rtc, socket, upgrade};

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 10 << 20;
/// Time limit for the body of a request.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Services of LiveKit's server that this dispatcher has not.
const SERVICES_LEFT_OUT: [&str; 3] = ["livekit.Egress", "livekit.Ingress", "livekit.SIP"];
/// The `Server` header of every answer. By it other processes of this machine recognise the dispatcher.
pub const SERVER_NAME: &str = "wasm-worker";

/// A route: its method, its path, and its handler for that method.
pub(crate) struct Route {
    pub(crate) method: MethodFilter,
    pub(crate) path: &'static str,
    handler: fn(MethodFilter) -> MethodRouter<Arc<ApiState>>,
}

const fn get(path: &'static str, handler: fn(MethodFilter) -> MethodRouter<Arc<ApiState>>) -> Route {
    Route { method: MethodFilter::GET, path, handler }
}

const fn post(path: &'static str, handler: fn(MethodFilter) -> MethodRouter<Arc<ApiState>>) -> Route {
    Route { method: MethodFilter::POST, path, handler }
}

/// Every route. The paths without `/api/v1` are the older names of the same handlers.
pub(crate) const ROUTES: [Route; 17] = [
    get("/", |method| on(method, root)),
    get("/agent", |method| on(method, agent)),
    get("/rtc", |method| on(method, rtc::join_at_older_path)),
    get("/rtc/validate", |method| on(method, rtc::validate)),
    get("/rtc/v1", |method| on(method, rtc::join)),
    get("/rtc/v1/validate", |method| on(method, rtc::validate)),
    post("/twirp/{service}/{method}", |method| on(method, twirp)),
    get("/metrics", |method| on(method, metrics)),
    get("/api/v1/jobs", |method| on(method, rest::list)),
    get("/api/v1/jobs/{id}", |method| on(method, rest::show)),
    post("/api/v1/jobs/{id}/cancel", |method| on(method, rest::cancel)),
    get("/api/v1/workers", |method| on(method, rest::workers)),
    get("/api/v1/usage", |method| on(method, rest::usage)),
    get("/jobs", |method| on(method, rest::list)),
    get("/jobs/{id}", |method| on(method, rest::show)),
    post("/jobs/{id}/cancel", |method| on(method, rest::cancel)),
    get("/workers", |method| on(method, rest::workers)),
];

/// The router of all routes.
pub(crate) fn router(state: Arc<ApiState>) -> Router {
    let add = |router: Router<Arc<ApiState>>, route: Route| router.route(route.path, (route.handler)(route.method));
    ROUTES
        .into_iter()
        .fold(Router::new(), add)
        .fallback(fallback)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), count_answer))
        .layer(middleware::map_response(add_server_header))
        .with_state(state)
}

async fn add_server_header(mut response: Response) -> Response {
    response.headers_mut().insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    response
}

/// Count the memory of a large answer until it is sent.
async fn count_answer(State(state): SharedState, request: Request, next: Next) -> Response {
    let is_twirp = is_twirp(request.uri());
    let (head, body) = next.run(request).await.into_parts();
    match state.answers.count(body).map_err(TwirpError::from) {
        Ok(body) => Response::from_parts(head, body),
        Err(full) if is_twirp => full.into_response(),
        Err(full) => RestError::from(full).into_response(),
    }
}

fn is_twirp(uri: &Uri) -> bool {
    uri.path().trim_start_matches('/').starts_with("twirp/")
}

/// The answer to a method that a path does not have. That of a Twirp path is LiveKit's.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    if is_twirp(&uri) {
        return TwirpError::bad_route(format!("unsupported method `{method}` (only POST is allowed)")).into_response();
    }
    let why = format!("`{}` has no method `{method}`", uri.path());
    RestError::new(StatusCode::METHOD_NOT_ALLOWED, why).into_response()
}

#[derive(Deserialize)]
struct TokenQuery {
    access_token: Option<String>,
}

/// Answer that the dispatcher serves, and the question of a process that wants to know whose it is.
async fn root(State(state): SharedState, headers: HeaderMap) -> Response {
    let question = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let answer = question.and_then(|token| proof::answer(&state.keys, state.address, token));
    let answer = answer.and_then(|answer| HeaderValue::try_from(answer).ok());
    (answer.map(|answer| [(PROOF_HEADER, answer)]), "OK").into_response()
}

/// Upgrade the connection of a worker to a WebSocket.
async fn agent(State(state): SharedState, Query(query): Query<TokenQuery>, mut request: Request) -> Response {
    let Some(accept_key) = upgrade::accept_key(request.headers()) else { return StatusCode::NOT_FOUND.into_response() };
    let caller = caller_of(&state, request.headers(), query.access_token.as_deref());
    let caller = match caller.and_then(|caller| allow_agent(&caller).map(|()| caller)) {
        Ok(caller) => caller,
        Err(denied) => return (StatusCode::UNAUTHORIZED, denied.text()).into_response(),
    };
    let Ok(slot) = state.worker_slots.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the maximum number of workers is connected").into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "want HTTP/1.1").into_response();
    };
    let commands = state.worker_commands.clone();
    Handle::current().spawn(async move {
        match upgrade.await {
            Ok(upgraded) => socket::serve(upgraded, caller.api_key, commands).await,
            Err(error) => tracing::debug!(target: "dispatcher", %error, "the WebSocket upgrade of a worker failed"),
        }
        drop(slot);
    });
    upgrade::switching(accept_key)
}

/// Authenticate a Twirp call, then read its body and dispatch it.
async fn twirp(
    State(state): SharedState,
    Path((service, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    let caller = match caller_of(&state, request.headers(), None) {
        Ok(caller) => caller,
        Err(denied) => return denied.into_response(),
    };
    let (head, body) = request.into_parts();
    let Ok(body) = timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX)).await else {
        let why = format!("the request did not arrive within {BODY_WITHIN:?}");
        return TwirpError::new(Code::DeadlineExceeded, why).into_response();
    };
    match body {
        Ok(body) => {
            let answer = call(&state, &caller, (&service, &method), &head.headers, &body).await;
            answer.unwrap_or_else(IntoResponse::into_response)
        }
        Err(error) => {
            let why = format!("the request cannot be read, or has more than {BODY_BYTES_MAX} bytes: {error}");
            TwirpError::new(Code::Malformed, why).into_response()
        }
    }
}

/// Call the method of a LiveKit service.
async fn call(
    state: &ApiState,
    caller: &Caller,
    route: (&str, &str),
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, TwirpError> {
    let c = Content::of(headers)?;
    match route {
        ("livekit.AgentDispatchService", "CreateDispatch") => {
            c.write(&dispatch_service::create(state, caller, headers, c.read(body)?).await?)
        }
        ("livekit.AgentDispatchService", "ListDispatch") => {
            let _turn = state.list_turn().await?;
            c.write(&dispatch_service::list(state, caller, c.read(body)?).await?)
        }
        ("livekit.AgentDispatchService", "DeleteDispatch") => {
            c.write(&dispatch_service::delete(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "CreateRoom") => c.write(&room_service::create(state, caller, c.read(body)?).await?),
        ("livekit.RoomService", "ListRooms") => {
            let _turn = state.list_turn().await?;
            c.write(&room_service::list(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "DeleteRoom") => c.write(&room_service::delete(state, caller, c.read(body)?).await?),
        ("livekit.RoomService", "UpdateRoomMetadata") => {
            c.write(&room_service::set_metadata(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "ListParticipants") => {
            c.write(&room_service::participants(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "GetParticipant") => {
            c.write(&room_service::participant(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "RemoveParticipant") => {
            c.write(&room_service::remove(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "UpdateParticipant") => {
            c.write(&room_service::update(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "MutePublishedTrack") => {
            c.write(&room_service::mute(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "UpdateSubscriptions") => {
            c.write(&room_service::subscribe(state, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "SendData") => c.write(&room_service::send_data(state, caller, c.read(body)?).await?),
        ("livekit.RoomService", method) => {
            let why = format!("`{method}` is not supported by the rooms of this dispatcher");
            Err(TwirpError::new(Code::Unimplemented, why))
        }
        (service, method) if SERVICES_LEFT_OUT.contains(&service) => {
            let why = format!("`{method}` of `{service}` is not supported by this dispatcher");
            Err(TwirpError::new(Code::Unimplemented, why))
        }
        (service, method) => Err(TwirpError::bad_route(format!("no handler for path `/twirp/{service}/{method}`"))),
    }
}

/// Accept a doubled slash, as LiveKit's server does: clients whose URL ends with a slash send one.
async fn fallback(state: SharedState, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    match (request.method(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (&Method::POST, Some("twirp"), Some(service), Some(method), None) => {
            twirp(state, Path((service.to_owned(), method.to_owned())), request).await
        }
        _ => TwirpError::bad_route(format!("no route for path `{path}`")).into_response(),
    }
}

async fn metrics(State(state): SharedState) -> Response {
    state.metrics().await
}

#[cfg(test)]
mod tests;
