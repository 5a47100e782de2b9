//! The handling of rooms.

use std::collections::BTreeMap;

use livekit_protocol as proto;

use super::Coordinator;
use crate::clock::Moment;
use crate::command::{CommandError, DispatchRequest};
use crate::rooms::{DEPARTURE_TIMEOUT, EMPTY_TIMEOUT, Room};
use crate::scheduler::{Dispatch, Id};
use crate::store::StoreOp;
use wasm_worker_protocol::dispatcher_session::DispatchKey;

impl Coordinator {
    /// A new room with LiveKit's defaults.
    pub(super) fn default_room(&mut self, name: &str, now: Moment) -> Room {
        Room {
            name: name.to_owned(),
            sid: self.scheduler.new_id("RM_").to_string(),
            metadata: String::new(),
            empty_timeout: EMPTY_TIMEOUT,
            departure_timeout: DEPARTURE_TIMEOUT,
            max_participants: 0,
            created_ns: now.wall_ns,
        }
    }

    pub(super) fn add_room(&mut self, now: Moment, room: Room, ops: &mut Vec<StoreOp>) -> Result<(), CommandError> {
        if !self.rooms.has_capacity(&room.metadata) {
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
        if let Err(error) = self.schedule(now, dispatch) {
            tracing::warn!(target: "dispatcher", room, %error, "cannot dispatch the room to workers without a name");
        }
    }

    pub(super) fn list_rooms(&self, names: &[String]) -> Vec<Room> {
        let mut rooms: Vec<Room> = match names {
            [] => self.rooms.all().cloned().collect(),
            names => names.iter().filter_map(|name| self.rooms.get(name)).cloned().collect(),
        };
        rooms.sort_by(|one, other| (one.created_ns, &one.name).cmp(&(other.created_ns, &other.name)));
        rooms
    }

    pub(super) fn create_room(
        &mut self,
        mut room: Room,
        requests: Vec<DispatchRequest>,
        api_key: String,
    ) -> Result<Room, CommandError> {
        if let Some(existing) = self.rooms.get(&room.name) {
            return Ok(existing.clone());
        }
        self.check_store()?;
        let now = Moment::now();
        room.sid = self.scheduler.new_id("RM_").to_string();
        room.created_ns = now.wall_ns;
        let mut ops = Vec::new();
        self.add_room(now, room.clone(), &mut ops)?;
        if requests.is_empty() {
            self.dispatch_to_unnamed_workers(now, &room.name, &api_key.as_str().into());
        }
        let created = requests.into_iter().try_for_each(|request| self.create_dispatch(request).map(drop));
        self.flush(ops);
        created.map(|()| room)
    }

    pub(super) fn set_metadata(&mut self, name: &str, metadata: String) -> Result<Option<Room>, CommandError> {
        self.check_store()?;
        if !self.rooms.has_capacity(&metadata) {
            return Err(CommandError::TooManyRooms);
        }
        let Some(room) = self.rooms.set_metadata(name, metadata) else { return Ok(None) };
        self.flush(vec![StoreOp::Room(room.clone())]);
        Ok(Some(room))
    }

    /// Delete a room, and cancel its dispatches. Returns whether the room existed.
    pub(super) fn delete_room(&mut self, name: String) -> Result<bool, CommandError> {
        self.check_writable()?;
        if self.rooms.remove(&name).is_none() {
            return Ok(false);
        }
        let now = Moment::now();
        for dispatch in self.scheduler.in_room(&name) {
            self.scheduler.cancel(now, &dispatch, "the room was deleted");
        }
        self.flush(vec![StoreOp::RoomDeleted { name, at_ns: now.wall_ns }]);
        Ok(true)
    }
}
