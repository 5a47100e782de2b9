//! Everyone else in the room, as the events that the guest was given tell it.
//!
//! Bound: the memory is charged to the job, by the caller.

use std::collections::BTreeMap;

use super::bindings::wasm_worker::agent::events::Event;
use super::contract::Participant;
use super::events::participant_bytes;

/// The participants of a room, by identity.
#[derive(Debug, Default)]
pub(crate) struct Participants {
    present: BTreeMap<String, Participant>,
    /// The identity of the agent's own participant, which is not among them.
    own: Option<String>,
    /// Memory of the participants, in bytes.
    bytes: usize,
}

impl Participants {
    /// Apply an event. Returns whether it was about the participants.
    pub(crate) fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Connected(room) => {
                self.remove(&room.local.identity);
                self.own = Some(room.local.identity.clone());
            }
            Event::ParticipantJoined(who) => self.put(who),
            Event::ParticipantChanged(change) => self.put(&change.participant),
            Event::ParticipantLeft(departure) => self.remove(&departure.participant.identity),
            Event::Disconnected(_) => {
                self.present.clear();
                self.bytes = 0;
            }
            _ => return false,
        }
        true
    }

    /// All of them, by identity.
    pub(crate) fn all(&self) -> Vec<Participant> {
        self.present.values().cloned().collect()
    }

    /// Each of them, by identity.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Participant> {
        self.present.values()
    }

    /// Their number.
    pub(crate) fn count(&self) -> usize {
        self.present.len()
    }

    /// Memory of the participants, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, who: &Participant) {
        if self.own.as_ref() == Some(&who.identity) {
            return;
        }
        self.remove(&who.identity);
        self.bytes += participant_bytes(who) + who.identity.len();
        self.present.insert(who.identity.clone(), who.clone());
    }

    fn remove(&mut self, identity: &str) {
        if let Some(who) = self.present.remove(identity) {
            self.bytes -= participant_bytes(&who) + who.identity.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bindings::wasm_worker::agent::events::{
        Departure, JoinedRoom, ParticipantChange, ParticipantChanges,
    };
    use super::*;

    fn person(identity: &str, name: &str) -> Participant {
        let core = wasm_worker_core::room::people::Participant {
            identity: identity.into(),
            name: name.into(),
            ..wasm_worker_core::room::people::Participant::default()
        };
        core.into()
    }

    #[test]
    fn who_is_there_follows_the_events() {
        let mut room = Participants::default();
        assert!(room.apply(&Event::ParticipantJoined(person("ann", ""))));
        assert!(room.apply(&Event::ParticipantJoined(person("me", ""))));
        assert!(room.apply(&Event::Connected(JoinedRoom {
            local: person("me", ""),
            room: wasm_worker_core::job::RoomInfo::default().into()
        })));
        let change =
            |who| ParticipantChange { participant: who, changes: ParticipantChanges::NAME, attributes: Vec::new() };
        room.apply(&Event::ParticipantChanged(change(person("ann", "Ann"))));
        room.apply(&Event::ParticipantChanged(change(person("me", "I"))));
        assert_eq!(room.all(), [person("ann", "Ann")], "without the agent itself");
        assert!(room.bytes() > 0 && !room.apply(&Event::TasksWanted));
        room.apply(&Event::ParticipantLeft(Departure { participant: person("ann", "Ann"), reason: String::new() }));
        assert_eq!((room.all().len(), room.bytes()), (0, 0));
    }
}
