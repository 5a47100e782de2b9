//! The offers to clients that have two peer connections: what they get, on the second one.

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use str0m::media::Mid;

use super::Room;
use crate::clock::Moment;
use crate::room_host::member::{Member, MemberId, PeerId, Side};
use crate::room_host::peer::{Offer, Wish};
use crate::room_host::sdp::{self, Use};
use crate::room_host::second::Unanswered;
use crate::room_host::tracks::TrackId;

impl Room {
    /// Offer a participant its channels, lines for what it is to hear where they are others than before, or a new path. A
    /// participant that has not answered yet is offered nothing: its answer asks again.
    pub(super) fn offer(&mut self, id: MemberId, now: Moment) {
        let wanted = self.wanted(id);
        let Some(Member { lines, second: Some(second), asked_at, .. }) = self.members.get_mut(&id) else { return };
        if second.unanswered.is_some() {
            return;
        }
        let further = lines.request(&wanted);
        let (is_first, restarts) = (second.last_offer == 0, std::mem::take(&mut second.is_to_restart));
        if further.is_none() && !is_first && !restarts {
            return;
        }
        let wish = if is_first {
            Wish::Channels
        } else if restarts {
            Wish::Path
        } else {
            Wish::Lines
        };
        let mut new = Vec::new();
        let offer = second.peer.offer(wish, further.unwrap_or_default(), now.at, |mids| {
            let all: Vec<Mid> = lines.mids().chain(mids).collect();
            new = lines.offered(&all, &wanted);
            all.into_iter().map(|mid| (mid, lines.loads().any(|(loaded, _)| loaded == mid))).collect()
        });
        *asked_at = Some(now.at);
        self.touched.insert(id);
        let Some(Offer { sdp, name, pending }) = offer else {
            // Nothing changes by it; the next one may have other lines.
            self.to_ask.insert(id);
            return;
        };
        second.last_offer += 1;
        new.iter().for_each(|(mid, _)| second.peer.renew_source(*mid));
        let loads: Vec<(Mid, TrackId)> = lines.loads().collect();
        // A line that is new has no source in the peer before the answer.
        let source = |(mid, _): &(Mid, TrackId)| second.peer.source(*mid).or_else(|| sdp::source(&sdp, *mid));
        let sources = loads.iter().map(source).collect();
        let number = second.last_offer;
        let (mut uses, mid_to_track_id) = self.uses(loads, sources);
        let sdp = sdp::with_uses(&sdp, |mid| uses.remove(&mid).unwrap_or(Use::Nothing));
        let offer = proto::SessionDescription { r#type: "offer".into(), sdp, id: number, mid_to_track_id };
        if let Some(second) = self.members.get_mut(&id).and_then(|member| member.second.as_mut()) {
            second.unanswered = Some(Unanswered { offer, pending, new });
        }
        self.told_name(PeerId(id, Side::Second), name);
        self.tell_offer(id);
    }

    /// A participant answers an offer. An answer to none is ignored.
    pub(super) fn answered(&mut self, id: MemberId, answer: &proto::SessionDescription, now: Moment) {
        let Some(second) = self.members.get_mut(&id).and_then(|member| member.second.as_mut()) else { return };
        let Some(Unanswered { pending, new, .. }) = second.answered(answer) else { return };
        self.touched.insert(id);
        match second.peer.accept(pending, &answer.sdp, now.at) {
            Ok(()) => {
                self.tell_heard(&new, now);
                self.to_ask.insert(id);
            }
            Err(error) => self.cannot_negotiate(id, &error, now),
        }
    }

    /// A participant that came back may have missed the last offer, and has left the path of its second peer if it has another address.
    pub(super) fn offer_again(&mut self, id: MemberId) {
        let Some(second) = self.members.get_mut(&id).and_then(|member| member.second.as_mut()) else { return };
        second.is_to_restart = true;
        self.to_ask.insert(id);
        self.tell_offer(id);
    }

    /// Tell a participant the offer whose answer has not come.
    fn tell_offer(&mut self, id: MemberId) {
        let second = self.members.get(&id).and_then(|member| member.second.as_ref());
        let Some((offer, candidates)) =
            second.and_then(|second| Some((second.unanswered.as_ref()?.offer.clone(), second.peer.candidates())))
        else {
            return;
        };
        self.tell(id, Response::Offer(offer));
        self.tell_candidates(id, proto::SignalTarget::Subscriber, candidates);
    }
}
