//! Losses and ends: of a link, of a path, of a participant, of the room.

use std::time::Duration;

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use proto::signal_response::Message as Response;
use wasm_worker_core::event::HostedKind;

use super::answers::leave;
use super::{Room, RoomOutput};
use crate::clock::Moment;
use crate::room_host::limits::RESUME_WITHIN;
use crate::room_host::member::{LinkId, LinkState, MemberId, Path, PeerId};
use crate::room_host::peer::{Peer, PeerOutput};

/// Time for a client that ended its peer to say why. It does both in one moment.
const WORDS_WITHIN: Duration = Duration::from_secs(2);
/// Time from a change of the number of participants until all are told, so that many changes make few messages.
const PEOPLE_TOLD_AFTER: Duration = Duration::from_secs(1);

impl Room {
    /// A link ended without a word.
    pub(in crate::room_host) fn link_lost(&mut self, link: LinkId, now: Moment) {
        let Some(id) = self.by_link.remove(&link) else { return };
        if let Some(member) = self.members.get_mut(&id) {
            member.link = LinkState::Lost { until: now.at + RESUME_WITHIN };
        }
    }

    /// Put a participant out of the room.
    pub(in crate::room_host) fn remove_participant(&mut self, identity: &str, now: Moment) -> bool {
        let Some(id) = self.member_of(identity) else { return false };
        self.remove(id, Reason::ParticipantRemoved, Action::Disconnect, now);
        self.settle(now);
        true
    }

    /// End the room.
    pub(in crate::room_host) fn close(&mut self, reason: Reason, now: Moment) {
        // Nobody is left whom the end of the others would concern.
        let all: Vec<MemberId> = self.members.keys().copied().collect();
        let links: Vec<LinkId> = self.by_link.keys().copied().collect();
        if !links.is_empty() {
            let message = Box::new(proto::SignalResponse { message: Some(leave(reason, Action::Disconnect)) });
            self.outputs.push_back(RoomOutput::Send { links: links.clone(), message });
            self.outputs.extend(links.into_iter().map(|link| RoomOutput::Close { link }));
        }
        for id in all {
            self.take_out(id, reason, now);
        }
        self.by_link.clear();
    }

    /// Remove a participant, and tell it and the others.
    pub(super) fn remove(&mut self, id: MemberId, reason: Reason, action: Action, now: Moment) {
        if let Some(gone) = self.put_out(id, reason, action, now) {
            let too_many = self.departures.add(gone, now.at);
            self.tell_departures(too_many);
        }
    }

    /// Remove a participant, and tell it. Returns what the others are to be told.
    pub(super) fn put_out(
        &mut self,
        id: MemberId,
        reason: Reason,
        action: Action,
        now: Moment,
    ) -> Option<proto::ParticipantInfo> {
        let member = self.members.get(&id)?;
        let (gone, link) = ((!member.permission.hidden).then(|| member.gone(reason)), member.open_link());
        if let Some(link) = link {
            self.send(link, leave(reason, action));
            self.outputs.push_back(RoomOutput::Close { link });
            self.by_link.remove(&link);
        }
        self.take_out(id, reason, now);
        gone
    }

    /// Tell of participants who left.
    pub(super) fn tell_departures(&mut self, participants: Vec<proto::ParticipantInfo>) {
        if !participants.is_empty() {
            self.tell_others(None, Response::Update(proto::ParticipantUpdate { participants }));
        }
    }

    /// Remove a participant with its peers, and say nothing.
    fn take_out(&mut self, id: MemberId, reason: Reason, now: Moment) {
        let Some(mut member) = self.members.remove(&id) else { return };
        self.history.left(&member.sid);
        for (side, found) in member.peers_mut() {
            let peer = PeerId(id, side);
            found.close(now.at);
            while let Some(output) = found.next_output() {
                if let PeerOutput::Transmit { destination, bytes } = output {
                    self.outputs.push_back(RoomOutput::Transmit { destination, bytes });
                }
            }
            let names = found.ways.take_names().into_iter();
            self.outputs.extend(names.map(|name| RoomOutput::ForgetName { name, peer }));
            let questions = found.ways.take_questions().into_iter();
            self.outputs.extend(questions.map(|question| RoomOutput::ForgetQuestion { question, peer }));
            self.outputs.extend(forget(peer, found));
        }
        let (info, tracks) = (member.gone(reason), member.tracks.take());
        self.report_ends(&info, &tracks);
        if member.is_active {
            self.report(HostedKind::ParticipantLeft, &info, None);
        }
        self.tracks_over(&tracks);
        self.people_changed(now);
    }

    /// The number of participants may be another one. All are told soon, and of several changes at once.
    pub(super) fn people_changed(&mut self, now: Moment) {
        self.people_due.get_or_insert(now.at + PEOPLE_TOLD_AFTER);
    }

    pub(super) fn path_found(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id)
            && !matches!(member.path, Path::Over { .. })
            // The time of a new participant is that for its data channels, which need a path and more.
            && member.is_active
        {
            member.path = Path::Found;
        }
    }

    /// No path leads to a participant: it is to come back with a new link, and to look for one.
    pub(super) fn path_lost(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if matches!(member.path, Path::Over { .. } | Path::Lost) {
            return;
        }
        member.path = Path::Lost;
        let peer = PeerId(id, member.getting_side());
        self.doubt(peer);
        let Some(member) = self.members.get_mut(&id) else { return };
        let LinkState::Open(link) = member.link else { return };
        member.link = LinkState::Lost { until: now.at + RESUME_WITHIN };
        self.by_link.remove(&link);
        self.send(link, leave(Reason::ConnectionTimeout, Action::Resume));
        self.outputs.push_back(RoomOutput::Close { link });
    }

    /// The client of a peer may have left its addresses, and another one may have them by now.
    pub(super) fn doubt(&mut self, id: PeerId) {
        let Some(peer) = self.peer_mut(id) else { return };
        peer.doubt_addresses();
        let forgotten = forget(id, peer);
        self.outputs.extend(forgotten);
    }

    /// A client ended its peer, or the peer has failed.
    pub(super) fn peer_over(&mut self, id: MemberId, why: &str, now: Moment) {
        if let Some(member) = self.members.get_mut(&id) {
            tracing::debug!(target: "dispatcher", room = self.info.name, participant = member.identity(), why, "a peer ended");
            member.path = Path::Over { until: now.at + WORDS_WITHIN };
        }
    }
}

/// No address leads to a peer any more, until the next check of its client.
fn forget(id: PeerId, peer: &mut Peer) -> impl Iterator<Item = RoomOutput> + use<> {
    peer.ways.take_addresses().map(move |address| RoomOutput::ForgetAddress { address, peer: id })
}
