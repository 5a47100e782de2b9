//! The JSON API that `wasm-worker jobs`, `job`, `workers`, `usage` and `cancel` use: `/api/v1`, and the same handlers at the older paths.
//!
//! Grants have the scope that LiveKit's server gives them. A token that may list rooms reads lists, and a dispatch without its
//! metadata and attributes. A token that may administer a room reads all of its dispatches, and cancels them. Every error is a
//! [`Problem`].
//!
//! Bounds: a list has [`LISTED_MAX`] dispatches, and a request waits for a change for at most [`WAIT_MAX`]. One request at a time sums
//! bills, for at most [`SUMS_WITHIN`].

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::answers::to_json;
use crate::api_state::{ApiState, STOPPING, SharedState};
use crate::auth::{Denied, allow_list, caller_of, is_room_admin};
use crate::clock::Moment;
use crate::command::Command;
use crate::keys::Caller;
use crate::scheduler::Id;
use crate::store::{DispatchRow, Filter, Part, ReadError};
use crate::twirp::TwirpError;
use wasm_worker_core::api::Problem;
use wasm_worker_core::api::dispatcher::{Cancelled, Dispatch, DispatchList, DispatchState, PoolWorkerList};
use wasm_worker_core::api::usage::UsageBy;

/// The length of a list for which the request gives no limit.
const LISTED_DEFAULT: usize = 100;
/// Most dispatches of a list.
const LISTED_MAX: usize = 10_000;
/// Longest wait of one request.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Time limit for sums over bills.
const SUMS_WITHIN: Duration = Duration::from_secs(50);
/// The grants that show a dispatch.
const SEES_DISPATCH: &str = "`roomList`, or `roomAdmin` for the room of the dispatch";
/// The grant that cancels a dispatch.
const CANCELS_DISPATCH: &str = "`roomAdmin` for the room of the dispatch";

/// The query of a list.
#[derive(Deserialize)]
pub(crate) struct ListQuery {
    room: Option<String>,
    state: Option<ListState>,
    limit: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ListState {
    Open,
    Ended,
}

/// The query for one dispatch. With `after` the answer waits up to `wait_ms` for another state than this one.
#[derive(Deserialize)]
pub(crate) struct WaitQuery {
    #[serde(default, deserialize_with = "state_or_empty")]
    after: Option<DispatchState>,
    wait_ms: Option<u64>,
}

/// The query for sums over bills.
#[derive(Deserialize)]
pub(crate) struct UsageQuery {
    by: UsageBy,
    /// Only jobs that ended at this Unix time in nanoseconds, or later.
    since_ns: Option<i64>,
}

/// The state that a query names. Clients that know no state yet send an empty value.
fn state_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DispatchState>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.is_empty() {
        return Ok(None);
    }
    DispatchState::deserialize(name.into_deserializer()).map(Some)
}

/// The error of a request.
pub(crate) struct RestError {
    status: StatusCode,
    error: String,
}

impl RestError {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    fn unknown(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no dispatch or job has the id `{id}`"))
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        (self.status, Json(Problem { error: self.error })).into_response()
    }
}

impl From<Denied> for RestError {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, denied.text())
    }
}

