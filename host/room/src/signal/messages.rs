//! The messages of the server. Those that this version does not know change nothing.

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message as Response;
use tokio::time::Instant;

use super::attempt::{LIST_WITHIN, SETTLE_WITHIN};
use super::phase::{PeerState, Phase, Stay};
use super::reconnect::Way;
use super::request::{Cure, Fault};
use super::tracks::TrackNews;
use super::{Signal, SignalOutput};
use crate::wire::{self, Description};
use wasm_worker_core::room::event::{Reason, RoomEvent};

impl Signal {
    /// Take a message of the server.
    pub(crate) fn receive(&mut self, message: proto::SignalResponse, now: Instant) {
        let Some(message) = message.message else { return };
        self.pings.heard(now);
        match (self.phase, message) {
            (_, Response::Leave(leave)) if self.has_link() => self.leave_ordered(&leave, now),
            (Phase::Opening { way: Way::Join, .. }, Response::Join(join)) => self.joined(join, now),
            (Phase::Opening { way: Way::Resume { restart }, .. }, Response::Reconnect(reconnect)) => {
                self.resumed(restart, &reconnect, now);
            }
            (_, message) if self.is_served() => self.receive_served(message, now),
            // Before the first message nothing counts.
            _ => {}
        }
    }

    fn receive_served(&mut self, message: Response, now: Instant) {
        let mut events = Vec::new();
        match message {
            Response::Answer(answer) => {
                let (tracks, answer) = (answer.mid_to_track_id, Description { id: answer.id, sdp: answer.sdp });
                self.outputs.push_back(SignalOutput::Answer { answer, tracks });
            }
            Response::Trickle(trickle) => self.outputs.push_back(SignalOutput::Candidate(trickle.candidate_init)),
            Response::Update(update) => self.people_changed(&update.participants, now),
            Response::SpeakersChanged(changes) => self.people.speak(&changes.speakers, &mut events),
            Response::ConnectionQuality(update) => self.people.qualities(&update.updates, &mut events),
            Response::RoomUpdate(proto::RoomUpdate { room: Some(room) }) => {
                let room = wire::room(&room);
                if room != self.room {
                    self.room = room.clone();
                    events.push(RoomEvent::RoomChanged(room));
                }
            }
            Response::RoomMoved(moved) => self.moved(moved),
            Response::RefreshToken(token) => self.renew_token(token),
            Response::RequestResponse(answer) => {
                self.outputs.extend(TrackNews::of_answer(&answer).map(SignalOutput::Track));
                self.own.answered(&answer, &mut events);
                self.send_requests(now);
            }
            Response::PongResp(pong) => {
                let before = self.pings.answered(pong, now);
                // On a new link the server tells first what became of the requests on the old one.
                if !matches!(self.phase, Phase::Settling { list_until: Some(_), .. }) {
                    self.outputs.push_back(SignalOutput::Track(TrackNews::Heeded { before }));
                }
            }
            // The rest is for other kinds of servers, or no more than news.
            message => self.outputs.extend(TrackNews::of(message).map(SignalOutput::Track)),
        }
        if self.is_in() {
            self.tell_all(events);
        }
    }

    /// The server let the agent in.
    fn joined(&mut self, join: proto::JoinResponse, now: Instant) {
        let Some(participant) = join.participant else { return };
        let mut tracks = join.other_participants.iter().flat_map(|info| &info.tracks);
        // Somebody who begins to encrypt later does not put the agent out: it goes on with the others.
        let is_encrypted = |track: &&proto::TrackInfo| track.encryption != proto::encryption::Type::None as i32;
        if let Some(track) = tracks.find(is_encrypted).filter(|_| self.is_entering()) {
            let message =
                format!("the room is encrypted from end to end (track `{}`), which agents cannot read", track.sid);
            return self.end(Fault::new("not-supported", Reason::JoinFailure, message, Cure::None));
        }
        self.pings.ask(join.ping_interval, join.ping_timeout, now);
        self.room = join.room.as_ref().map(wire::room).unwrap_or_default();
        self.own.joined_as(&participant.name);
        self.people.set_own(&participant);
        let mut events = Vec::new();
        self.people.replace(&join.other_participants, &mut events);
        let joined = SignalOutput::Joined { identity: participant.identity, anew: self.is_in() };
        self.outputs.push_back(joined);
        if self.is_in() {
            self.tell_all(events);
        }
        self.phase = Phase::Settling { way: Way::Join, until: now + SETTLE_WITHIN, list_until: None };
        self.send_requests(now);
        self.settle(now);
    }

