//! What an agent knows from the events of a room, and what it relies on.

use std::collections::{BTreeMap, BTreeSet};

use wasm_worker_core::room::audio::{AudioEvent, HeardId};
use wasm_worker_core::room::event::RoomEvent;

/// Where the agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    #[default]
    Out,
    In,
    Reconnecting,
}

/// What the agent knows from the events.
#[derive(Default)]
pub(super) struct Agent {
    pub(super) place: Place,
    /// Identities, by sid.
    pub(super) people: BTreeMap<String, String>,
    pub(super) open: BTreeSet<u32>,
    /// Operations that last: tracks of the agent, its rules, and tracks that it subscribed to.
    pub(super) tracks: BTreeSet<u32>,
    pub(super) rules: BTreeSet<u32>,
    pub(super) asked: BTreeSet<u32>,
    /// Tracks that are heard, with the rule of each.
    pub(super) heard: BTreeMap<HeardId, (Option<u32>, String)>,
    pub(super) read: usize,
}

impl Agent {
    pub(super) fn read(&mut self, events: &[RoomEvent]) {
        for event in &events[self.read..] {
            self.take(event);
        }
        self.read = events.len();
    }

    fn take(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Connected { .. } => self.place = Place::In,
            RoomEvent::Reconnecting => {
                assert_eq!(self.place, Place::In, "reconnecting without a room, or twice");
                self.place = Place::Reconnecting;
            }
            RoomEvent::Disconnected { .. } => {
                assert_ne!(self.place, Place::Out, "disconnected without a room");
                let lasting: Vec<_> =
                    [&self.open, &self.tracks, &self.rules, &self.asked].into_iter().flatten().collect();
                assert!(lasting.is_empty(), "operations outlive their room: {lasting:?}");
                assert!(self.heard.is_empty(), "tracks are heard without a room");
                *self = Self { read: self.read, ..Self::default() };
            }
            RoomEvent::ParticipantJoined(who) => {
                let before = self.people.insert(who.sid.clone(), who.identity.clone());
                assert_eq!(before, None, "joined twice");
                let again = self.people.values().filter(|identity| **identity == who.identity).count();
                assert_eq!(again, 1, "two of one identity");
            }
            RoomEvent::ParticipantLeft { participant, .. } => {
                assert!(self.people.remove(&participant.sid).is_some(), "left without having joined");
            }
            RoomEvent::Done(id) => assert!(self.open.remove(id) || self.tracks.remove(id), "{id} ends twice"),
            RoomEvent::Failed(failure) => assert!(self.ends(failure.id), "{} ends twice", failure.id),
            RoomEvent::Audio(event) => self.take_sound(event),
            RoomEvent::Data { .. } | RoomEvent::Text { .. } => {
                assert_ne!(self.place, Place::Out, "a text without a room");
            }
            _ => {}
        }
    }
}

impl Agent {
    fn ends(&mut self, id: u32) -> bool {
        let all = [&mut self.open, &mut self.tracks, &mut self.rules, &mut self.asked];
        all.into_iter().any(|open| open.remove(&id))
    }

    fn take_sound(&mut self, event: &AudioEvent) {
        match event {
            AudioEvent::Started { id, rule, track } => {
                let before = self.heard.insert(*id, (*rule, track.sid.clone()));
                assert!(before.is_none(), "{id:?} begins twice");
            }
            AudioEvent::Ended { id } => {
                assert!(self.heard.remove(id).is_some(), "{id:?} ends without having begun");
                if let HeardId::Asked(id) = id {
                    assert!(self.asked.remove(id), "{id} ends twice");
                }
            }
            AudioEvent::Frame(frame) => assert!(self.heard.contains_key(&frame.id), "sound of {:?}", frame.id),
            AudioEvent::Published { id, .. } | AudioEvent::Playout { id, .. } => {
                assert!(self.tracks.contains(id), "{id} is over");
            }
            _ => {}
        }
    }
}
