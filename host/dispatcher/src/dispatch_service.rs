//! `livekit.AgentDispatchService`: create, list and delete dispatches.

use axum::http::HeaderMap;
use livekit_protocol as proto;
use proto::JobStatus;
use tokio::sync::oneshot;

use crate::answers::ANSWER_BYTES_MAX;
use crate::api_state::ApiState;
use crate::auth::allow_room_admin;
use crate::checks::{check_attributes, check_deployment, check_names, deadline_ns, priority};
use crate::clock::Moment;
use crate::command::{Command, CommandError, DispatchRequest, DispatchTarget};
use crate::keys::Caller;
use crate::store::{DispatchRow, Filter};
use crate::twirp::{Code, TwirpError};
use wasm_worker_core::api::dispatcher::{Dispatch, Waiting};
use wasm_worker_core::verdict::{Class, Code as EndCode, Verdict};

/// Most dispatches in a list; the newest ones.
const LISTED_MAX: usize = 1_000;
/// Most bytes of a dispatch in a list beside its metadata and attributes.
const LISTED_OVERHEAD_BYTES: usize = 2 << 10;
/// The header by which a repeated request is recognised. The id of its dispatch is derived from it.
const REQUEST_ID: &str = "x-livekit-request-id";

pub(crate) async fn create(
    state: &ApiState,
    caller: &Caller,
    headers: &HeaderMap,
    request: proto::CreateAgentDispatchRequest,
) -> Result<proto::AgentDispatch, TwirpError> {
    allow_room(caller, &request.room)?;
    state.check_rate(caller)?;
    let request_id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty());
    let id = request_id.map(|request_id| dispatch_id(&caller.api_key, request_id));
    if let Some(id) = &id
        && let Some(row) = state.reader.dispatch(id.clone()).await?
    {
        let Dispatch { agent, deployment, room, .. } = &row.dispatch;
        let target = DispatchTarget { agent: agent.clone(), deployment: deployment.clone(), room: room.clone() };
        if target != DispatchTarget::of_request(&request) {
            return Err(CommandError::OtherRequest.into());
        }
        return Ok(agent_dispatches(state, vec![row]).await?.into_iter().next().unwrap_or_default());
    }
    let dispatch_request = dispatch_request(state, caller, id, &request)?;
    let (reply, answer) = oneshot::channel();
    let created = state.ask(Command::Create { request: Box::new(dispatch_request), reply }, answer).await??;
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

/// Allow a request that concerns one room.
pub(crate) fn allow_room(caller: &Caller, room: &str) -> Result<(), TwirpError> {
    if room.is_empty() {
        return Err(TwirpError::invalid("the name of the room is missing"));
    }
    Ok(allow_room_admin(caller, room)?)
}

pub(crate) async fn list(
    state: &ApiState,
    caller: &Caller,
    request: proto::ListAgentDispatchRequest,
) -> Result<proto::ListAgentDispatchResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    state.room(&request.room).await?;
    let rows = if request.dispatch_id.is_empty() {
        newest(state, request.room).await?
    } else {
        find(state, &request.room, &request.dispatch_id).await?.into_iter().collect()
    };
    Ok(proto::ListAgentDispatchResponse { agent_dispatches: agent_dispatches(state, rows).await? })
}

pub(crate) async fn delete(
    state: &ApiState,
    caller: &Caller,
    request: proto::DeleteAgentDispatchRequest,
) -> Result<proto::AgentDispatch, TwirpError> {
    allow_room(caller, &request.room)?;
    let row = find(state, &request.room, &request.dispatch_id).await?;
    let row = row.ok_or_else(|| TwirpError::new(Code::NotFound, "dispatch ID not found"))?;
    let (reply, done) = oneshot::channel();
    state.ask(Command::Delete { dispatch: request.dispatch_id, reply }, done).await??;
    let mut deleted = agent_dispatches(state, vec![row]).await?.into_iter().next().unwrap_or_default();
    if let Some(state) = &mut deleted.state {
        state.deleted_at = Moment::now().wall_ns;
    }
    Ok(deleted)
}

/// The newest dispatches of a room that a list may have, the oldest first.
async fn newest(state: &ApiState, room: String) -> Result<Vec<DispatchRow>, TwirpError> {
    let filter = Filter { room: Some(room), not_deleted: true, limit: LISTED_MAX, ..Filter::default() };
    let mut rows = state.reader.dispatches(filter).await?;
    let mut bytes = 0;
    rows.retain(|row| {
        bytes += listed_bytes(&row.dispatch);
        bytes <= ANSWER_BYTES_MAX
    });
    rows.reverse();
    Ok(rows)
}

/// The size of a dispatch in a list. The dispatch and its job both have metadata and attributes.
fn listed_bytes(dispatch: &Dispatch) -> usize {
    let attributes = dispatch.attributes.iter().flatten().map(|(name, value)| name.len() + value.len());
    let data = dispatch.metadata.as_deref().unwrap_or_default().len() + attributes.sum::<usize>();
    LISTED_OVERHEAD_BYTES + 2 * data
}

