//! The routes by which clients join rooms: LiveKit's signalling of a single peer connection, `/rtc/v1`, and that of two, `/rtc`. Some
//! clients, as that for Go, make the request for a single one at `/rtc` too.
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
use livekit_protocol as proto;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api_state::{ApiState, SharedState};
use crate::auth::{allow_join, caller_of};
use crate::command::Command;
use crate::connections::{LocalAddress, reachable};
use crate::hosts::origin_from_elsewhere;
use crate::join_request::{self, QueryRequest};
use crate::keys::Caller;
use crate::limits::ENTER_WITHIN;
use crate::room_host::{Entered, Entrant, Refusal};
use crate::room_service::room_of_token;
use crate::rooms::RoomRequest;
use crate::twirp::TwirpError;
use crate::upgrade;
use wasm_worker_core::text::clip;

/// The query of a client.
#[derive(Deserialize)]
pub(crate) struct JoinQuery {
    access_token: Option<String>,
    join_request: Option<String>,
    #[serde(flatten)]
    request: QueryRequest,
}

/// What a client asks for.
struct Asked {
    request: proto::JoinRequest,
    has_second_peer: bool,
}

/// Why a client does not join: the status and the reason.
struct Denied(StatusCode, String);

impl Denied {
    fn new(status: StatusCode, why: impl ToString) -> Self {
        Self(status, why.to_string())
    }
}

/// Join a room with a single peer connection: answer with a WebSocket.
pub(crate) async fn join(State(state): SharedState, Query(query): Query<JoinQuery>, request: Request) -> Response {
    let asked = |query: JoinQuery| {
        let text =
            query.join_request.ok_or_else(|| Denied::new(StatusCode::BAD_REQUEST, "`join_request` is missing"))?;
        newer(&text)
    };
    join_as(&state, query, request, asked).await
}

/// Join a room with two peer connections, or with a single one by a request as at the newer path.
pub(crate) async fn join_at_older_path(
    State(state): SharedState,
    Query(query): Query<JoinQuery>,
    request: Request,
) -> Response {
    let asked = |query: JoinQuery| match query.join_request {
        Some(text) => newer(&text),
        None => {
            let request = query.request.into_request().map_err(|error| Denied::new(StatusCode::BAD_REQUEST, error))?;
            Ok(Asked { request, has_second_peer: true })
        }
    };
    join_as(&state, query, request, asked).await
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

fn newer(text: &str) -> Result<Asked, Denied> {
    let request = join_request::read(text).map_err(|error| Denied::new(StatusCode::BAD_REQUEST, error))?;
    Ok(Asked { request, has_second_peer: false })
}

async fn join_as(
    state: &ApiState,
    query: JoinQuery,
    mut request: Request,
    asked: impl FnOnce(JoinQuery) -> Result<Asked, Denied>,
) -> Response {
    let joined = enter(state, query, &mut request, asked).await;
    readable_by_all(joined.unwrap_or_else(|Denied(status, why)| (status, why).into_response()))
}

async fn enter(
    state: &ApiState,
    query: JoinQuery,
    request: &mut Request,
    asked: impl FnOnce(JoinQuery) -> Result<Asked, Denied>,
) -> Result<Response, Denied> {
    let caller = caller(state, request.headers(), &query)?;
    let Asked { request: join, has_second_peer } = asked(query)?;
    let no_websocket = || Denied::new(StatusCode::NOT_FOUND, "want a WebSocket");
    let accept_key = upgrade::accept_key(request.headers()).ok_or_else(no_websocket)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(no_websocket)?;
    let permit =
        state.room_host.link_permit().ok_or_else(|| busy("the maximum number of participants is connected"))?;
    let reached = request.extensions().get::<LocalAddress>().map_or(state.address, |local| local.0);
    let local = reachable(reached).ip().to_canonical();
    let entrant = Entrant { caller, request: Box::new(join), local, public: state.rtc_address, has_second_peer };
    let entered = timeout(ENTER_WITHIN, enter_room(state, entrant)).await;
    let entered = entered.map_err(|_| busy(&format!("the room did not answer within {ENTER_WITHIN:?}")))??;
    state.room_host.serve(entered, upgrade, permit);
    Ok(upgrade::switching(accept_key))
}

async fn enter_room(state: &ApiState, entrant: Entrant) -> Result<Entered, Denied> {
    let refused = |error: TwirpError| Denied(error.code.status(), error.message);
    let (room, requests) = match room_of_token(state, &entrant.caller) {
        Ok(described) => described,
        // For an existing room it says nothing.
        Err(error) => {
            let name = entrant.caller.grants.room.clone();
            if state.rooms(vec![name.clone()]).await.map_err(refused)?.is_empty() {
                return Err(refused(error));
            }
            (RoomRequest { name, ..RoomRequest::default() }, Vec::new())
        }
    };
    let (reply, answer) = oneshot::channel();
    let (room, api_key) = (Box::new(room), entrant.caller.api_key.clone());
    let asked = state.ask(Command::EnterRoom { room, requests, api_key, reply }, answer).await;
    let room = asked.and_then(|answer| answer.map_err(Into::into)).map_err(refused)?;
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
