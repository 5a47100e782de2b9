//! The signalling of a room: joining, staying and leaving. No socket, no clock and no peer: the session connects these.
//!
//! ```text
//! people     who is in the room
//! own        the agent's own name, metadata and attributes
//! pings      proofs that the server is there
//! reconnect  how often and when attempts are made
//! request    the request that opens a link
//! tracks     what the server says about tracks
//! phase      the states
//! attempt    the steps of an attempt, its failure, the end
//! messages   the messages of the server
//! ```
//!
//! An attempt goes `Dialling → Opening → Settling → Up`. The agent sees `Connected` at the end of the first one, and `Reconnecting`
//! and `Connected` around all later ones, whatever they try.
//!
//! Bounds: `join_within` for the first join, and ten attempts for it and for each loss; each step of an attempt has its time.

mod own;
mod people;
mod pings;
mod reconnect;

mod request;

mod phase;

mod tracks;

mod attempt;
mod messages;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;
use wasm_worker_core::secret::Secret;

use crate::wire::Description;
use own::OwnFacts;
use people::People;
use phase::{PeerState, Phase, Stay};
use pings::Pings;
use reconnect::Attempts;
use request::{Cure, Fault};
use wasm_worker_core::room::command::{AgentState, OperationId};
use wasm_worker_core::room::event::{Failure, Reason, RoomEvent};
use wasm_worker_core::room::names::AGENT_STATE;
use wasm_worker_core::room::people::RoomInfo;
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};

pub(crate) use own::Wish;
pub(crate) use reconnect::Way;
pub(crate) use request::{LinkError, LinkRequest};
pub(crate) use tracks::TrackNews;

/// Most operations that wait for one join.
const JOINERS_MAX: usize = 64;

/// What the signalling asks the session for.
#[derive(Debug, PartialEq)]
pub(crate) enum SignalOutput {
    /// A join begins: sends wait for it from now on.
    Joining,
    /// Open a link with the request of [`Signal::request`]. A join has a new peer.
    Dial(Way),
    /// Send this on the link.
    Send(Request),
    /// Close the link, after what was sent.
    HangUp,
    /// Give the server's answer to the peer. `tracks`: what the server sends, by the section.
    Answer { answer: Description, tracks: HashMap<String, String> },
    /// Give an address of the server to the peer.
    Candidate(String),
    /// The link is resumed: tell the server where we are, and send again what it did not hear.
    Resume { restart: bool, last_sequence: u32 },
    /// The agent has a place in the room under this identity. `anew`: it had another one before, and nothing of that goes on.
    Joined { identity: String, anew: bool },
    /// The peer is not needed any more. `tell`: the server does not know it by other means.
    DropPeer { tell: bool },
    /// The room is left or lost: whatever waits for it fails.
    Left,
    /// News of a track.
    Track(TrackNews),
    /// Tell this.
    Event(RoomEvent),
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignalFacts {
    /// Time from the request to join to the open data channels.
    pub(crate) joined_in: Option<Duration>,
    pub(crate) resumes: u32,
    pub(crate) rejoins: u32,
    /// Attempts of any kind that failed.
    pub(crate) failed_attempts: u32,
}

/// The signalling of one room.
pub(crate) struct Signal {
    base: Result<String, String>,
    /// The newest token that the server gave.
    token: Secret,
    limits: RoomLimits,
    stay: Stay,
    phase: Phase,
    peer: PeerState,
    attempts: Attempts,
    own: OwnFacts,
    people: People,
    room: RoomInfo,
    pings: Pings,
    facts: SignalFacts,
    outputs: VecDeque<SignalOutput>,
}

impl Signal {
    /// The signalling of a room that is not joined yet. `seed` spreads the attempts of many rooms.
    pub(crate) fn new(settings: RoomSettings, seed: u64, now: Instant) -> Self {
        let RoomSettings { url, token, name, metadata, attributes, limits } = settings;
        Self {
            base: request::base(&url),
            token,
            limits,
            stay: Stay::Out,
            phase: Phase::Idle,
            peer: PeerState::None,
            attempts: Attempts::new(seed),
            own: OwnFacts::new(name, metadata, attributes),
            people: People::new(limits.participants_max),
            room: RoomInfo::default(),
            pings: Pings::new(now),
            facts: SignalFacts::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether there is no room, and none is wanted.
    pub(crate) fn is_out(&self) -> bool {
        self.stay == Stay::Out
    }

    /// Whether the first join is under way.
    pub(crate) const fn is_entering(&self) -> bool {
        matches!(self.stay, Stay::Entering { .. })
    }

    /// Whether the agent is told what happens in the room.
    pub(crate) const fn is_in(&self) -> bool {
        matches!(self.stay, Stay::In | Stay::Away)
    }

    /// What happened so far.
    pub(crate) const fn facts(&self) -> SignalFacts {
        self.facts
    }

    /// The request for the link that is dialled. `offer` is the one of the peer.
    pub(crate) fn request(&self, way: Way, offer: &Description) -> LinkRequest {
        let base = self.base.as_deref().unwrap_or_default();
        match way {
            Way::Join => request::join(base, &self.token, offer, self.own.for_join()),
            Way::Resume { .. } => request::resume(base, &self.token, &self.people.own().sid, way),
        }
    }

    /// Join the room.
    pub(crate) fn connect(&mut self, id: OperationId, now: Instant) {
        match &mut self.stay {
            Stay::In | Stay::Away => self.tell(RoomEvent::Done(id)),
            Stay::Entering { ids, .. } if ids.len() < JOINERS_MAX => ids.push(id),
            Stay::Entering { .. } => self.fail(id, "limit", "too many calls wait for the same join"),
            Stay::Out => match &self.base {
                Err(why) => self.fail(id, "invalid", &why.clone()),
                Ok(_) => {
                    self.stay = Stay::Entering { since: now, ids: vec![id] };
                    self.outputs.push_back(SignalOutput::Joining);
                    self.attempts.reset();
                    self.attempt(Way::Join, now);
                }
            },
        }
    }

    /// Give up a call. A join that nobody waits for is given up too.
    pub(crate) fn cancel(&mut self, id: OperationId) {
        self.own.cancel(id);
        if let Stay::Entering { ids, .. } = &mut self.stay {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.end(Fault::new("not-joined", Reason::ClientInitiated, "the join was cancelled", Cure::None));
            }
        }
    }

    /// Leave the room now.
    pub(crate) fn leave(&mut self) {
        if self.has_link() {
            let leave = proto::LeaveRequest {
                reason: proto::DisconnectReason::ClientInitiated as i32,
                action: proto::leave_request::Action::Disconnect as i32,
                ..Default::default()
            };
            self.outputs.push_back(SignalOutput::Send(Request::Leave(leave)));
        }
        if !self.is_out() {
            self.end(Fault::new("not-joined", Reason::ClientInitiated, "the agent left the room", Cure::None));
        }
    }

    /// Change the agent's own participant.
    pub(crate) fn wish(&mut self, id: OperationId, wish: Wish, now: Instant) {
        match self.stay {
            Stay::Out if self.own.keep(&wish) => self.tell(RoomEvent::Done(id)),
            Stay::Out => self.fail(id, "too-large", "name, metadata and attributes are too large"),
            Stay::Entering { .. } => match self.own.ask(None, wish) {
                Ok(()) => self.tell(RoomEvent::Done(id)),
                Err(failure) => self.tell(RoomEvent::Failed(Failure { id, ..failure })),
            },
            Stay::In | Stay::Away => {
                if let Err(failure) = self.own.ask(Some(id), wish) {
                    self.tell(RoomEvent::Failed(failure));
                }
            }
        }
        self.send_requests(now);
    }

    /// Show this state of the agent.
    pub(crate) fn set_state(&mut self, state: AgentState, now: Instant) {
        if self.is_out() {
            // It is short, and takes the place of the last one.
            let attributes = vec![(AGENT_STATE.into(), state.as_str().into())];
            self.own.keep(&Wish { attributes, ..Wish::default() });
        } else {
            self.own.ask_quietly(AGENT_STATE, state.as_str());
            self.send_requests(now);
        }
    }

    /// When `advance` is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Idle => None,
            Phase::Pausing { until, .. }
            | Phase::Dialling { until, .. }
            | Phase::Opening { until, .. }
            | Phase::Listening { until, .. } => Some(until),
            Phase::Settling { until, list_until, .. } => {
                Some(list_until.filter(|_| self.peer == PeerState::Ready).map_or(until, |list| list.min(until)))
            }
            Phase::Up { .. } => None,
        };
        let pings = self.is_served().then(|| self.pings.wake_at());
        let join = self.join_until().filter(|_| self.phase != Phase::Idle);
        [phase, pings, join, self.own.wake_at()].into_iter().flatten().min()
    }

