//! What the dispatcher answers over HTTP.
//!
//! ```text
//! GET  /                       200 OK
//! GET  /agent                  the WebSocket of a worker
//! POST /twirp/SERVICE/METHOD   LiveKit's AgentDispatchService, and of its RoomService what there is without media
//! GET  /jobs, /jobs/ID         dispatches, or one of them with its attempts; `?after=STATE&wait_ms=N` waits for news
//! POST /jobs/ID/cancel         stop one
//! GET  /workers                the workers that are connected
//! GET  /metrics                for Prometheus
//! ```
//!
//! Everything but `/` and `/metrics` needs a token of a key that is known.
//!
//! Bounds: [`BODY_BYTES_MAX`] a request, as with LiveKit's server, and [`BODY_WITHIN`] for it; [`super::WORKERS_MAX`] workers;
//! [`super::WAITS_MAX`] that wait for news; those of [`connections`](crate::connections).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SERVER, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::keys::Caller;
use super::twirp::{Code, Content, TwirpError};
use super::{Door, api, pages, room_api, socket};

const BODY_BYTES_MAX: usize = 10 << 20;
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// By which others on this machine know what answers here.
pub const SERVER_NAME: &str = "wasm-worker";

pub(super) type Shown = State<Arc<Door>>;

/// Every page.
pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/", get(|| async { "OK" }))
        .route("/agent", get(agent))
        .route("/twirp/{service}/{method}", post(twirp))
        .route("/jobs", get(pages::jobs))
        .route("/jobs/{id}", get(pages::job))
        .route("/jobs/{id}/cancel", post(pages::cancel))
        .route("/workers", get(pages::workers))
        .route("/metrics", get(metrics))
        .fallback(elsewhere)
        .layer(middleware::map_response(named))
        .with_state(door)
}

async fn named(mut response: Response) -> Response {
    response.headers_mut().insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    response
}

#[derive(Deserialize)]
pub(super) struct TokenInQuery {
    access_token: Option<String>,
}

/// Whose token it is, from the header or the query, as LiveKit's server looks for it.
pub(super) fn caller_of(door: &Door, headers: &HeaderMap, query: Option<&str>) -> Result<Caller, Denied> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    door.keys.verify(header.or(query).ok_or(Denied::NotAllowed)?).map_err(Denied::Token)
}

/// Why somebody is not heard.
pub(super) enum Denied {
    /// The token is not taken; said as text, as LiveKit's server does.
    Token(String),
    /// There is none, or it does not allow this.
    NotAllowed,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Token(why) => (StatusCode::UNAUTHORIZED, why).into_response(),
            Self::NotAllowed => TwirpError::denied().into_response(),
        }
    }
}

async fn agent(
    State(door): Shown,
    Query(TokenInQuery { access_token }): Query<TokenInQuery>,
    mut request: Request,
) -> Response {
    let websocket =
        request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let (true, Some(accept)) = (websocket, key) else { return StatusCode::NOT_FOUND.into_response() };
    let caller = match caller_of(&door, request.headers(), access_token.as_deref()) {
        Ok(caller) if caller.grants.agent => caller,
        Ok(_) => return (StatusCode::UNAUTHORIZED, "no permissions to access the room").into_response(),
        Err(denied) => return denied.into_response(),
    };
    let Ok(place) = door.places.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "there are as many workers as there may be").into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "want HTTP/1.1").into_response();
    };
    let orders = door.orders.clone();
    tokio::runtime::Handle::current().spawn(async move {
        match upgrade.await {
            Ok(upgraded) => socket::serve(upgraded, caller.key, orders).await,
            Err(error) => tracing::debug!(target: "dispatcher", %error, "a worker's connection did not come about"),
        }
        drop(place);
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).unwrap_or(HeaderValue::from_static(""))),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Nothing is read of a request before its token is known.
async fn twirp(State(door): Shown, Path((service, method)): Path<(String, String)>, request: Request) -> Response {
    let caller = match caller_of(&door, request.headers(), None) {
        Ok(caller) => caller,
        Err(denied) => return denied.into_response(),
    };
    let (head, body) = request.into_parts();
    let Ok(body) = timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX)).await else {
        let why = format!("the request did not come within {BODY_WITHIN:?}");
        return TwirpError::new(Code::DeadlineExceeded, why).into_response();
    };
    match body {
        Ok(body) => {
            let called = call(&door, &caller, (&service, &method), &head.headers, &body).await;
            called.unwrap_or_else(IntoResponse::into_response)
        }
        Err(error) => {
            let why = format!("the request cannot be read, or has more than {BODY_BYTES_MAX} bytes: {error}");
            TwirpError::new(Code::Malformed, why).into_response()
        }
    }
}

async fn call(
    door: &Door,
    caller: &Caller,
    route: (&str, &str),
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, TwirpError> {
    let c = Content::of(headers)?;
    Ok(match route {
        ("livekit.AgentDispatchService", "CreateDispatch") => {
            c.write(&api::create(door, caller, headers, c.read(body)?).await?)
        }
        ("livekit.AgentDispatchService", "ListDispatch") => c.write(&api::list(door, caller, c.read(body)?).await?),
        ("livekit.AgentDispatchService", "DeleteDispatch") => c.write(&api::delete(door, caller, c.read(body)?).await?),
        ("livekit.RoomService", "CreateRoom") => c.write(&room_api::create(door, caller, c.read(body)?).await?),
        ("livekit.RoomService", "ListRooms") => c.write(&room_api::list(door, caller, c.read(body)?).await?),
        ("livekit.RoomService", "DeleteRoom") => c.write(&room_api::delete(door, caller, c.read(body)?).await?),
        ("livekit.RoomService", "UpdateRoomMetadata") => {
            c.write(&room_api::set_metadata(door, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", "ListParticipants") => c.write(&room_api::participants(caller, c.read(body)?)?),
        ("livekit.RoomService", "GetParticipant") => {
            c.write(&room_api::participant(door, caller, c.read(body)?).await?)
        }
        ("livekit.RoomService", method) => {
            return Err(TwirpError::new(
                Code::Unimplemented,
                format!("`{method}` needs media, which there is none of here"),
            ));
        }
        (service, method) => {
            return Err(TwirpError::bad_route(format!("no handler for path `/twirp/{service}/{method}`")));
        }
    })
}

/// Clients whose URL ends with a slash double it; LiveKit's server does not mind.
async fn elsewhere(state: Shown, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    match (request.method(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (&Method::POST, Some("twirp"), Some(service), Some(method), None) => {
            twirp(state, Path((service.to_owned(), method.to_owned())), request).await
        }
        (_, Some("rtc"), ..) => (
            StatusCode::NOT_IMPLEMENTED,
            "this is wasm-worker's dispatcher: it gives agents their jobs, and has no media; rooms are joined at a LiveKit server",
        )
            .into_response(),
        _ => TwirpError::bad_route(format!("nothing is at `{path}`")).into_response(),
    }
}

async fn metrics(State(door): Shown) -> Response {
    door.metrics_text().await
}
