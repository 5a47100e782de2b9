//! What happens at its time: the deadlines of links and paths, new tokens, and the timers of the peers.

use std::time::Duration;

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use tokio::time::Instant;

use super::Room;
use crate::clock::Moment;
use crate::room_host::member::{LinkState, Member, MemberId, Path};

/// How often a participant gets a new token, as in LiveKit's server.
pub(super) const TOKEN_EVERY: Duration = Duration::from_secs(300);

impl Room {
    /// When [`Self::advance`] is due.
    pub(in crate::room_host) fn wake_at(&self) -> Option<Instant> {
        let due = self.members.values().filter_map(Member::wake_at);
        due.chain(self.departures.due_at())
            .chain(self.people_due)
            .chain(self.levels_due)
            .chain(self.asks_due_at())
            .min()
    }

    /// Have everything happen that is due.
    pub(in crate::room_host) fn advance(&mut self, now: Moment) {
        let is_due = |member: &Member| member.wake_at().is_some_and(|due| due <= now.at);
        let due: Vec<MemberId> = self.members.iter().filter(|(_, member)| is_due(member)).map(|(id, _)| *id).collect();
        for id in due {
            self.advance_member(id, now);
        }
        let departures = self.departures.due(now.at);
        self.tell_departures(departures);
        self.tell_people(now);
        self.tell_speakers(now);
        self.settle(now);
    }

    /// Tell all of another number of participants, if that is due.
    fn tell_people(&mut self, now: Moment) {
        if self.people_due.is_none_or(|due| due > now.at) {
            return;
        }
        self.people_due = None;
        let people = self.people();
        if std::mem::replace(&mut self.told_people, people) != people {
            self.tell_room();
        }
    }

    fn advance_member(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.peers_mut().for_each(|(_, peer)| peer.advance(now.at));
        self.touched.insert(id);
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now.at);
        let (facts, audience) = (is_due(member.told.facts_due), is_due(member.told.audience_due));
        if facts {
            self.tell_changed(id, now);
        }
        if audience {
            self.tell_audience(id, now);
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        match (member.link, member.path) {
            (LinkState::Lost { until }, _) if until <= now.at => {
                self.remove(id, Reason::ConnectionTimeout, Action::Reconnect, now);
            }
            (_, Path::Over { until }) if until <= now.at => {
                self.remove(id, Reason::ConnectionTimeout, Action::Reconnect, now);
            }
            (_, Path::Searching { until }) if until <= now.at && !member.is_active => {
                self.remove(id, Reason::JoinFailure, Action::Reconnect, now);
            }
            (_, Path::Searching { until }) if until <= now.at => self.path_lost(id, now),
            (LinkState::Open(_), _) if member.token_due <= now.at => {
                member.token_due = now.at + TOKEN_EVERY;
                self.give_token(id);
            }
            _ => {}
        }
    }
}
