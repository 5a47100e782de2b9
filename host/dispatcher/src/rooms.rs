//! The directory of the rooms: what dispatches belong to, and what participants join. Pure.
//!
//! A room exists from its creation, by a client, with a dispatch or with its first participant, until it had neither an open dispatch
//! nor a participant for its timeout: `departure_timeout` once a participant has left, else `empty_timeout`. Agents and others who
//! serve the participants count as none. The room host knows the participants; its word is asked for when the time of a room without
//! dispatches has come.
//!
//! Bounds: [`ROOMS_MAX`] rooms, with [`METADATA_BYTES_MAX`] of metadata together.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use livekit_protocol as proto;
use tokio::time::Instant;

/// Most rooms.
pub(crate) const ROOMS_MAX: usize = 100_000;
/// Most metadata of all rooms together, in bytes.
pub(crate) const METADATA_BYTES_MAX: usize = 64 << 20;
/// The default time without a dispatch after which a room is removed, in seconds, as in LiveKit's server.
pub(crate) const EMPTY_TIMEOUT: u32 = 300;
/// The default time without a participant after which a room is removed that had one, in seconds, as in LiveKit's server.
pub(crate) const DEPARTURE_TIMEOUT: u32 = 20;
/// Most bytes of a room in an answer beside its name and metadata.
const OVERHEAD_BYTES: usize = 64;

/// A room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) sid: String,
    pub(crate) metadata: String,
    /// Seconds without a dispatch after which the room is removed.
    pub(crate) empty_timeout: u32,
    /// Seconds after the last participant has left.
    pub(crate) departure_timeout: u32,
    pub(crate) max_participants: u32,
    pub(crate) created_ns: i64,
}

/// A client's request for a room. A field that is zero or empty has LiveKit's default, or keeps the value of an existing room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomRequest {
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) empty_timeout: u32,
    pub(crate) departure_timeout: u32,
    pub(crate) max_participants: u32,
}

impl Room {
    /// A room with LiveKit's defaults.
    pub(crate) fn new(name: &str, sid: String, created_ns: i64) -> Self {
        Self {
            name: name.to_owned(),
            sid,
            metadata: String::new(),
            empty_timeout: EMPTY_TIMEOUT,
            departure_timeout: DEPARTURE_TIMEOUT,
            max_participants: 0,
            created_ns,
        }
    }

    /// The room with the fields that a request sets, as LiveKit's server changes it.
    pub(crate) fn changed_by(&self, request: RoomRequest) -> Self {
        let or = |given: u32, kept: u32| if given == 0 { kept } else { given };
        let metadata = if request.metadata.is_empty() { self.metadata.clone() } else { request.metadata };
        Self {
            metadata,
            empty_timeout: or(request.empty_timeout, self.empty_timeout),
            departure_timeout: or(request.departure_timeout, self.departure_timeout),
            max_participants: or(request.max_participants, self.max_participants),
            ..self.clone()
        }
    }

    /// The size of the room in an answer, in bytes.
    pub(crate) fn answer_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.name.len() + self.metadata.len()
    }

    pub(crate) fn to_proto(&self) -> proto::Room {
        proto::Room {
            name: self.name.clone(),
            sid: self.sid.clone(),
            metadata: self.metadata.clone(),
            empty_timeout: self.empty_timeout,
            departure_timeout: self.departure_timeout,
            max_participants: self.max_participants,
            creation_time: self.created_ns / 1_000_000_000,
            creation_time_ms: self.created_ns / 1_000_000,
            ..Default::default()
        }
    }
}

/// A room with its use.
struct RoomEntry {
    room: Room,
    /// The number of its open dispatches.
    open: usize,
    /// Whether anybody has asked to join it. Only then may its departure timeout be the one that counts.
    is_joined: bool,
    /// While no dispatch is open.
    idle: Option<Idle>,
}

/// The state of a room without open dispatches.
#[derive(Clone, Copy)]
struct Idle {
    since: Instant,
    /// When it is looked at next: it may have to be removed then.
    look_at: Instant,
}

/// All rooms.
#[derive(Default)]
pub(crate) struct Rooms {
    by_name: HashMap<String, RoomEntry>,
    looks: BTreeSet<(Instant, String)>,
    metadata_bytes: usize,
}

