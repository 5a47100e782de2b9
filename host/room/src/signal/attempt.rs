//! The attempts to get into the room or back: their steps, their failures and their end.

use std::time::Duration;

use tokio::time::Instant;

use super::phase::{PeerState, Phase, Stay};
use super::reconnect::{HEALTHY_AFTER, Way};
use super::request::{Cure, Fault, LinkError};
use super::{Signal, SignalOutput};
use wasm_worker_core::room::event::{Failure, Reason, RoomEvent};

/// Time for a link to open.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// Time for the first message on it.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// Time for the peer to be ready after it.
pub(super) const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Time for the list of the people after a resumption.
pub(super) const LIST_WITHIN: Duration = Duration::from_secs(1);
/// Time for the server to say why it closed the peer. It does both in one moment, and the peer hears it first.
const WORDS_WITHIN: Duration = Duration::from_secs(1);

impl Signal {
    /// The link is open.
    pub(crate) fn link_opened(&mut self, now: Instant) {
        if let Phase::Dialling { way, .. } = self.phase {
            self.phase = Phase::Opening { way, until: now + OPEN_WITHIN };
            self.pings.heard(now);
        }
    }

    /// The link does not open.
    pub(crate) fn link_failed(&mut self, error: LinkError, now: Instant) {
        if matches!(self.phase, Phase::Dialling { .. }) {
            self.attempt_failed(Fault::from(error), now);
        }
    }

    /// The link is lost. `why` is for people.
    pub(crate) fn link_lost(&mut self, why: &str, now: Instant) {
        let fault = Fault::new("unreachable", Reason::SignalClose, why, Cure::Again);
        match self.phase {
            Phase::Idle | Phase::Pausing { .. } => {}
            Phase::Dialling { .. } | Phase::Settling { .. } => self.attempt_failed(fault, now),
            // A server that knows the agent no more may close the link without a word.
            Phase::Opening { .. } => self.attempt_failed(Fault { cure: Cure::Join, ..fault }, now),
            Phase::Up { since } | Phase::Listening { since, .. } => self.lose(self.way_back(), since, fault, now),
        }
    }

    /// The peer has a path, and its channels are open.
    pub(crate) fn peer_ready(&mut self, now: Instant) {
        self.peer = PeerState::Ready;
        match self.phase {
            Phase::Listening { since, .. } => self.phase = Phase::Up { since },
            _ => self.settle(now),
        }
    }

    /// No path leads to the server any more.
    pub(crate) fn peer_unreachable(&mut self, now: Instant) {
        self.peer_lost(PeerState::Unreachable, "no path leads to the server", now);
    }

    /// The peer is over.
    pub(crate) fn peer_closed(&mut self, why: &str, now: Instant) {
        self.peer_lost(PeerState::None, why, now);
    }

    pub(super) fn advance_phase(&mut self, now: Instant) {
        let late = |what: &str| {
            Fault::new("timeout", Reason::ConnectionTimeout, format!("the server was too slow: {what}"), Cure::Again)
        };
        match self.phase {
            Phase::Pausing { way, until } if until <= now => self.dial(way, now),
            Phase::Dialling { until, .. } if until <= now => self.attempt_failed(late("no connection"), now),
            Phase::Opening { until, .. } if until <= now => {
                self.attempt_failed(Fault { cure: Cure::Join, ..late("no first message") }, now);
            }
            Phase::Settling { until, .. } if until <= now => {
                self.attempt_failed(Fault { cure: Cure::Join, ..late("no path between the peers") }, now);
            }
            Phase::Settling { .. } => self.settle(now),
            Phase::Listening { since, until } if until <= now => {
                let fault =
                    Fault::new("unreachable", Reason::ConnectionTimeout, "the peer connection is lost", Cure::Again);
                self.lose(self.way_back(), since, fault, now);
            }
            Phase::Idle
            | Phase::Pausing { .. }
            | Phase::Dialling { .. }
            | Phase::Opening { .. }
            | Phase::Listening { .. }
            | Phase::Up { .. } => {}
        }
    }

    fn peer_lost(&mut self, peer: PeerState, why: &str, now: Instant) {
        self.peer = peer;
        match self.phase {
            Phase::Up { since } => self.phase = Phase::Listening { since, until: now + WORDS_WITHIN },
            Phase::Settling { .. } => {
                self.attempt_failed(Fault::new("unreachable", Reason::ConnectionTimeout, why, Cure::Again), now);
            }
            Phase::Idle
            | Phase::Pausing { .. }
            | Phase::Dialling { .. }
            | Phase::Opening { .. }
            | Phase::Listening { .. } => {}
        }
    }

    /// The way back into the room that the peer allows.
    pub(super) const fn way_back(&self) -> Way {
        match self.peer {
            PeerState::None => Way::Join,
            PeerState::Connecting | PeerState::Unreachable => Way::Resume { restart: true },
            PeerState::Ready => Way::Resume { restart: false },
        }
    }

