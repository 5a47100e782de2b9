//! `livekit.RoomService`, as far as there are rooms without media: create, list and delete them; nobody is in them.

use livekit_protocol as proto;

use super::Door;
use super::api::{check_attributes, check_deployment, check_names, may_administer, refused};
use super::keys::Caller;
use super::order::{Order, Wanted};
use super::owner::now;
use super::rooms::{DEPARTURE_TIMEOUT, EMPTY_TIMEOUT, Room};
use super::twirp::{Code, TwirpError};

/// Dispatches that a room may begin with.
const AGENTS_MAX: usize = 100;

pub(crate) async fn create(
    door: &Door,
    caller: &Caller,
    request: proto::CreateRoomRequest,
) -> Result<proto::Room, TwirpError> {
    if !caller.grants.room_create {
        return Err(TwirpError::denied());
    }
    check_names("", &request.name)?;
    door.check_metadata(&request.metadata)?;
    if request.agents.len() > AGENTS_MAX {
        return Err(TwirpError::invalid(format!("a room begins with at most {AGENTS_MAX} agents")));
    }
    for _ in &request.agents {
        door.within_rate(caller)?;
    }
    let agents =
        request.agents.iter().map(|agent| wanted(door, caller, &request.name, agent)).collect::<Result<_, _>>()?;
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let room = Room {
        name: request.name,
        sid: String::new(),
        metadata: request.metadata,
        empty_timeout: or(request.empty_timeout, EMPTY_TIMEOUT),
        departure_timeout: or(request.departure_timeout, DEPARTURE_TIMEOUT),
        max_participants: request.max_participants,
        created_ns: 0,
    };
    let (reply, made) = tokio::sync::oneshot::channel();
    let order = Order::CreateRoom { room: Box::new(room), agents, key: caller.key.clone(), reply };
    let room = door.ask(order, made).await?.map_err(|refusal| refused(&refusal))?;
    Ok(room.to_proto())
}

fn wanted(door: &Door, caller: &Caller, room: &str, agent: &proto::RoomAgentDispatch) -> Result<Wanted, TwirpError> {
    check_names(&agent.agent_name, room)?;
    check_deployment(&agent.deployment)?;
    door.check_metadata(&agent.metadata)?;
    check_attributes(&agent.attributes)?;
    let waits = i64::try_from(door.queue_deadline.as_nanos()).unwrap_or(i64::MAX);
    Ok(Wanted {
        id: None,
        key: caller.key.clone(),
        agent: agent.agent_name.clone(),
        deployment: agent.deployment.clone(),
        room: room.to_owned(),
        metadata: agent.metadata.clone(),
        attributes: agent.attributes.clone().into_iter().collect(),
        restart: proto::JobRestartPolicy::try_from(agent.restart_policy).unwrap_or_default(),
        priority: 0,
        deadline_ns: now().wall_ns.saturating_add(waits),
    })
}

pub(crate) async fn list(
    door: &Door,
    caller: &Caller,
    request: proto::ListRoomsRequest,
) -> Result<proto::ListRoomsResponse, TwirpError> {
    if !caller.grants.room_list {
        return Err(TwirpError::denied());
    }
    let rooms = door.rooms(request.names).await?;
    Ok(proto::ListRoomsResponse { rooms: rooms.iter().map(Room::to_proto).collect() })
}

pub(crate) async fn delete(
    door: &Door,
    caller: &Caller,
    request: proto::DeleteRoomRequest,
) -> Result<proto::DeleteRoomResponse, TwirpError> {
    if !caller.grants.room_create {
        return Err(TwirpError::denied());
    }
    let (reply, found) = tokio::sync::oneshot::channel();
    match door.ask(Order::DeleteRoom { name: request.room, reply }, found).await? {
        true => Ok(proto::DeleteRoomResponse {}),
        false => Err(no_room()),
    }
}

pub(crate) async fn set_metadata(
    door: &Door,
    caller: &Caller,
    request: proto::UpdateRoomMetadataRequest,
) -> Result<proto::Room, TwirpError> {
    may_administer(caller, &request.room)?;
    door.check_metadata(&request.metadata)?;
    let (reply, changed) = tokio::sync::oneshot::channel();
    let order = Order::SetMetadata { room: request.room, metadata: request.metadata, reply };
    let room = door.ask(order, changed).await?.map_err(|refusal| refused(&refusal))?.ok_or_else(no_room)?;
    Ok(room.to_proto())
}

pub(crate) fn participants(
    caller: &Caller,
    request: proto::ListParticipantsRequest,
) -> Result<proto::ListParticipantsResponse, TwirpError> {
    may_administer(caller, &request.room)?;
    Ok(proto::ListParticipantsResponse::default())
}

pub(crate) async fn participant(
    door: &Door,
    caller: &Caller,
    request: proto::RoomParticipantIdentity,
) -> Result<proto::ParticipantInfo, TwirpError> {
    may_administer(caller, &request.room)?;
    door.room(&request.room).await?;
    Err(TwirpError::new(Code::NotFound, "participant does not exist"))
}

pub(crate) fn no_room() -> TwirpError {
    TwirpError::new(Code::NotFound, "requested room does not exist")
}
