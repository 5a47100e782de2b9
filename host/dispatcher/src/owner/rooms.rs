//! What callers want of rooms.

use std::collections::BTreeMap;

use livekit_protocol as proto;

use super::{Owner, now};
use crate::order::{Refusal, Wanted};
use crate::pool::{Dispatch, Id, Kind, Now};
use crate::rooms::{DEPARTURE_TIMEOUT, EMPTY_TIMEOUT, Room};
use crate::store::Entry;

impl Owner {
    pub(super) fn plain_room(&mut self, name: &str, moment: Now) -> Room {
        Room {
            name: name.to_owned(),
            sid: self.pool.id("RM_").to_string(),
            metadata: String::new(),
            empty_timeout: EMPTY_TIMEOUT,
            departure_timeout: DEPARTURE_TIMEOUT,
            max_participants: 0,
            created_ns: moment.wall_ns,
        }
    }

    pub(super) fn add_room(&mut self, moment: Now, room: Room, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
        if !self.rooms.has_place(&room.metadata) {
            return Err(Refusal::Rooms);
        }
        self.rooms.insert(moment.at, room.clone());
        entries.push(Entry::Room(room));
        Ok(())
    }

    /// Workers without a name get a job for each new room, as with LiveKit's server; without one nothing waits for them.
    pub(super) fn greet(&mut self, moment: Now, room: &str, key: &Id) {
        let kind = Kind { agent: String::new(), job_type: proto::JobType::JtRoom as i32, deployment: String::new() };
        let Some(found) = self.rooms.get(room).map(Room::to_proto).filter(|_| self.pool.has_worker(&kind)) else {
            return;
        };
        let dispatch = Dispatch {
            id: self.pool.id("AD_"),
            key: key.clone(),
            kind,
            room: found,
            metadata: String::new(),
            attributes: BTreeMap::new(),
            restart: proto::JobRestartPolicy::default(),
            priority: 0,
            created_ns: moment.wall_ns,
            deadline_ns: moment.wall_ns.saturating_add(self.queue_deadline_ns),
        };
        if let Err(full) = self.begin(moment, dispatch) {
            tracing::warn!(target: "dispatcher", room, ?full, "workers without a name are not told of the room");
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

    pub(super) async fn create_room(
        &mut self,
        mut room: Room,
        agents: Vec<Wanted>,
        key: String,
    ) -> Result<Room, Refusal> {
        if let Some(there) = self.rooms.get(&room.name) {
            return Ok(there.clone());
        }
        self.has_room_for_more()?;
        let moment = now();
        room.sid = self.pool.id("RM_").to_string();
        room.created_ns = moment.wall_ns;
        let mut entries = Vec::new();
        self.add_room(moment, room.clone(), &mut entries)?;
        if agents.is_empty() {
            self.greet(moment, &room.name, &key.as_str().into());
        }
        let made = agents.into_iter().try_for_each(|wanted| self.make(wanted).map(drop));
        self.perform(entries).await;
        made.map(|()| room)
    }

    pub(super) async fn set_metadata(&mut self, name: &str, metadata: String) -> Result<Option<Room>, Refusal> {
        self.has_room_for_more()?;
        if !self.rooms.has_place(&metadata) {
            return Err(Refusal::Rooms);
        }
        let Some(room) = self.rooms.set_metadata(name, metadata) else { return Ok(None) };
        self.perform(vec![Entry::Room(room.clone())]).await;
        Ok(Some(room))
    }

    pub(super) async fn delete_room(&mut self, name: String) -> bool {
        if self.rooms.remove(&name).is_none() {
            return false;
        }
        let moment = now();
        for dispatch in self.pool.in_room(&name) {
            self.pool.cancel(moment, &dispatch, "its room was deleted");
        }
        self.perform(vec![Entry::RoomGone { name, at_ns: moment.wall_ns }]).await;
        true
    }
}
