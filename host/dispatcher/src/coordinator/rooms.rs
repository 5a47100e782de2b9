//! The handling of rooms.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use proto::DisconnectReason;

use super::Coordinator;
use crate::answers::{ANSWER_BYTES_MAX, AnswerTooLong};
use crate::clock::Moment;
use crate::command::{CommandError, DispatchRequest};
use crate::room_host::HostedRoom;
use crate::rooms::{Room, RoomRequest};
use crate::scheduler::{Dispatch, Id};
use crate::store::StoreOp;
use wasm_worker_protocol::dispatcher_session::DispatchKey;

impl Coordinator {
    /// A new room with LiveKit's defaults.
    pub(super) fn default_room(&mut self, name: &str, now: Moment) -> Room {
        Room::new(name, self.scheduler.new_id("RM_").to_string(), now.wall_ns)
    }

    pub(super) fn add_room(&mut self, now: Moment, room: Room, ops: &mut Vec<StoreOp>) -> Result<(), CommandError> {
        if !self.rooms.has_capacity(&room.name, &room.metadata) {
            return Err(CommandError::TooManyRooms);
        }
        self.rooms.insert(now.at, room.clone());
        ops.push(StoreOp::Room(room));
        Ok(())
    }

    /// Dispatch a new room to the workers without a name, as LiveKit's server does. Without such a worker nothing waits for one.
    pub(super) fn dispatch_to_unnamed_workers(&mut self, now: Moment, room: &str, api_key: &Id) {
        let dispatch_key =
            DispatchKey { agent: String::new(), job_type: proto::JobType::JtRoom as i32, deployment: String::new() };
        let found = self.rooms.get(room).map(Room::to_proto);
        let Some(wire_room) = found.filter(|_| self.scheduler.has_worker(&dispatch_key)) else { return };
        let dispatch = Dispatch {
            id: self.scheduler.new_id("AD_"),
            api_key: api_key.clone(),
            dispatch_key,
            room: wire_room,
            metadata: String::new(),
            attributes: BTreeMap::new(),
            restart: proto::JobRestartPolicy::default(),
            priority: 0,
            created_ns: now.wall_ns,
            deadline_ns: now.wall_ns_after(self.queue_deadline),
        };
        if let Err(error) = self.schedule(now, dispatch, None) {
            tracing::warn!(target: "dispatcher", room, %error, "cannot dispatch the room to workers without a name");
        }
    }

    /// The rooms with these names, each once; all rooms for no names.
    pub(super) fn list_rooms(&self, names: &[String]) -> Result<Vec<proto::Room>, CommandError> {
        let mut rooms: Vec<&Room> = match names {
            [] => self.rooms.all().collect(),
            names => names.iter().filter_map(|name| self.rooms.get(name)).collect(),
        };
        rooms.sort_by(|one, other| (one.created_ns, &one.name).cmp(&(other.created_ns, &other.name)));
        rooms.dedup_by(|one, other| one.name == other.name);
        let bytes: usize = rooms.iter().map(|room| room.answer_bytes()).sum();
        if bytes > ANSWER_BYTES_MAX {
            return Err(AnswerTooLong.into());
        }
        let occupied = |room: &Room| {
            let occupancy = self.hosted.get(&room.name).map(HostedRoom::occupancy).unwrap_or_default();
            let num_participants = u32::try_from(occupancy.people).unwrap_or(u32::MAX);
            proto::Room { num_participants, ..room.to_proto() }
        };
        Ok(rooms.into_iter().map(occupied).collect())
    }

    /// Create a room with its first dispatches. As in LiveKit's server, a request for an existing room changes the fields that it
    /// sets. An agent that has no open dispatch in the room is dispatched, so that a repeated request dispatches nothing twice.
    pub(super) fn create_room(
        &mut self,
        request: RoomRequest,
        mut requests: Vec<DispatchRequest>,
        api_key: String,
    ) -> Result<Room, CommandError> {
        let (now, existing) = (Moment::now(), self.rooms.get(&request.name).cloned());
        let is_new = existing.is_none();
        let former = existing.clone().unwrap_or_else(|| self.default_room(&request.name, now));
        let room = former.changed_by(request);
        if !is_new {
            let open = self.scheduler.targets_in_room(&room.name);
            requests.retain(|request| !open.contains(&(request.agent.as_str(), request.deployment.as_str())));
        }
        if existing.as_ref() == Some(&room) && requests.is_empty() {
            return Ok(room);
        }
        self.check_store()?;
        let mut ops = Vec::new();
        if is_new {
            self.add_room(now, room.clone(), &mut ops)?;
        } else {
            self.change_room(now, room.clone(), &mut ops)?;
        }
        if is_new && requests.is_empty() {
            self.dispatch_to_unnamed_workers(now, &room.name, &api_key.as_str().into());
        }
        let created = requests.into_iter().try_for_each(|request| self.create_dispatch(request).map(drop));
        self.flush(ops);
        created.map(|()| room)
    }

    fn change_room(&mut self, now: Moment, room: Room, ops: &mut Vec<StoreOp>) -> Result<(), CommandError> {
        if !self.rooms.has_capacity(&room.name, &room.metadata) {
            return Err(CommandError::TooManyRooms);
        }
        self.rooms.change(now.at, room.clone());
        if let Some(hosted) = self.hosted.get(&room.name) {
            hosted.set_info(room.to_proto());
        }
        ops.push(StoreOp::Room(room));
        Ok(())
    }

    pub(super) fn set_metadata(&mut self, name: &str, metadata: String) -> Result<Option<Room>, CommandError> {
        self.check_store()?;
        let Some(room) = self.rooms.get(name).cloned() else { return Ok(None) };
        let (room, mut ops) = (Room { metadata, ..room }, Vec::new());
        self.change_room(Moment::now(), room.clone(), &mut ops)?;
        self.flush(ops);
        Ok(Some(room))
    }

    /// Delete a room, and cancel its dispatches. Returns whether the room existed.
    pub(super) fn delete_room(&mut self, name: String) -> Result<bool, CommandError> {
        self.check_writable()?;
        if self.rooms.remove(&name).is_none() {
            return Ok(false);
        }
        let now = Moment::now();
        self.close_hosted(&name, DisconnectReason::RoomDeleted);
        for dispatch in self.scheduler.in_room(&name) {
            self.scheduler.cancel(now, &dispatch, "the room was deleted");
        }
        self.flush(vec![StoreOp::RoomDeleted { name, at_ns: now.wall_ns }]);
        Ok(true)
    }
}