    /// The room is lost, for now.
    pub(super) fn lose(&mut self, way: Way, since: Instant, fault: Fault, now: Instant) {
        if self.stay == Stay::In {
            self.stay = Stay::Away;
            self.tell(RoomEvent::Reconnecting);
        }
        if now.saturating_duration_since(since) >= HEALTHY_AFTER {
            self.attempts.reset();
        }
        self.next_attempt(way, fault, now);
    }

    /// The attempt that is under way has failed.
    pub(super) fn attempt_failed(&mut self, fault: Fault, now: Instant) {
        let way = match self.phase {
            Phase::Pausing { way, .. }
            | Phase::Dialling { way, .. }
            | Phase::Opening { way, .. }
            | Phase::Settling { way, .. } => way,
            Phase::Idle | Phase::Up { .. } | Phase::Listening { .. } => return,
        };
        self.facts.failed_attempts = self.facts.failed_attempts.saturating_add(1);
        let next = match (way, fault.cure) {
            (_, Cure::None) | (Way::Join, Cure::OtherWay) => return self.end(fault),
            (Way::Join, Cure::Again | Cure::Join) | (Way::Resume { .. }, Cure::Join | Cure::OtherWay) => Way::Join,
            (Way::Resume { .. }, Cure::Again) => self.way_back(),
        };
        self.next_attempt(next, fault, now);
    }

    fn next_attempt(&mut self, way: Way, fault: Fault, now: Instant) {
        self.drop_link();
        if way == Way::Join {
            // The server drops the old place of an identity that joins.
            self.drop_peer(false);
        }
        match self.attempts.next() {
            None => self.end(fault),
            Some(Duration::ZERO) => self.dial(way, now),
            Some(pause) => self.phase = Phase::Pausing { way, until: now + pause },
        }
    }

    pub(super) fn attempt(&mut self, way: Way, now: Instant) {
        if self.attempts.next().is_some() {
            self.dial(way, now);
        }
    }

    fn dial(&mut self, way: Way, now: Instant) {
        self.phase = Phase::Dialling { way, until: now + DIAL_WITHIN };
        if way == Way::Join {
            self.peer = PeerState::Connecting;
        }
        self.outputs.push_back(SignalOutput::Dial(way));
    }

    /// Go up, if nothing is missing.
    pub(super) fn settle(&mut self, now: Instant) {
        let Phase::Settling { way, list_until, .. } = self.phase else { return };
        if self.peer != PeerState::Ready || list_until.is_some_and(|until| now < until) {
            return;
        }
        self.phase = Phase::Up { since: now };
        self.people.own_is_active();
        let mut events = Vec::new();
        let connected = RoomEvent::Connected { local: self.people.own().clone(), room: self.room.clone() };
        match std::mem::replace(&mut self.stay, Stay::In) {
            Stay::Entering { since, ids } => {
                self.facts.joined_in = Some(now.saturating_duration_since(since));
                self.attempts.reset();
                self.people.introduce(&mut events);
                events.push(connected);
                events.extend(ids.into_iter().map(RoomEvent::Done));
            }
            Stay::Away | Stay::In | Stay::Out => {
                let counter = match way {
                    Way::Join => &mut self.facts.rejoins,
                    Way::Resume { .. } => &mut self.facts.resumes,
                };
                *counter = counter.saturating_add(1);
                events.push(connected);
            }
        }
        self.tell_all(events);
    }

    /// The end: the room is left, lost for good, or cannot be joined.
    pub(super) fn end(&mut self, fault: Fault) {
        let Fault { code, reason, message, .. } = fault;
        let has_link = self.has_link();
        self.drop_link();
        self.drop_peer(!has_link);
        self.phase = Phase::Idle;
        let mut events = Vec::new();
        let stay = std::mem::replace(&mut self.stay, Stay::Out);
        self.outputs.push_back(SignalOutput::Left);
        self.own.left("not-joined", &message, &mut events);
        match stay {
            Stay::Out => {}
            Stay::Entering { ids, .. } => {
                let failed = |id| RoomEvent::Failed(Failure { id, code, message: message.clone() });
                events.extend(ids.into_iter().map(failed));
            }
            Stay::In | Stay::Away => events.push(RoomEvent::Disconnected { reason, message }),
        }
        self.people.clear();
        self.tell_all(events);
    }

    fn drop_link(&mut self) {
        if !matches!(self.phase, Phase::Idle | Phase::Pausing { .. }) {
            self.outputs.push_back(SignalOutput::HangUp);
        }
        self.own.link_lost();
    }

    fn drop_peer(&mut self, tell: bool) {
        self.peer = PeerState::None;
        self.outputs.push_back(SignalOutput::DropPeer { tell });
    }
}