impl From<ReadError> for RestError {
    fn from(error: ReadError) -> Self {
        let status = match error {
            ReadError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            ReadError::Sqlite(_) | ReadError::Panic(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<TwirpError> for RestError {
    fn from(error: TwirpError) -> Self {
        Self::new(error.code.status(), error.message)
    }
}

impl From<QueryRejection> for RestError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

/// The answer to a request, within the bound of answers.
fn json<T: Serialize>(answer: &T) -> Result<Response, RestError> {
    let json = to_json(answer).map_err(TwirpError::from)?;
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}

/// List dispatches, without metadata, attributes and attempts.
pub(crate) async fn list(
    State(state): SharedState,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, RestError> {
    let caller = caller_of(&state, &headers, None)?;
    let Query(query) = query?;
    if !query.room.as_ref().is_some_and(|room| is_room_admin(&caller, room)) {
        allow_list(&caller)?;
    }
    let _turn = state.list_turn().await?;
    let limit = query.limit.unwrap_or(LISTED_DEFAULT).min(LISTED_MAX);
    let open = query.state.map(|state| state == ListState::Open);
    let filter = Filter { room: query.room, open, limit, part: Part::Brief, ..Filter::default() };
    let rows = state.reader.dispatches(filter).await?;
    let open = rows.iter().filter(|row| row.is_open()).map(|row| row.dispatch.dispatch.clone()).collect();
    let mut waiting = state.waiting(open).await?;
    let brief = |row: DispatchRow| {
        let waiting = waiting.remove(&row.dispatch.dispatch);
        Dispatch { waiting, ..row.dispatch }
    };
    json(&DispatchList { jobs: rows.into_iter().map(brief).collect() })
}

/// The part of a dispatch that the caller may see. The caller named it by this id.
fn visible(caller: &Caller, id: &str, dispatch: Dispatch) -> Result<Dispatch, RestError> {
    if is_room_admin(caller, &dispatch.room) {
        return Ok(dispatch);
    }
    if caller.grants.room_list {
        return Ok(Dispatch { metadata: None, attributes: None, ..dispatch });
    }
    // A dispatch of another room is as unknown as one that does not exist.
    Err(RestError::unknown(id))
}

/// Show one dispatch with its attempts, by its id or the id of one of its jobs.
pub(crate) async fn show(
    State(state): SharedState,
    headers: HeaderMap,
    Path(id): Path<String>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, RestError> {
    let caller = caller_of(&state, &headers, None)?;
    if !caller.grants.room_list && !caller.grants.room_admin {
        return Err(Denied::MissingGrant(SEES_DISPATCH).into());
    }
    let Query(WaitQuery { after, wait_ms }) = query?;
    let wait = Duration::from_millis(wait_ms.unwrap_or(0)).min(WAIT_MAX);
    let slot = if wait.is_zero() { None } else { state.wait_slots.try_acquire().ok() };
    let too_many = !wait.is_zero() && slot.is_none();
    let until = Instant::now() + if too_many { Duration::ZERO } else { wait };
    // Subscribe before the first look, so that no change is missed.
    let mut changes = state.changes.subscribe();
    let dispatch = loop {
        let row = state.reader.dispatch(id.clone()).await?.ok_or_else(|| RestError::unknown(&id))?;
        let open = row.is_open();
        let dispatch = visible(&caller, &id, row.dispatch)?;
        let changed = after.is_none_or(|after| after != dispatch.state) || !open;
        if changed || Instant::now() >= until {
            break dispatch;
        }
        wait_for_change(&mut changes, &dispatch.dispatch, until).await?;
    };
    let waiting = state.waiting(vec![dispatch.dispatch.clone()]).await?.remove(&dispatch.dispatch);
    let attempts = state.reader.attempts(dispatch.dispatch.clone()).await?;
    // A caller that may not wait asks again; its connection is needed for others.
    let close = too_many.then_some([(CONNECTION, "close")]);
    Ok((close, json(&Dispatch { waiting, attempts, ..dispatch })?).into_response())
}

/// Wait until a dispatch may have changed, or until the time is up.
async fn wait_for_change(changes: &mut Receiver<Id>, dispatch: &str, until: Instant) -> Result<(), RestError> {
    loop {
        match timeout_at(until, changes.recv()).await {
            Ok(Ok(changed)) if *changed != *dispatch => {}
            Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => return Ok(()),
            Ok(Err(RecvError::Closed)) => return Err(RestError::new(StatusCode::SERVICE_UNAVAILABLE, STOPPING)),
        }
    }
}

/// Cancel a dispatch.
pub(crate) async fn cancel(
    State(state): SharedState,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Cancelled>), RestError> {
    let caller = caller_of(&state, &headers, None)?;
    if !caller.grants.room_admin {
        return Err(Denied::MissingGrant(CANCELS_DISPATCH).into());
    }
    let row = state.reader.dispatch(id.clone()).await?.ok_or_else(|| RestError::unknown(&id))?;
    let Dispatch { dispatch, room, .. } = visible(&caller, &id, row.dispatch)?;
    if !is_room_admin(&caller, &room) {
        return Err(Denied::MissingGrant(CANCELS_DISPATCH).into());
    }
    if cancel_dispatch(&state, dispatch.clone()).await? {
        return Ok((StatusCode::ACCEPTED, Json(Cancelled { dispatch })));
    }
    Err(RestError::new(StatusCode::CONFLICT, format!("`{id}` has ended")))
}

async fn cancel_dispatch(state: &ApiState, dispatch: String) -> Result<bool, TwirpError> {
    let (reply, open) = oneshot::channel();
    Ok(state.ask(Command::Cancel { dispatch, reply }, open).await??)
}

/// List the connected workers.
pub(crate) async fn workers(State(state): SharedState, headers: HeaderMap) -> Result<Response, RestError> {
    allow_list(&caller_of(&state, &headers, None)?)?;
    let _turn = state.list_turn().await?;
    let (reply, workers) = oneshot::channel();
    let workers = state.ask(Command::Workers { reply }, workers).await?;
    json(&PoolWorkerList { workers })
}

/// Sum the bills of the jobs that ended from a time on.
pub(crate) async fn usage(
    State(state): SharedState,
    headers: HeaderMap,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Response, RestError> {
    allow_list(&caller_of(&state, &headers, None)?)?;
    let Query(UsageQuery { by, since_ns }) = query?;
    let _turn = state.sums_turn().await?;
    let (since_ns, until_ns) = (since_ns.unwrap_or(0), Moment::now().wall_ns);
    let Ok(bills) = timeout(SUMS_WITHIN, state.reader.bills(by, since_ns..until_ns)).await else {
        let why = format!("the bills cannot be summed within {SUMS_WITHIN:?}; ask for a shorter time");
        return Err(RestError::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    json(&bills?.list(since_ns, until_ns))
}
