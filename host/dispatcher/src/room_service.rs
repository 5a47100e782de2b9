//! `livekit.RoomService`: rooms, and the participants of those that are served with their tracks.

use std::time::Duration;

use livekit_protocol as proto;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api_state::{ApiState, no_such_room};
use crate::auth::{allow_create, allow_list};
use crate::checks::{check_attributes, check_deployment, check_names};
use crate::clock::Moment;
use crate::command::{Command, DispatchRequest};
use crate::dispatch_service::allow_room;
use crate::keys::Caller;
use crate::room_host::{MuteError, RoomHandle, RoomInput, RoomOver};
use crate::rooms::RoomRequest;
use crate::twirp::{Code, TwirpError};

/// Most dispatches that a room is created with.
const AGENTS_MAX: usize = 100;
/// Most rooms that a caller may ask for by name.
const NAMES_MAX: usize = 1_000;
/// Time limit for the answer of a room.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn create(
    state: &ApiState,
    caller: &Caller,
    request: proto::CreateRoomRequest,
) -> Result<proto::Room, TwirpError> {
    allow_create(caller)?;
    check_names("", &request.name)?;
    state.check_metadata(&request.metadata)?;
    for _ in request.agents.iter().take(AGENTS_MAX) {
        state.check_rate(caller)?;
    }
    let requests = first_dispatches(state, caller, &request.name, &request.agents)?;
    let room = RoomRequest {
        name: request.name,
        metadata: request.metadata,
        empty_timeout: request.empty_timeout,
        departure_timeout: request.departure_timeout,
        max_participants: request.max_participants,
    };
    let (reply, answer) = oneshot::channel();
    let command = Command::CreateRoom { room: Box::new(room), requests, api_key: caller.api_key.clone(), reply };
    Ok(state.ask(command, answer).await??.to_proto())
}

/// The room that a token describes for the case that its person is the first in it, with the first dispatches.
pub(crate) fn room_of_token(
    state: &ApiState,
    caller: &Caller,
) -> Result<(RoomRequest, Vec<DispatchRequest>), TwirpError> {
    let (name, config) = (caller.grants.room.clone(), &caller.room_config);
    state.check_metadata(&config.metadata)?;
    let requests = first_dispatches(state, caller, &name, &config.agents)?;
    let room = RoomRequest {
        name,
        metadata: config.metadata.clone(),
        empty_timeout: config.empty_timeout,
        departure_timeout: config.departure_timeout,
        max_participants: config.max_participants,
    };
    Ok((room, requests))
}

fn first_dispatches(
    state: &ApiState,
    caller: &Caller,
    room: &str,
    agents: &[proto::RoomAgentDispatch],
) -> Result<Vec<DispatchRequest>, TwirpError> {
    if agents.len() > AGENTS_MAX {
        let count = agents.len();
        return Err(TwirpError::invalid(format!("the room has {count} agents, at most {AGENTS_MAX} are allowed")));
    }
    agents.iter().map(|agent| dispatch_request(state, caller, room, agent)).collect()
}

fn dispatch_request(
    state: &ApiState,
    caller: &Caller,
    room: &str,
    agent: &proto::RoomAgentDispatch,
) -> Result<DispatchRequest, TwirpError> {
    check_names(&agent.agent_name, room)?;
    check_deployment(&agent.deployment)?;
    state.check_metadata(&agent.metadata)?;
    check_attributes(&agent.attributes)?;
    Ok(DispatchRequest {
        id: None,
        api_key: caller.api_key.clone(),
        agent: agent.agent_name.clone(),
        deployment: agent.deployment.clone(),
        room: room.to_owned(),
        metadata: agent.metadata.clone(),
        attributes: agent.attributes.clone().into_iter().collect(),
        only_worker: None,
        restart: proto::JobRestartPolicy::try_from(agent.restart_policy).unwrap_or_default(),
        priority: 0,
        deadline_ns: Moment::now().wall_ns_after(state.queue_deadline),
    })
}

pub(crate) async fn list(
    state: &ApiState,
    caller: &Caller,
    request: proto::ListRoomsRequest,
) -> Result<proto::ListRoomsResponse, TwirpError> {
    allow_list(caller)?;
    if request.names.len() > NAMES_MAX {
        let count = request.names.len();
        return Err(TwirpError::invalid(format!("the request names {count} rooms, at most {NAMES_MAX} are allowed")));
    }
    Ok(proto::ListRoomsResponse { rooms: state.rooms(request.names).await? })
}

pub(crate) async fn delete(
    state: &ApiState,
    caller: &Caller,
    request: proto::DeleteRoomRequest,
) -> Result<proto::DeleteRoomResponse, TwirpError> {
    allow_create(caller)?;
    let (reply, existed) = oneshot::channel();
    match state.ask(Command::DeleteRoom { name: request.room, reply }, existed).await?? {
        true => Ok(proto::DeleteRoomResponse {}),
        false => Err(no_such_room()),
    }
}

pub(crate) async fn set_metadata(
    state: &ApiState,
    caller: &Caller,
    request: proto::UpdateRoomMetadataRequest,
) -> Result<proto::Room, TwirpError> {
    allow_room(caller, &request.room)?;
    state.check_metadata(&request.metadata)?;
    let (reply, answer) = oneshot::channel();
    let command = Command::SetMetadata { room: request.room, metadata: request.metadata, reply };
    let room = state.ask(command, answer).await??;
    Ok(room.ok_or_else(no_such_room)?.to_proto())
}

