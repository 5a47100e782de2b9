//! The routes by which clients join rooms: LiveKit's signalling of a single peer connection, `/rtc/v1`. Some clients, as that for Go,
//! make the same request at the older `/rtc`.
//!
//! Every answer may be read by pages of any origin, as those of LiveKit's server: a browser asks `/rtc/v1/validate` why it got no
//! WebSocket. With the development key, only pages of this machine may join.
//!
//! Bounds: a room answers within [`ENTER_WITHIN`]. [`join_request`] and [`room_host`](crate::room_host) have further bounds.

use axum::extract::{Query, Request, State};
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api_state::{ApiState, SharedState};
use crate::auth::{allow_join, caller_of};
use crate::command::Command;
use crate::connections::{LocalAddress, reachable};
use crate::hosts::origin_from_elsewhere;
use crate::join_request;
use crate::keys::Caller;
use crate::limits::ENTER_WITHIN;
use crate::room_host::{Entered, Entrant, Refusal};
use crate::upgrade;
use wasm_worker_core::text::clip;

/// The query of a client.
#[derive(Deserialize)]
pub(crate) struct JoinQuery {
    access_token: Option<String>,
    join_request: Option<String>,
}

/// Why a client does not join: the status and the reason.
struct Denied(StatusCode, String);

impl Denied {
    fn new(status: StatusCode, why: impl ToString) -> Self {
        Self(status, why.to_string())
    }
}

/// Join a room: answer with a WebSocket.
pub(crate) async fn join(State(state): SharedState, Query(query): Query<JoinQuery>, mut request: Request) -> Response {
    let joined = enter(&state, query, &mut request).await;
    readable_by_all(joined.unwrap_or_else(|Denied(status, why)| (status, why).into_response()))
}

/// Check a token as for a join.
pub(crate) async fn validate(
    State(state): SharedState,
    Query(query): Query<JoinQuery>,
    headers: HeaderMap,
) -> Response {
    readable_by_all(match caller(&state, &headers, &query) {
        Ok(_) => "success".into_response(),
        Err(Denied(status, why)) => (status, why).into_response(),
    })
}

/// The older path: join a room, unless the client has two peer connections, whose request has no `join_request`.
pub(crate) async fn join_at_older_path(state: SharedState, query: Query<JoinQuery>, request: Request) -> Response {
    if query.join_request.is_some() {
        return join(state, query, request).await;
    }
    let why = "this server has rooms at `/rtc/v1` only, and here for a request with `join_request`: for clients with a single \
               peer connection, as most of LiveKit's are from 2025 on, some by an option";
    readable_by_all((StatusCode::NOT_FOUND, why).into_response())
}

async fn enter(state: &ApiState, query: JoinQuery, request: &mut Request) -> Result<Response, Denied> {
    let caller = caller(state, request.headers(), &query)?;
    let text = query.join_request.ok_or_else(|| Denied::new(StatusCode::BAD_REQUEST, "`join_request` is missing"))?;
    let join = join_request::read(&text).map_err(|error| Denied::new(StatusCode::BAD_REQUEST, error))?;
    let no_websocket = || Denied::new(StatusCode::NOT_FOUND, "want a WebSocket");
    let accept_key = upgrade::accept_key(request.headers()).ok_or_else(no_websocket)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(no_websocket)?;
    let permit =
        state.room_host.link_permit().ok_or_else(|| busy("the maximum number of participants is connected"))?;
    let reached = request.extensions().get::<LocalAddress>().map_or(state.address, |local| local.0);
    let local = reachable(reached).ip().to_canonical();
    let entrant = Entrant { caller, request: Box::new(join), local, public: state.rtc_address };
    let entered = timeout(ENTER_WITHIN, enter_room(state, entrant)).await;
    let entered = entered.map_err(|_| busy(&format!("the room did not answer within {ENTER_WITHIN:?}")))??;
    state.room_host.serve(entered, upgrade, permit);
    Ok(upgrade::switching(accept_key))
}

async fn enter_room(state: &ApiState, entrant: Entrant) -> Result<Entered, Denied> {
    let (reply, answer) = oneshot::channel();
    let (name, api_key) = (entrant.caller.grants.room.clone(), entrant.caller.api_key.clone());
    let asked = state.ask(Command::EnterRoom { name, api_key, reply }, answer).await;
    let room = asked.and_then(|answer| answer.map_err(Into::into));
    let room = room.map_err(|error| Denied(error.code.status(), error.message))?;
    // There is another room with this name when the client tries again.
    let entered = room.enter(entrant).await.map_err(|_| busy("the room has just ended"))?;
    entered.map_err(|refusal| {
        let status = match refusal {
            Refusal::OwnMetadata => StatusCode::UNAUTHORIZED,
            Refusal::Facts(_) | Refusal::Tracks(_) => StatusCode::BAD_REQUEST,
            Refusal::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Denied::new(status, refusal)
    })
}

/// The caller, who may join the room of its token.
fn caller(state: &ApiState, headers: &HeaderMap, query: &JoinQuery) -> Result<Caller, Denied> {
    if state.keys.is_development()
        && let Some(origin) = origin_from_elsewhere(headers)
    {
        let why =
            "with the development key, whose secret is public, only pages of this machine may join; got a page of";
        return Err(Denied(StatusCode::FORBIDDEN, format!("{why} `{}`", clip(&origin))));
    }
    let caller = caller_of(state, headers, query.access_token.as_deref());
    let allowed = caller.and_then(|caller| allow_join(&caller).map(|()| caller));
    allowed.map_err(|denied| Denied(StatusCode::UNAUTHORIZED, denied.text()))
}

fn busy(why: &str) -> Denied {
    Denied(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
}

fn readable_by_all(response: Response) -> Response {
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], response).into_response()
}
