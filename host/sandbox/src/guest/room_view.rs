//! The room of a job for those who look at it from outside: its state, who is there, and the numbers of its connection.
//!
//! State and participants are those that the agent was last told. The numbers are read when somebody looks.
//!
//! Bound: [`RoomStatus::PRESENT_MAX`] participants are shown, with [`IDENTITY_BYTES_MAX`] bytes of each identity.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use wasm_worker_core::job::{Present, RoomState, RoomStatus, Tracks};
use wasm_worker_core::room::connection::{RoomNumbers, RoomStatistics};
use wasm_worker_core::text::one_line;
use wasm_worker_core::usage::{AudioUse, RoomUse, millis};

use super::bindings::wasm_worker::agent::events::Event;
use super::contract::{Participant, ParticipantKind, ParticipantState};
use super::lock;
use super::participants::Participants;

/// LiveKit's server allows identities of 256 bytes.
const IDENTITY_BYTES_MAX: usize = 256;

/// The view of one room.
#[derive(Default)]
pub(crate) struct RoomView {
    state: RoomState,
    /// The time of the join, while the agent is in the room.
    joined_at: Option<Instant>,
    others: usize,
    present: Vec<Present>,
    /// There while the room is open.
    counter: Option<Arc<RoomCounter>>,
    was_opened: bool,
}

impl RoomView {
    /// Apply an event that the agent is given.
    pub(crate) fn apply(&mut self, event: &Event, participants: &Participants, now: Instant) {
        match event {
            Event::Connected(_) => self.set_state(RoomState::Joined, now),
            Event::Reconnecting => self.set_state(RoomState::Reconnecting, now),
            Event::Disconnected(_) => self.set_state(RoomState::Out, now),
            _ => {}
        }
        self.others = participants.count();
        self.present = participants.iter().take(RoomStatus::PRESENT_MAX).map(present).collect();
    }

    /// The state of the connection changes.
    pub(crate) fn set_state(&mut self, state: RoomState, now: Instant) {
        self.state = state;
        self.joined_at = match state {
            RoomState::Joined => self.joined_at.or(Some(now)),
            RoomState::Reconnecting => self.joined_at,
            RoomState::Out | RoomState::Joining => None,
        };
    }

    /// Whether a room was opened, now or before.
    pub(crate) fn was_opened(&self) -> bool {
        self.was_opened
    }

    /// The room is opened, or closed.
    pub(crate) fn set_counter(&mut self, counter: Option<Arc<RoomCounter>>) {
        self.was_opened |= counter.is_some();
        self.counter = counter;
    }

    /// The counter of the room that is open.
    pub(crate) fn counter(&self) -> Option<&Arc<RoomCounter>> {
        self.counter.as_ref()
    }

    /// The status, with at most so many participants.
    pub(crate) fn status(&self, present_max: usize, now: Instant) -> RoomStatus {
        let stayed = self.joined_at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        let numbers = self.counter.as_ref().map(|counter| counter.statistics()).unwrap_or_default();
        let used = use_between(&RoomStatistics::default(), &numbers);
        RoomStatus {
            state: self.state,
            others: self.others,
            present: self.present.iter().take(present_max).cloned().collect(),
            used: RoomUse { stayed_ms: millis(stayed), ..used },
            tracks: Tracks { heard: numbers.audio.heard_tracks, published: numbers.audio.own_tracks },
        }
    }
}

/// The numbers of one connection. What was counted is not counted again, whoever counts.
pub(crate) struct RoomCounter {
    numbers: Arc<dyn RoomNumbers>,
    counted: Mutex<RoomStatistics>,
}

impl RoomCounter {
    /// Nothing is counted yet.
    pub(crate) fn new(numbers: Arc<dyn RoomNumbers>) -> Self {
        Self { numbers, counted: Mutex::default() }
    }

    /// The numbers so far.
    pub(crate) fn statistics(&self) -> RoomStatistics {
        self.numbers.statistics()
    }

    /// The use since the last call.
    pub(crate) fn take(&self) -> RoomUse {
        // Read under the lock, so that the numbers of two callers do not go back.
        let mut counted = lock(&self.counted);
        let now = self.numbers.statistics();
        use_between(&std::mem::replace(&mut *counted, now), &now)
    }

    /// The use from the opening on.
    pub(crate) fn used(&self) -> RoomUse {
        use_between(&RoomStatistics::default(), &self.numbers.statistics())
    }
}