impl Rooms {
    pub(crate) fn get(&self, name: &str) -> Option<&Room> {
        self.by_name.get(name).map(|entry| &entry.room)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Room> {
        self.by_name.values().map(|entry| &entry.room)
    }

    /// Whether the room with this name may have this metadata within the bounds. The room is a new one where none has the name.
    pub(crate) fn has_capacity(&self, name: &str, metadata: &str) -> bool {
        let (count, former_bytes) = match self.by_name.get(name) {
            Some(entry) => (self.by_name.len(), entry.room.metadata.len()),
            None => (self.by_name.len() + 1, 0),
        };
        count <= ROOMS_MAX && self.metadata_bytes - former_bytes + metadata.len() <= METADATA_BYTES_MAX
    }

    /// Add a room without open dispatches.
    pub(crate) fn insert(&mut self, now: Instant, room: Room) {
        let name = room.name.clone();
        self.metadata_bytes += room.metadata.len();
        self.by_name.insert(name.clone(), RoomEntry { room, open: 0, is_joined: false, idle: None });
        self.set_idle(now, &name);
    }

    /// Count a dispatch that was opened in the room.
    pub(crate) fn dispatch_opened(&mut self, room: &proto::Room) {
        let name = &room.name;
        if let Some(entry) = self.by_name.get_mut(name).filter(|entry| entry.room.sid == room.sid) {
            entry.open += 1;
            if let Some(idle) = entry.idle.take() {
                self.looks.remove(&(idle.look_at, name.clone()));
            }
        }
    }

    /// Count a dispatch of the room that ended.
    pub(crate) fn dispatch_ended(&mut self, now: Instant, room: &proto::Room) {
        let name = &room.name;
        // The room may have been deleted, and another room may have its name.
        if let Some(entry) = self.by_name.get_mut(name).filter(|entry| entry.room.sid == room.sid) {
            entry.open = entry.open.saturating_sub(1);
            if entry.open == 0 {
                self.set_idle(now, name);
            }
        }
    }

    /// Replace a room by a changed one with the same name. Its removal is due after the new timeout.
    pub(crate) fn change(&mut self, now: Instant, room: Room) {
        let name = room.name.clone();
        let Some(entry) = self.by_name.get_mut(&name) else { return };
        self.metadata_bytes = self.metadata_bytes - entry.room.metadata.len() + room.metadata.len();
        let timeouts = |room: &Room| (room.empty_timeout, room.departure_timeout);
        let has_other_timeout = timeouts(&entry.room) != timeouts(&room);
        entry.room = room;
        if has_other_timeout && let Some(idle) = entry.idle.take() {
            self.looks.remove(&(idle.look_at, name.clone()));
            self.set_idle(now, &name);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Room> {
        let entry = self.by_name.remove(name)?;
        self.metadata_bytes -= entry.room.metadata.len();
        if let Some(idle) = entry.idle {
            self.looks.remove(&(idle.look_at, name.to_owned()));
        }
        Some(entry.room)
    }

    /// The next room that may have to be removed, and since when it has no open dispatch. It is removed, or looked at again later.
    pub(crate) fn to_look_at(&self, now: Instant) -> Option<(&Room, Instant)> {
        let (_, name) = self.looks.first().filter(|(look_at, _)| *look_at <= now)?;
        let entry = self.by_name.get(name)?;
        Some((&entry.room, entry.idle.map_or(now, |idle| idle.since)))
    }

    /// Somebody asks to join a room. It is not looked at before this time.
    pub(crate) fn join(&mut self, name: &str, until: Instant) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.is_joined = true;
        }
        self.look_again(name, until);
    }

    /// Look at a room without open dispatches at this time.
    pub(crate) fn look_again(&mut self, name: &str, at: Instant) {
        if let Some(idle) = self.by_name.get_mut(name).and_then(|entry| entry.idle.as_mut()) {
            self.looks.remove(&(idle.look_at, name.to_owned()));
            idle.look_at = at;
            self.looks.insert((at, name.to_owned()));
        }
    }

    /// The time at which the next room is looked at.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.looks.first().map(|(look_at, _)| *look_at)
    }

    fn set_idle(&mut self, now: Instant, name: &str) {
        if let Some(entry) = self.by_name.get_mut(name) {
            let Room { empty_timeout, departure_timeout, .. } = entry.room;
            let soonest = if entry.is_joined { empty_timeout.min(departure_timeout) } else { empty_timeout };
            let look_at = now + Duration::from_secs(soonest.into());
            entry.idle = Some(Idle { since: now, look_at });
            self.looks.insert((look_at, name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Room {
        Room {
            name: name.into(),
            sid: "RM_1".into(),
            metadata: String::new(),
            empty_timeout: 300,
            departure_timeout: 20,
            max_participants: 0,
            created_ns: 1_500_000_000,
        }
    }

    #[test]
    fn room_without_a_dispatch_is_looked_at() {
        let now = Instant::now();
        let timeout = Duration::from_secs(300);
        let mut rooms = Rooms::default();
        rooms.insert(now, room("a"));
        rooms.dispatch_opened(&room("a").to_proto());
        assert_eq!((rooms.wake_at(), rooms.to_look_at(now + timeout * 2)), (None, None));
        let idle_since = now + timeout;
        rooms.dispatch_ended(idle_since, &room("a").to_proto());
        assert_eq!((rooms.to_look_at(idle_since), rooms.wake_at()), (None, Some(idle_since + timeout)));
        assert_eq!(rooms.to_look_at(now + timeout * 2), Some((&room("a"), idle_since)));
        // A participant is there.
        rooms.join("a", now + timeout * 3);
        assert_eq!(rooms.to_look_at(now + timeout * 2), None);
        assert_eq!(rooms.to_look_at(now + timeout * 3), Some((&room("a"), idle_since)));
        // Its departure timeout counts from now on.
        rooms.dispatch_opened(&room("a").to_proto());
        rooms.dispatch_ended(now, &room("a").to_proto());
        assert_eq!(rooms.wake_at(), Some(now + Duration::from_secs(20)));
        assert_eq!(rooms.remove("a"), Some(room("a")));
        assert_eq!(rooms.wake_at(), None);
        assert_eq!(rooms.get("a"), None);
        assert_eq!(rooms.metadata_bytes, 0);
        assert_eq!((room("a").to_proto().creation_time, room("a").to_proto().creation_time_ms), (1, 1_500));
    }

    #[test]
    fn second_request_changes_the_fields_that_it_sets() {
        let now = Instant::now();
        let mut rooms = Rooms::default();
        rooms.insert(now, Room { metadata: "old".into(), ..room("a") });
        let request = |metadata: &str, empty_timeout| RoomRequest {
            name: "a".into(),
            metadata: metadata.into(),
            empty_timeout,
            departure_timeout: 0,
            max_participants: 0,
        };
        let same = rooms.get("a").unwrap().changed_by(request("", 0));
        assert_eq!(&same, rooms.get("a").unwrap());
        let changed = same.changed_by(request("new one", 10));
        rooms.change(now, changed.clone());
        assert_eq!((rooms.get("a"), rooms.metadata_bytes), (Some(&changed), 7));
        assert_eq!(rooms.wake_at(), Some(now + Duration::from_secs(10)));
    }
}