/// The dispatch of a room with this id, unless it is deleted.
async fn find(state: &ApiState, room: &str, id: &str) -> Result<Option<DispatchRow>, TwirpError> {
    let row = state.reader.dispatch(id.to_owned()).await?;
    Ok(row.filter(|row| row.dispatch.room == room && row.dispatch.dispatch == id && !row.deleted))
}

/// The id of the dispatch for a request id: the same for each repetition, and another one for each API key.
fn dispatch_id(api_key: &str, request_id: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(api_key.as_bytes()).update(&[0]).update(request_id.as_bytes());
    let hex = hasher.finalize().to_hex();
    format!("AD_{}", hex.get(..24).unwrap_or_default())
}

fn dispatch_request(
    state: &ApiState,
    caller: &Caller,
    id: Option<String>,
    request: &proto::CreateAgentDispatchRequest,
) -> Result<DispatchRequest, TwirpError> {
    check_names(&request.agent_name, &request.room)?;
    check_deployment(&request.deployment)?;
    state.check_metadata(&request.metadata)?;
    let attributes = &request.attributes;
    check_attributes(attributes)?;
    let restart = proto::JobRestartPolicy::try_from(request.restart_policy)
        .map_err(|_| TwirpError::invalid(format!("unknown restart policy {}", request.restart_policy)))?;
    Ok(DispatchRequest {
        id,
        api_key: caller.api_key.clone(),
        agent: request.agent_name.clone(),
        deployment: request.deployment.clone(),
        room: request.room.clone(),
        metadata: request.metadata.clone(),
        attributes: attributes.clone().into_iter().collect(),
        only_worker: None,
        restart,
        priority: priority(attributes)?,
        deadline_ns: deadline_ns(attributes, state.queue_deadline)?,
    })
}

/// Dispatches as LiveKit's clients read them; those that wait with their reason.
async fn agent_dispatches(state: &ApiState, rows: Vec<DispatchRow>) -> Result<Vec<proto::AgentDispatch>, TwirpError> {
    let open = rows.iter().filter(|row| row.is_open()).map(|row| row.dispatch.dispatch.clone()).collect();
    let waiting = state.waiting(open).await?;
    let to_proto = |row: DispatchRow| {
        let waiting = waiting.get(&row.dispatch.dispatch);
        agent_dispatch(row, waiting)
    };
    Ok(rows.into_iter().map(to_proto).collect())
}

/// A dispatch with the job of its current attempt, and the end of that.
fn agent_dispatch(row: DispatchRow, waiting: Option<&Waiting>) -> proto::AgentDispatch {
    let DispatchRow { dispatch, room_sid, restart, identity, .. } = row;
    let Dispatch { dispatch: id, job, agent, deployment, room, metadata, attributes, verdict, worker, .. } = dispatch;
    let (created_ns, assigned_ns) = (dispatch.created_ns, dispatch.assigned_ns);
    let (started_ns, ended_ns) = (dispatch.started_ns, dispatch.ended_ns);
    let (metadata, attributes) = (metadata.unwrap_or_default(), attributes.unwrap_or_default());
    let job = proto::Job {
        id: job,
        dispatch_id: id.clone(),
        r#type: proto::JobType::JtRoom as i32,
        room: Some(proto::Room { name: room.clone(), sid: room_sid, ..Default::default() }),
        metadata: metadata.clone(),
        agent_name: agent.clone(),
        deployment: deployment.clone(),
        attributes: attributes.clone().into_iter().collect(),
        state: Some(proto::JobState {
            status: status(verdict.as_ref(), assigned_ns.is_some()) as i32,
            error: error(verdict.as_ref(), waiting),
            started_at: started_ns.or(assigned_ns).unwrap_or(0),
            ended_at: ended_ns.unwrap_or(0),
            updated_at: ended_ns.or(started_ns).or(assigned_ns).unwrap_or(created_ns),
            participant_identity: identity.unwrap_or_default(),
            worker_id: worker.unwrap_or_default(),
            ..Default::default()
        }),
        ..Default::default()
    };
    proto::AgentDispatch {
        id,
        agent_name: agent,
        room,
        metadata,
        restart_policy: restart,
        deployment,
        attributes: attributes.into_iter().collect(),
        state: Some(proto::AgentDispatchState { jobs: vec![job], created_at: created_ns, ..Default::default() }),
    }
}

fn status(verdict: Option<&Verdict>, assigned: bool) -> JobStatus {
    match (verdict.map(|verdict| verdict.code), assigned) {
        (None, false) => JobStatus::JsPending,
        (None, true) => JobStatus::JsRunning,
        // LiveKit's server does not count a rejected or cancelled dispatch as failed.
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