/// The use of a connection between two readings. The time of the stay is none of its numbers.
pub(crate) fn use_between(before: &RoomStatistics, now: &RoomStatistics) -> RoomUse {
    RoomUse {
        stayed_ms: 0,
        resumes: now.resumes.saturating_sub(before.resumes),
        rejoins: now.rejoins.saturating_sub(before.rejoins),
        packets_received: now.packets_received.saturating_sub(before.packets_received),
        packets_sent: now.packets_sent.saturating_sub(before.packets_sent),
        bytes_received: now.bytes_received.saturating_sub(before.bytes_received),
        bytes_sent: now.bytes_sent.saturating_sub(before.bytes_sent),
        audio: AudioUse::between(&before.audio, &now.audio),
    }
}

fn present(participant: &Participant) -> Present {
    let kind = match participant.kind {
        ParticipantKind::Standard => "standard",
        ParticipantKind::Ingress => "ingress",
        ParticipantKind::Egress => "egress",
        ParticipantKind::Sip => "sip",
        ParticipantKind::Agent => "agent",
        ParticipantKind::Connector => "connector",
        ParticipantKind::Bridge => "bridge",
        ParticipantKind::Other => "other",
    };
    let state = match participant.state {
        ParticipantState::Joining => "joining",
        ParticipantState::Joined => "joined",
        ParticipantState::Active => "active",
        ParticipantState::Left => "left",
    };
    let identity = &participant.identity;
    let identity = identity.get(..identity.floor_char_boundary(IDENTITY_BYTES_MAX)).unwrap_or_default();
    Present { identity: one_line(identity).into_owned(), kind: kind.into(), state: state.into() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasm_worker_core::room::people;

    use super::super::bindings::wasm_worker::agent::events::JoinedRoom;
    use super::*;

    fn person(identity: String) -> Participant {
        people::Participant { kind: people::ParticipantKind::Sip, ..people::Participant::present(identity) }.into()
    }

    fn connected() -> Event {
        let room = people::RoomInfo::default().into();
        Event::Connected(JoinedRoom { local: person("me".into()), room })
    }

    /// The view of a room after these events.
    fn told(events: &[Event], now: Instant) -> RoomView {
        let (mut view, mut participants) = (RoomView::default(), Participants::default());
        for event in events {
            participants.apply(event);
            view.apply(event, &participants, now);
        }
        view
    }

    #[test]
    fn view_follows_what_the_agent_is_told_within_its_bounds() {
        let now = Instant::now();
        assert_eq!(told(&[], now).status(9, now), RoomStatus::default());
        let mut events = vec![Event::ParticipantJoined(person(format!("a\u{202e}{}", "x".repeat(300)))), connected()];
        events.extend((0..50).map(|number| Event::ParticipantJoined(person(format!("p{number:02}")))));
        let later = now + Duration::from_millis(5);
        let status = told(&events, now).status(RoomStatus::PRESENT_MAX, later);
        assert_eq!((status.state, status.others, status.present.len()), (RoomState::Joined, 51, 20));
        assert_eq!((status.used.stayed_ms, status.present[0].identity.len()), (5, 256 - 3 + 1));
        let present =
            |identity: &str| Present { identity: identity.into(), kind: "sip".into(), state: "active".into() };
        assert_eq!(status.present[1..3], [present("p00"), present("p01")]);
        assert_eq!(told(&events, now).status(RoomStatus::LISTED_MAX, later).present.len(), 3);
        events.push(Event::Reconnecting);
        assert_eq!(told(&events, now).status(0, later).state, RoomState::Reconnecting);
        events.push(Event::Disconnected("client-initiated".into()));
        let status = told(&events, now).status(9, later);
        assert_eq!((status.state, status.others, status.used.stayed_ms), (RoomState::Out, 0, 0));
    }

    struct Numbers(Mutex<u64>);

    impl RoomNumbers for Numbers {
        fn statistics(&self) -> RoomStatistics {
            RoomStatistics { bytes_sent: *lock(&self.0), resumes: 1, ..RoomStatistics::default() }
        }
    }

    #[test]
    fn what_was_counted_is_not_counted_again() {
        let numbers = Arc::new(Numbers(Mutex::new(5)));
        let counter = RoomCounter::new(numbers.clone());
        let taken = |counter: &RoomCounter| (counter.take().bytes_sent, counter.take().resumes);
        assert_eq!(taken(&counter), (5, 0));
        *lock(&numbers.0) = 12;
        assert_eq!(counter.used().bytes_sent, 12);
        assert_eq!(taken(&counter), (7, 0));
        // A server that counts anew takes nothing back.
        *lock(&numbers.0) = 3;
        assert_eq!(taken(&counter), (0, 0));
    }
}
