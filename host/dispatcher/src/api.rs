//! `livekit.AgentDispatchService`: create, list and delete dispatches.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::HeaderMap;
use livekit_protocol as proto;
use proto::JobStatus;

use super::Door;
use super::keys::Caller;
use super::order::{Order, Refusal, Wanted};
use super::owner::now;
use super::pool::{Full, Waiting};
use super::store::{DispatchRow, Filter};
use super::twirp::{Code, TwirpError};
use wasm_worker_core::verdict::{Class, Code as EndCode, Verdict};
use wasm_worker_protocol::registration::check_deployment as check_deployment_name;

/// As LiveKit's server has it.
const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Dispatches of one room that are listed; the newest.
const LISTED_MAX: usize = 1_000;
/// Of their metadata.
const LISTED_BYTES_MAX: usize = 16 << 20;
/// Attributes of a dispatch that are meant for the dispatcher: the protocol has no fields for them.
pub const PRIORITY: &str = "wasm-worker.priority";
pub const DEADLINE: &str = "wasm-worker.deadline";
/// A request that comes again, with the same key, is the same dispatch.
const REQUEST_ID: &str = "x-livekit-request-id";

pub(crate) async fn create(
    door: &Door,
    caller: &Caller,
    headers: &HeaderMap,
    request: proto::CreateAgentDispatchRequest,
) -> Result<proto::AgentDispatch, TwirpError> {
    may_administer(caller, &request.room)?;
    door.within_rate(caller)?;
    let request_id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty());
    let id = request_id.map(|request_id| id_of(&caller.key, request_id));
    if let Some(id) = &id
        && let Some(row) = door.reader.dispatch(id.clone()).await?
    {
        return Ok(door.shown(vec![row]).await?.into_iter().next().unwrap_or_default());
    }
    let wanted = wanted(door, caller, id, &request)?;
    let (reply, made) = tokio::sync::oneshot::channel();
    let created = door.ask(Order::Create { wanted: Box::new(wanted), reply }, made).await?;
    let created = created.map_err(|refusal| refused(&refusal))?;
    Ok(proto::AgentDispatch {
        id: created.dispatch,
        agent_name: request.agent_name,
        room: request.room,
        metadata: request.metadata,
        restart_policy: request.restart_policy,
        deployment: request.deployment,
        attributes: request.attributes,
        state: Some(proto::AgentDispatchState { created_at: created.created_ns, ..Default::default() }),
    })
}

pub(crate) async fn list(
    door: &Door,
    caller: &Caller,
    request: proto::ListAgentDispatchRequest,
) -> Result<proto::ListAgentDispatchResponse, TwirpError> {
    may_administer(caller, &request.room)?;
    door.room(&request.room).await?;
    let rows = if request.dispatch_id.is_empty() {
        newest(door, request.room).await?
    } else {
        find(door, &request.room, &request.dispatch_id).await?.into_iter().collect()
    };
    Ok(proto::ListAgentDispatchResponse { agent_dispatches: door.shown(rows).await? })
}

pub(crate) async fn delete(
    door: &Door,
    caller: &Caller,
    request: proto::DeleteAgentDispatchRequest,
) -> Result<proto::AgentDispatch, TwirpError> {
    may_administer(caller, &request.room)?;
    let row = find(door, &request.room, &request.dispatch_id).await?;
    let row = row.ok_or_else(|| TwirpError::new(Code::NotFound, "dispatch ID not found"))?;
    let (reply, done) = tokio::sync::oneshot::channel();
    door.ask(Order::Delete { dispatch: request.dispatch_id, reply }, done).await?;
    let mut shown = door.shown(vec![row]).await?.into_iter().next().unwrap_or_default();
    if let Some(state) = &mut shown.state {
        state.deleted_at = now().wall_ns;
    }
    Ok(shown)
}

/// Of a room, those that fit, the oldest first.
async fn newest(door: &Door, room: String) -> Result<Vec<DispatchRow>, TwirpError> {
    let filter = Filter { room: Some(room), listed: true, limit: LISTED_MAX, ..Filter::default() };
    let mut rows = door.reader.dispatches(filter).await?;
    let mut bytes = 0;
    rows.retain(|row| {
        bytes += row.metadata.len();
        bytes <= LISTED_BYTES_MAX
    });
    rows.reverse();
    Ok(rows)
}

/// One that is listed in this room.
async fn find(door: &Door, room: &str, id: &str) -> Result<Option<DispatchRow>, TwirpError> {
    let row = door.reader.dispatch(id.to_owned()).await?;
    Ok(row.filter(|row| row.room == room && row.dispatch == id && row.deleted_ns.is_none()))
}

/// As LiveKit's server checks it for everything that concerns one room.
pub(crate) fn may_administer(caller: &Caller, room: &str) -> Result<(), TwirpError> {
    let may = caller.grants.room_admin && caller.grants.room == room && !room.is_empty();
    if may { Ok(()) } else { Err(TwirpError::denied()) }
}

/// The same each time, and another one for each key.
fn id_of(key: &str, request_id: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes()).update(&[0]).update(request_id.as_bytes());
    let hex = hasher.finalize().to_hex();
    format!("AD_{}", hex.get(..24).unwrap_or_default())
}

