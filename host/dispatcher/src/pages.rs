//! What `wasm-worker jobs`, `job`, `workers` and `cancel` read and do: JSON over HTTP, with a token that may list rooms, or
//! create them for what changes something.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::http::{Denied, Shown, caller_of};
use super::order::Order;
use super::pool::Waiting;
use super::store::{DispatchRow, Filter};
use super::twirp::TwirpError;

const LISTED: usize = 100;
const LISTED_MAX: usize = 10_000;
/// Longest wait of one request.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Which dispatches are wanted.
#[derive(Deserialize)]
pub(super) struct Wanted {
    room: Option<String>,
    /// `open` or `ended`.
    state: Option<String>,
    limit: Option<usize>,
}

/// Wait until it is in another state than this one, but not longer than so many milliseconds.
#[derive(Deserialize)]
pub(super) struct Wait {
    after: Option<String>,
    wait_ms: Option<u64>,
}

pub(super) async fn jobs(
    State(door): Shown,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Response> {
    may_read(&door, &headers).map_err(IntoResponse::into_response)?;
    let open = match wanted.state.as_deref() {
        None => None,
        Some("open") => Some(true),
        Some("ended") => Some(false),
        Some(other) => {
            return Err(problem(StatusCode::BAD_REQUEST, &format!("state `{other}`: want `open` or `ended`")));
        }
    };
    let limit = wanted.limit.unwrap_or(LISTED).min(LISTED_MAX);
    let filter = Filter { room: wanted.room, listed: false, open, limit };
    let rows = door.reader.dispatches(filter).await.map_err(failed)?;
    let open: Vec<String> = rows.iter().filter(|row| row.ended_ns.is_none()).map(|row| row.dispatch.clone()).collect();
    let mut waiting = door.waiting(open).await.map_err(IntoResponse::into_response)?;
    let jobs: Vec<Value> = rows.iter().map(|row| in_brief(shown(row, waiting.remove(&row.dispatch)))).collect();
    Ok(Json(json!({ "jobs": jobs })))
}

pub(super) async fn job(
    State(door): Shown,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Response, Response> {
    may_read(&door, &headers).map_err(IntoResponse::into_response)?;
    let wait_ms = wait.wait_ms.unwrap_or(0);
    let place = if wait_ms > 0 { door.waits.try_acquire().ok() } else { None };
    let turned_away = wait_ms > 0 && place.is_none();
    // From before it is looked at, so that no change is missed.
    let mut changes = door.changes.subscribe();
    let patience = if turned_away { Duration::ZERO } else { Duration::from_millis(wait_ms).min(WAIT_MAX) };
    let until = Instant::now() + patience;
    loop {
        let row = door.reader.dispatch(id.clone()).await.map_err(failed)?;
        let row = row.ok_or_else(|| unknown(&id))?;
        let changed = wait.after.as_deref().is_none_or(|after| after != state(&row)) || row.ended_ns.is_some();
        if changed || Instant::now() >= until {
            let waiting = door.waiting(vec![row.dispatch.clone()]).await.map_err(IntoResponse::into_response)?;
            let attempts = door.reader.attempts(row.dispatch.clone()).await.map_err(failed)?;
            let mut job = shown(&row, waiting.into_values().next());
            if let Some(job) = job.as_object_mut() {
                job.insert("attempts".into(), json!(attempts));
            }
            // The connection is wanted for others.
            let close = turned_away.then_some([(CONNECTION, "close")]);
            return Ok((close, Json(job)).into_response());
        }
        loop {
            match timeout_at(until, changes.recv()).await {
                Ok(Ok(dispatch)) if *dispatch != *row.dispatch => {}
                Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => break,
                Ok(Err(RecvError::Closed)) => {
                    return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the dispatcher is being stopped"));
                }
            }
        }
    }
}

pub(super) async fn cancel(
    State(door): Shown,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let caller = caller_of(&door, &headers, None).map_err(IntoResponse::into_response)?;
    if !caller.grants.room_create {
        return Err(TwirpError::denied().into_response());
    }
    let row = door.reader.dispatch(id.clone()).await.map_err(failed)?.ok_or_else(|| unknown(&id))?;
    let (reply, found) = tokio::sync::oneshot::channel();
    let order = Order::Cancel { dispatch: row.dispatch.clone(), reply };
    match door.ask(order, found).await.map_err(IntoResponse::into_response)? {
        true => Ok((StatusCode::ACCEPTED, Json(json!({ "dispatch": row.dispatch }))).into_response()),
        false => Err(problem(StatusCode::CONFLICT, &format!("`{id}` is over"))),
    }
}

pub(super) async fn workers(State(door): Shown, headers: HeaderMap) -> Result<Json<Value>, Response> {
    may_read(&door, &headers).map_err(IntoResponse::into_response)?;
    let (reply, workers) = tokio::sync::oneshot::channel();
    let workers = door.ask(Order::Workers { reply }, workers).await.map_err(IntoResponse::into_response)?;
    Ok(Json(json!({ "workers": workers })))
}

fn may_read(door: &super::Door, headers: &HeaderMap) -> Result<(), Denied> {
    match caller_of(door, headers, None)?.grants.room_list {
        true => Ok(()),
        false => Err(Denied::NotAllowed),
    }
}

/// `pending`, `assigned`, `running` or `ended`.
fn state(row: &DispatchRow) -> &'static str {
    match row {
        DispatchRow { ended_ns: Some(_), .. } => "ended",
        DispatchRow { started_ns: Some(_), .. } => "running",
        DispatchRow { assigned_ns: Some(_), .. } => "assigned",
        DispatchRow { .. } => "pending",
    }
}

fn shown(row: &DispatchRow, waiting: Option<Waiting>) -> Value {
    let mut job = json!(row);
    if let Some(job) = job.as_object_mut() {
        job.insert("state".into(), state(row).into());
        job.insert("waiting".into(), json!(waiting));
    }
    job
}

/// Without what may be large.
fn in_brief(mut job: Value) -> Value {
    if let Some(job) = job.as_object_mut() {
        job.remove("metadata");
        job.remove("attributes");
    }
    job
}

fn failed(error: super::store::ReadError) -> Response {
    TwirpError::from(error).into_response()
}

fn unknown(id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, &format!("no dispatch or job `{id}` here"))
}

fn problem(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}
