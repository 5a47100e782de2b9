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
use crate::room_host::member::{LinkId, LinkState, Member, MemberId, Path};
use crate::room_host::peer::PeerOutput;

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

    /// Remove a participant with its peer, and say nothing.
    fn take_out(&mut self, id: MemberId, reason: Reason, now: Moment) {
        let Some(mut member) = self.members.remove(&id) else { return };
        member.peer.close(now.at);
        self.history.left(&member.sid);
        while let Some(output) = member.peer.next_output() {
            if let PeerOutput::Transmit { destination, bytes } = output {
                self.outputs.push_back(RoomOutput::Transmit { destination, bytes });
            }
        }
        self.outputs.extend(member.take_names().into_iter().map(|name| RoomOutput::ForgetName { name, member: id }));
        let questions = member.take_questions().into_iter();
        self.outputs.extend(questions.map(|question| RoomOutput::ForgetQuestion { question, member: id }));
        self.outputs.extend(forget(id, &mut member));
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
        // Another client may have its addresses by now.
        member.peer.doubt_addresses();
        self.outputs.extend(forget(id, member));
        let LinkState::Open(link) = member.link else { return };
        member.link = LinkState::Lost { until: now.at + RESUME_WITHIN };
        self.by_link.remove(&link);
        self.send(link, leave(Reason::ConnectionTimeout, Action::Resume));
        self.outputs.push_back(RoomOutput::Close { link });
    }

    /// A client ended its peer, or the peer has failed.
    pub(super) fn peer_over(&mut self, id: MemberId, why: &str, now: Moment) {
        if let Some(member) = self.members.get_mut(&id) {
            tracing::debug!(target: "dispatcher", room = self.info.name, participant = member.identity(), why, "a peer ended");
            member.path = Path::Over { until: now.at + WORDS_WITHIN };
        }
    }
}

/// No address leads to a participant any more, until its next check.
fn forget(id: MemberId, member: &mut Member) -> impl Iterator<Item = RoomOutput> + use<> {
    member.take_addresses().map(move |address| RoomOutput::ForgetAddress { address, member: id })
}