fn wanted(
    door: &Door,
    caller: &Caller,
    id: Option<String>,
    request: &proto::CreateAgentDispatchRequest,
) -> Result<Wanted, TwirpError> {
    check_names(&request.agent_name, &request.room)?;
    check_deployment(&request.deployment)?;
    door.check_metadata(&request.metadata)?;
    let attributes = &request.attributes;
    check_attributes(attributes)?;
    let restart = proto::JobRestartPolicy::try_from(request.restart_policy);
    let restart = restart.map_err(|_| TwirpError::invalid(format!("no restart policy {}", request.restart_policy)))?;
    Ok(Wanted {
        id,
        key: caller.key.clone(),
        agent: request.agent_name.clone(),
        deployment: request.deployment.clone(),
        room: request.room.clone(),
        metadata: request.metadata.clone(),
        attributes: attributes.clone().into_iter().collect(),
        restart,
        priority: priority(attributes)?,
        deadline_ns: deadline(attributes, door.queue_deadline)?,
    })
}

pub(crate) fn check_deployment(name: &str) -> Result<(), TwirpError> {
    check_deployment_name(name)
        .map_err(|why| TwirpError::invalid(format!("the deployment `{name}` is not usable: {why}")))
}

pub(crate) fn check_attributes(attributes: &HashMap<String, String>) -> Result<(), TwirpError> {
    let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ATTRIBUTES_BYTES_MAX {
        return Err(TwirpError::invalid(format!(
            "the attributes have {bytes} bytes, at most {ATTRIBUTES_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

pub(crate) fn check_names(agent: &str, room: &str) -> Result<(), TwirpError> {
    if room.is_empty() {
        return Err(TwirpError::invalid("a dispatch needs a room"));
    }
    for (what, name) in [("agent", agent), ("room", room)] {
        if name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(TwirpError::invalid(format!(
                "the name of the {what} has more than {NAME_BYTES_MAX} bytes, or control characters"
            )));
        }
    }
    Ok(())
}

fn priority(attributes: &HashMap<String, String>) -> Result<i32, TwirpError> {
    let Some(text) = attributes.get(PRIORITY) else { return Ok(0) };
    text.parse().map_err(|_| TwirpError::invalid(format!("attribute `{PRIORITY}` is `{text}`, want a whole number")))
}

fn deadline(attributes: &HashMap<String, String>, default: Duration) -> Result<i64, TwirpError> {
    let time = match attributes.get(DEADLINE) {
        None => default,
        Some(text) => wasm_worker_core::duration::parse(text)
            .map_err(|why| TwirpError::invalid(format!("attribute `{DEADLINE}` is `{text}`: {why}")))?,
    };
    Ok(now().wall_ns.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
}

pub(crate) fn refused(refusal: &Refusal) -> TwirpError {
    match refusal {
        Refusal::Full(Full::Queue(_) | Full::Memory(_)) | Refusal::Rooms | Refusal::StoreFull => {
            TwirpError::new(Code::ResourceExhausted, refusal.text()).retry_after(1)
        }
        Refusal::Stuck(_) => TwirpError::new(Code::Unavailable, refusal.text()).retry_after(5),
    }
}

/// A dispatch as LiveKit's clients read it: with the job of its present attempt, and how that ended.
pub(crate) fn to_proto(row: DispatchRow, waiting: Option<&Waiting>) -> proto::AgentDispatch {
    let job = proto::Job {
        id: row.job,
        dispatch_id: row.dispatch.clone(),
        r#type: proto::JobType::JtRoom as i32,
        room: Some(proto::Room { name: row.room.clone(), sid: row.room_sid, ..Default::default() }),
        metadata: row.metadata.clone(),
        agent_name: row.agent.clone(),
        deployment: row.deployment.clone(),
        attributes: row.attributes.clone().into_iter().collect(),
        state: Some(proto::JobState {
            status: status(row.verdict.as_ref(), row.assigned_ns.is_some()) as i32,
            error: error(row.verdict.as_ref(), waiting),
            started_at: row.started_ns.or(row.assigned_ns).unwrap_or(0),
            ended_at: row.ended_ns.unwrap_or(0),
            updated_at: row.ended_ns.or(row.started_ns).or(row.assigned_ns).unwrap_or(row.created_ns),
            participant_identity: row.identity.unwrap_or_default(),
            worker_id: row.worker.unwrap_or_default(),
            ..Default::default()
        }),
        ..Default::default()
    };
    proto::AgentDispatch {
        id: row.dispatch,
        agent_name: row.agent,
        room: row.room,
        metadata: row.metadata,
        restart_policy: row.restart,
        deployment: row.deployment,
        attributes: row.attributes.into_iter().collect(),
        state: Some(proto::AgentDispatchState { jobs: vec![job], created_at: row.created_ns, ..Default::default() }),
    }
}

fn status(verdict: Option<&Verdict>, assigned: bool) -> JobStatus {
    match (verdict.map(|verdict| verdict.code), assigned) {
        (None, false) => JobStatus::JsPending,
        (None, true) => JobStatus::JsRunning,
        // A dispatch that nobody wants run has not failed, as LiveKit's server sees it.
        (Some(EndCode::Rejected | EndCode::Cancelled), _) => JobStatus::JsSuccess,
        (Some(code), _) if code.class() == Class::Ok => JobStatus::JsSuccess,
        (Some(_), _) => JobStatus::JsFailed,
    }
}

/// The error of a dispatch that failed, or the reason why it waits.
fn error(verdict: Option<&Verdict>, waiting: Option<&Waiting>) -> String {
    match (verdict, waiting) {
        (Some(verdict), _) if verdict.code.class() == Class::Ok => String::new(),
        (Some(Verdict { code, detail, .. }), _) => format!("{code}: {detail}"),
        (None, Some(Waiting { position: 0, why, .. })) => format!("pending: {why}"),
        (None, Some(Waiting { position, of, why })) => format!("pending: {position} of {of}; {why}"),
        (None, None) => String::new(),
    }
}