pub(crate) async fn participants(
    state: &ApiState,
    caller: &Caller,
    request: proto::ListParticipantsRequest,
) -> Result<proto::ListParticipantsResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    let Some(room) = hosted(state, &request.room).await? else { return Ok(Default::default()) };
    let participants = answer(room.ask(|reply| RoomInput::Participants { reply })).await?.unwrap_or_default();
    Ok(proto::ListParticipantsResponse { participants })
}

pub(crate) async fn participant(
    state: &ApiState,
    caller: &Caller,
    request: proto::RoomParticipantIdentity,
) -> Result<proto::ParticipantInfo, TwirpError> {
    allow_room(caller, &request.room)?;
    state.room(&request.room).await?;
    let Some(room) = hosted(state, &request.room).await? else { return Err(no_such_participant()) };
    let participants = answer(room.ask(|reply| RoomInput::Participants { reply })).await?.unwrap_or_default();
    participants.into_iter().find(|one| one.identity == request.identity).ok_or_else(no_such_participant)
}

pub(crate) async fn remove(
    state: &ApiState,
    caller: &Caller,
    request: proto::RoomParticipantIdentity,
) -> Result<proto::RemoveParticipantResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    let Some(room) = hosted(state, &request.room).await? else { return Err(no_such_participant()) };
    let identity = request.identity;
    match answer(room.ask(|reply| RoomInput::Remove { identity, reply })).await? {
        Some(true) => Ok(proto::RemoveParticipantResponse::default()),
        Some(false) | None => Err(no_such_participant()),
    }
}

pub(crate) async fn update(
    state: &ApiState,
    caller: &Caller,
    request: proto::UpdateParticipantRequest,
) -> Result<proto::ParticipantInfo, TwirpError> {
    allow_room(caller, &request.room)?;
    let Some(room) = hosted(state, &request.room).await? else { return Err(no_such_participant()) };
    let request = Box::new(request);
    let updated = answer(room.ask(|reply| RoomInput::Update { request, reply })).await?.flatten();
    updated.ok_or_else(no_such_participant)?.map_err(|error| TwirpError::invalid(error.to_string()))
}

pub(crate) async fn mute(
    state: &ApiState,
    caller: &Caller,
    request: proto::MuteRoomTrackRequest,
) -> Result<proto::MuteRoomTrackResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    let Some(room) = hosted(state, &request.room).await? else { return Err(no_such_participant()) };
    let request = Box::new(request);
    let muted = answer(room.ask(|reply| RoomInput::Mute { request, reply })).await?.ok_or_else(no_such_participant)?;
    let refusal = |error: MuteError| match error {
        MuteError::Participant => no_such_participant(),
        MuteError::Track => TwirpError::new(Code::NotFound, error.to_string()),
        MuteError::Unmute => TwirpError::new(Code::FailedPrecondition, error.to_string()),
    };
    muted.map(|track| proto::MuteRoomTrackResponse { track: Some(track) }).map_err(refusal)
}

pub(crate) async fn subscribe(
    state: &ApiState,
    caller: &Caller,
    request: proto::UpdateSubscriptionsRequest,
) -> Result<proto::UpdateSubscriptionsResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    let Some(room) = hosted(state, &request.room).await? else { return Err(no_such_participant()) };
    let request = Box::new(request);
    match answer(room.ask(|reply| RoomInput::Subscribe { request, reply })).await? {
        Some(true) => Ok(proto::UpdateSubscriptionsResponse::default()),
        Some(false) | None => Err(no_such_participant()),
    }
}

pub(crate) async fn send_data(
    state: &ApiState,
    caller: &Caller,
    request: proto::SendDataRequest,
) -> Result<proto::SendDataResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    state.room(&request.room).await?;
    // Nobody has been there, and nobody gets it.
    let Some(room) = hosted(state, &request.room).await? else { return Ok(Default::default()) };
    let request = Box::new(request);
    let sent = answer(room.ask(|reply| RoomInput::SendData { request, reply })).await?.ok_or_else(no_such_room)?;
    sent.map(|()| proto::SendDataResponse::default()).map_err(|error| TwirpError::invalid(error.to_string()))
}

/// The room with this name, if it is served: once somebody was there.
async fn hosted(state: &ApiState, name: &str) -> Result<Option<RoomHandle>, TwirpError> {
    let (reply, handle) = oneshot::channel();
    state.ask(Command::HostedRoom { name: name.to_owned(), reply }, handle).await
}

/// The answer of a room; none where it ended in the meantime.
async fn answer<T>(asking: impl Future<Output = Result<T, RoomOver>>) -> Result<Option<T>, TwirpError> {
    let asked = timeout(ANSWER_WITHIN, asking).await;
    let late = |_| TwirpError::new(Code::Unavailable, format!("the room did not answer within {ANSWER_WITHIN:?}"));
    Ok(asked.map_err(late)?.ok())
}

fn no_such_participant() -> TwirpError {
    TwirpError::new(Code::NotFound, "participant does not exist")
}
