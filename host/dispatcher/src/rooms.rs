//! Rooms, as far as there are any without media: names that dispatches belong to. Pure.
//!
//! A room is there from its creation, by a client or a dispatch, until nothing of it is open for its `empty_timeout`.
//!
//! Bounds: [`ROOMS_MAX`] rooms, [`METADATA_BYTES_MAX`] of their metadata.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use livekit_protocol as proto;
use tokio::time::Instant;

pub(crate) const ROOMS_MAX: usize = 100_000;
/// Of all rooms together.
pub(crate) const METADATA_BYTES_MAX: usize = 64 << 20;
/// As LiveKit's server has it, in seconds.
pub(crate) const EMPTY_TIMEOUT: u32 = 300;
pub(crate) const DEPARTURE_TIMEOUT: u32 = 20;

/// One room, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) sid: String,
    pub(crate) metadata: String,
    /// In seconds, as the two after it.
    pub(crate) empty_timeout: u32,
    pub(crate) departure_timeout: u32,
    pub(crate) max_participants: u32,
    pub(crate) created_ns: i64,
}

impl Room {
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

struct Held {
    room: Room,
    /// Dispatches that are not over.
    open: usize,
    /// When it goes, if nothing is opened.
    closes: Option<Instant>,
}

/// All rooms.
#[derive(Default)]
pub(crate) struct Rooms {
    by_name: HashMap<String, Held>,
    closing: BTreeSet<(Instant, String)>,
    metadata_bytes: usize,
}

impl Rooms {
    pub(crate) fn get(&self, name: &str) -> Option<&Room> {
        self.by_name.get(name).map(|held| &held.room)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Room> {
        self.by_name.values().map(|held| &held.room)
    }

    /// Whether there is a place for one more, with so much metadata.
    pub(crate) fn has_place(&self, metadata: &str) -> bool {
        self.by_name.len() < ROOMS_MAX && self.metadata_bytes + metadata.len() <= METADATA_BYTES_MAX
    }

    pub(crate) fn insert(&mut self, now: Instant, room: Room) {
        let name = room.name.clone();
        self.metadata_bytes += room.metadata.len();
        self.by_name.insert(name.clone(), Held { room, open: 0, closes: None });
        self.close_later(now, &name);
    }

    /// A dispatch of it is open.
    pub(crate) fn opened(&mut self, room: &proto::Room) {
        let name = &room.name;
        if let Some(held) = self.by_name.get_mut(name).filter(|held| held.room.sid == room.sid) {
            held.open += 1;
            if let Some(closes) = held.closes.take() {
                self.closing.remove(&(closes, name.clone()));
            }
        }
    }

    /// A dispatch of it is over.
    pub(crate) fn closed(&mut self, now: Instant, room: &proto::Room) {
        let name = &room.name;
        // Its room may be gone, and another one have its name.
        if let Some(held) = self.by_name.get_mut(name).filter(|held| held.room.sid == room.sid) {
            held.open = held.open.saturating_sub(1);
            if held.open == 0 {
                self.close_later(now, name);
            }
        }
    }

    pub(crate) fn set_metadata(&mut self, name: &str, metadata: String) -> Option<Room> {
        let held = self.by_name.get_mut(name)?;
        self.metadata_bytes = self.metadata_bytes - held.room.metadata.len() + metadata.len();
        held.room.metadata = metadata;
        Some(held.room.clone())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Room> {
        let held = self.by_name.remove(name)?;
        self.metadata_bytes -= held.room.metadata.len();
        if let Some(closes) = held.closes {
            self.closing.remove(&(closes, name.to_owned()));
        }
        Some(held.room)
    }

    /// The next room whose time is over, if it is.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Room> {
        let name = self.closing.first().filter(|(closes, _)| *closes <= now).map(|(_, name)| name.clone())?;
        self.remove(&name)
    }

    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.closing.first().map(|(closes, _)| *closes)
    }

    fn close_later(&mut self, now: Instant, name: &str) {
        if let Some(held) = self.by_name.get_mut(name) {
            let closes = now + Duration::from_secs(held.room.empty_timeout.into());
            held.closes = Some(closes);
            self.closing.insert((closes, name.to_owned()));
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
    fn a_room_goes_when_nothing_of_it_was_open_for_its_timeout() {
        let now = Instant::now();
        let timeout = Duration::from_secs(300);
        let mut rooms = Rooms::default();
        rooms.insert(now, room("a"));
        rooms.opened(&room("a").to_proto());
        assert_eq!((rooms.wake_at(), rooms.expired(now + timeout * 2)), (None, None));
        rooms.closed(now + timeout, &room("a").to_proto());
        assert_eq!(rooms.expired(now + timeout), None);
        assert_eq!(rooms.expired(now + timeout * 2), Some(room("a")));
        assert_eq!(rooms.get("a"), None);
        assert_eq!((room("a").to_proto().creation_time, room("a").to_proto().creation_time_ms), (1, 1_500));
    }
}