    /// The server knows the agent, and goes on.
    fn resumed(&mut self, restart: bool, reconnect: &proto::ReconnectResponse, now: Instant) {
        let way = Way::Resume { restart };
        if self.peer == PeerState::None {
            let fault = Fault::new("unreachable", Reason::ConnectionTimeout, "the peer connection is over", Cure::Join);
            return self.attempt_failed(fault, now);
        }
        // The peer may have lost its path since the link was dialled.
        let restart = restart || self.peer != PeerState::Ready;
        if restart {
            self.peer = PeerState::Connecting;
        }
        let (until, list_until) = (now + SETTLE_WITHIN, Some(now + LIST_WITHIN));
        self.phase = Phase::Settling { way, until, list_until };
        self.outputs.push_back(SignalOutput::Resume { restart, last_sequence: reconnect.last_message_seq });
        self.send_requests(now);
    }

    fn people_changed(&mut self, infos: &[proto::ParticipantInfo], now: Instant) {
        let mut events = Vec::new();
        // After a resumption the whole list comes, and the agent is in it.
        let is_whole = |infos: &[proto::ParticipantInfo]| infos.iter().any(|info| info.sid == self.people.own().sid);
        match &mut self.phase {
            Phase::Settling { list_until: list_until @ Some(_), .. } if is_whole(infos) => {
                *list_until = None;
                let own = infos.iter().filter(|info| info.sid == self.people.own().sid).flat_map(|info| &info.tracks);
                let muted = own.map(|track| (track.sid.clone(), track.muted)).collect();
                self.outputs.push_back(SignalOutput::Track(TrackNews::Own { muted }));
                self.people.replace(infos, &mut events);
            }
            _ => self.people.update(infos, &mut events),
        }
        if self.is_in() {
            self.tell_all(events);
        }
        self.settle(now);
    }

    /// The server moved the agent to another room, with everything that is open.
    fn moved(&mut self, moved: proto::RoomMovedResponse) {
        self.renew_token(moved.token);
        let mut events = Vec::new();
        self.room = moved.room.as_ref().map(wire::room).unwrap_or_default();
        if let Some(participant) = &moved.participant {
            self.people.set_own(participant);
        }
        self.people.replace(&moved.other_participants, &mut events);
        if self.is_in() {
            self.tell_all(events);
        }
        // An attempt that is under way tells it at its end.
        if self.stay == Stay::In {
            self.tell(RoomEvent::Connected { local: self.people.own().clone(), room: self.room.clone() });
        }
    }

    /// The server ends the link, and says what is to be done.
    fn leave_ordered(&mut self, leave: &proto::LeaveRequest, now: Instant) {
        let reason = wire::reason(leave.reason);
        let way = match Action::try_from(leave.action) {
            Ok(Action::Disconnect) | Err(_) => {
                let message = format!("the server ended the stay: {}", reason.as_str());
                return self.end(Fault::new("refused", reason, message, Cure::None));
            }
            Ok(Action::Resume) => Way::Resume { restart: true },
            Ok(Action::Reconnect) => Way::Join,
        };
        let message = format!("the server asked to reconnect: {}", reason.as_str());
        let cure = if way == Way::Join { Cure::Join } else { Cure::Again };
        let fault = Fault::new("refused", reason, message, cure);
        match self.phase {
            Phase::Up { since } | Phase::Listening { since, .. } => {
                let way = if self.peer == PeerState::None { Way::Join } else { way };
                self.lose(way, since, fault, now);
            }
            Phase::Opening { .. } | Phase::Settling { .. } => self.attempt_failed(fault, now),
            Phase::Idle | Phase::Pausing { .. } | Phase::Dialling { .. } => {}
        }
    }
}
