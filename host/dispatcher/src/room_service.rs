//! `livekit.RoomService`, as far as rooms without media allow: create, list and delete rooms. A room has no participants.

use livekit_protocol as proto;
use tokio::sync::oneshot;

use crate::api_state::{ApiState, no_such_room};
use crate::auth::{allow_create, allow_list};
use crate::checks::{check_attributes, check_deployment, check_names};
use crate::clock::Moment;
use crate::command::{Command, DispatchRequest};
use crate::dispatch_service::allow_room;
use crate::keys::Caller;
use crate::rooms::{Room, RoomRequest};
use crate::twirp::{Code, TwirpError};

/// Most dispatches that a room is created with.
const AGENTS_MAX: usize = 100;
/// Most rooms that a caller may ask for by name.
const NAMES_MAX: usize = 1_000;

pub(crate) async fn create(
    state: &ApiState,
    caller: &Caller,
    request: proto::CreateRoomRequest,
) -> Result<proto::Room, TwirpError> {
    allow_create(caller)?;
    check_names("", &request.name)?;
    state.check_metadata(&request.metadata)?;
    if request.agents.len() > AGENTS_MAX {
        let count = request.agents.len();
        return Err(TwirpError::invalid(format!("the room has {count} agents, at most {AGENTS_MAX} are allowed")));
    }
    for _ in &request.agents {
        state.check_rate(caller)?;
    }
    let agents = request.agents.iter();
    let requests =
        agents.map(|agent| dispatch_request(state, caller, &request.name, agent)).collect::<Result<_, _>>()?;
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
    let rooms = state.rooms(request.names).await?;
    Ok(proto::ListRoomsResponse { rooms: rooms.iter().map(Room::to_proto).collect() })
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

pub(crate) fn participants(
    caller: &Caller,
    request: proto::ListParticipantsRequest,
) -> Result<proto::ListParticipantsResponse, TwirpError> {
    allow_room(caller, &request.room)?;
    Ok(proto::ListParticipantsResponse::default())
}

pub(crate) async fn participant(
    state: &ApiState,
    caller: &Caller,
    request: proto::RoomParticipantIdentity,
) -> Result<proto::ParticipantInfo, TwirpError> {
    allow_room(caller, &request.room)?;
    state.room(&request.room).await?;
    Err(TwirpError::new(Code::NotFound, "participant does not exist"))
}