    /// Have everything happen that is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        let mut events = Vec::new();
        self.own.advance(now, &mut events);
        self.tell_all(events);
        // A request that is given up has left its space.
        self.send_requests(now);
        if self.is_served() && self.pings.is_silent(now) {
            self.link_lost("the server was silent", now);
        }
        if self.is_served() {
            let ping = self.pings.due(now);
            self.outputs.extend(ping.map(SignalOutput::Send));
        }
        self.advance_phase(now);
        if self.join_until().is_some_and(|until| until <= now) {
            let message = format!("the room was not joined within {:?}", self.limits.join_within);
            self.end(Fault::new("timeout", Reason::JoinFailure, message, Cure::None));
        }
    }

    /// The next output.
    pub(crate) fn next_output(&mut self) -> Option<SignalOutput> {
        self.outputs.pop_front()
    }

    /// Take a token that the server gave. An empty one is none.
    fn renew_token(&mut self, token: String) {
        if !token.is_empty() {
            self.token.0 = token;
        }
    }

    /// Send the requests that have not been sent on this link.
    fn send_requests(&mut self, now: Instant) {
        while self.is_served() {
            let Some(request) = self.own.next_request(now) else { return };
            self.outputs.push_back(SignalOutput::Send(Request::UpdateMetadata(request)));
        }
    }

    /// A request without an answer was sent: have a ping prove soon that it arrived.
    pub(crate) fn prove(&mut self, now: Instant) {
        self.pings.prove(now);
    }

    /// Whether the server speaks with the agent.
    pub(crate) const fn is_served(&self) -> bool {
        matches!(self.phase, Phase::Settling { .. } | Phase::Up { .. } | Phase::Listening { .. })
    }

    const fn has_link(&self) -> bool {
        self.is_served() || matches!(self.phase, Phase::Opening { .. })
    }

    fn join_until(&self) -> Option<Instant> {
        match self.stay {
            Stay::Entering { since, .. } => Some(since + self.limits.join_within),
            Stay::Out | Stay::In | Stay::Away => None,
        }
    }

    fn fail(&mut self, id: OperationId, code: &'static str, message: &str) {
        self.tell(RoomEvent::Failed(Failure { id, code, message: message.to_owned() }));
    }

    fn tell(&mut self, event: RoomEvent) {
        self.outputs.push_back(SignalOutput::Event(event));
    }

    fn tell_all(&mut self, events: Vec<RoomEvent>) {
        self.outputs.extend(events.into_iter().map(SignalOutput::Event));
    }
}
