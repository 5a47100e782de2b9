//! The ids of what began outside: those of the room, and those of the contract, which are given at delivery. Pure.
//!
//! Bounds: those of the room, which has a bounded number of open streams and requests.

use std::collections::{BTreeMap, VecDeque};

use wasm_worker_core::room::command::IncomingId;

/// What began outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text or a file in parts.
    Stream,
    /// A call by a participant.
    Request,
    /// A track that a rule follows.
    Track,
}

/// What is known of an id of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has no id of the contract yet.
    Waiting,
    /// This is its id of the contract.
    Given(u32),
    /// It is over, or the agent gave it up.
    Over,
}

/// The ids of one room.
#[derive(Debug, Default)]
pub(super) struct IncomingIds {
    /// In the order of their events, which is that of their delivery.
    waiting: VecDeque<(IncomingId, Kind)>,
    given: BTreeMap<u32, (IncomingId, Kind)>,
    places: BTreeMap<IncomingId, u32>,
}

impl IncomingIds {
    /// The event that begins it goes to the agent.
    pub(super) fn begin(&mut self, incoming: IncomingId, kind: Kind) {
        self.waiting.push_back((incoming, kind));
    }

    /// The next one of those that wait has this id of the contract.
    pub(super) fn give(&mut self, id: u32) {
        if let Some((incoming, kind)) = self.waiting.pop_front() {
            self.given.insert(id, (incoming, kind));
            self.places.insert(incoming, id);
        }
    }

    /// What is known of an id of the room.
    pub(super) fn place(&self, incoming: IncomingId) -> Place {
        match self.places.get(&incoming) {
            Some(id) => Place::Given(*id),
            None if self.waiting.iter().any(|(waiting, _)| *waiting == incoming) => Place::Waiting,
            None => Place::Over,
        }
    }

    /// The id of the room for an id of the contract, and what it is.
    pub(super) fn find(&self, id: u32) -> Option<(IncomingId, Kind)> {
        self.given.get(&id).copied()
    }

    /// End what has this id of the contract.
    pub(super) fn end(&mut self, id: u32) {
        if let Some((incoming, _)) = self.given.remove(&id) {
            self.places.remove(&incoming);
        }
    }

    /// End all that have an id of the contract, and return their ids.
    pub(super) fn end_all(&mut self) -> Vec<u32> {
        self.places.clear();
        std::mem::take(&mut self.given).into_keys().collect()
    }

    /// Whether something has no id of the contract yet.
    pub(super) fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_in_the_order_of_the_events() {
        let mut ids = IncomingIds::default();
        ids.begin(IncomingId(1), Kind::Stream);
        ids.begin(IncomingId(2), Kind::Request);
        assert_eq!((ids.place(IncomingId(2)), ids.place(IncomingId(3))), (Place::Waiting, Place::Over));
        ids.give(7);
        assert_eq!((ids.place(IncomingId(1)), ids.place(IncomingId(2))), (Place::Given(7), Place::Waiting));
        assert!(ids.is_any_waiting());
        ids.give(9);
        assert_eq!((ids.find(9), ids.is_any_waiting()), (Some((IncomingId(2), Kind::Request)), false));
        ids.end(7);
        ids.end(7);
        assert_eq!((ids.place(IncomingId(1)), ids.find(7)), (Place::Over, None));
        assert_eq!((ids.end_all(), ids.place(IncomingId(2))), (vec![9], Place::Over));
    }
}
