//! Who hears which track: the choices of participants, the permissions, and the lines that carry the tracks.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use str0m::media::Mid;
use tokio::time::Instant;

use super::Room;
use crate::clock::Moment;
use crate::room_host::hearing::Audience;
use crate::room_host::limits::ROOM_TRACKS_MAX;
use crate::room_host::member::{Member, MemberId};
use crate::room_host::sdp::{self, Flow, Use};
use crate::room_host::tracks::{Track, TrackId};

/// Pause between two requests to a client for an offer, so that tracks that come and go keep nobody busy.
const ASK_PAUSE: Duration = Duration::from_millis(250);

impl Room {
    /// A participant chooses what it hears.
    pub(super) fn update_subscription(&mut self, id: MemberId, update: proto::UpdateSubscription) {
        let of_participants = update.participant_tracks.into_iter().flat_map(|tracks| tracks.track_sids);
        for track_sid in update.track_sids.into_iter().chain(of_participants).take(ROOM_TRACKS_MAX) {
            let track = self.track_id(&track_sid);
            let Some(member) = self.members.get_mut(&id) else { return };
            match track {
                Some(track) => member.choices.choose(track, update.subscribe),
                None if update.subscribe => {
                    let err = proto::SubscriptionError::SeTrackNotfound as i32;
                    self.tell(id, Response::SubscriptionResponse(proto::SubscriptionResponse { track_sid, err }));
                }
                None => {}
            }
        }
        self.hear(id);
    }

    /// A caller of the API chooses for a participant. Returns whether it is there.
    pub(in crate::room_host) fn subscribe(&mut self, request: proto::UpdateSubscriptionsRequest) -> bool {
        let Some(id) = self.member_of(&request.identity) else { return false };
        let proto::UpdateSubscriptionsRequest { track_sids, subscribe, participant_tracks, .. } = request;
        self.update_subscription(id, proto::UpdateSubscription { track_sids, subscribe, participant_tracks });
        true
    }

    /// A participant wants no sound of these tracks for now, or wants it again.
    pub(super) fn pause(&mut self, id: MemberId, track_sids: &[String], is_paused: bool) {
        for track_sid in track_sids.iter().take(ROOM_TRACKS_MAX) {
            let track = self.track_id(track_sid);
            if let (Some(track), Some(member)) = (track, self.members.get_mut(&id)) {
                member.choices.pause(track, is_paused);
            }
        }
    }

    /// A participant says who may hear it. Those who may no longer, or may again, are told.
    pub(super) fn set_audience(&mut self, id: MemberId, permission: proto::SubscriptionPermission, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.audience = Audience::new(permission);
        member.told.has_chosen_audience = true;
        let others: Vec<MemberId> = self.members.keys().copied().filter(|other| *other != id).collect();
        let deaf: Vec<MemberId> = others.into_iter().filter(|other| self.keep_lines(*other)).collect();
        let present: BTreeSet<MemberId> = self.members.keys().copied().collect();
        if let Some(member) = self.members.get_mut(&id) {
            member.to_hear.retain(|other| present.contains(other));
            member.to_hear.extend(deaf);
        }
        self.tell_audience(id, now);
    }

    /// Tell those who may hear a participant no longer, or again, now or soon.
    pub(super) fn tell_audience(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !member.told.tells_audience(now.at) {
            return;
        }
        let former = std::mem::replace(&mut member.told.audience, member.audience.clone());
        // Those who lost a line to an audience that was never told get it back, if they may hear again.
        let deaf = std::mem::take(&mut member.to_hear);
        let Some(publisher) = self.members.get(&id) else { return };
        let mut changes = Vec::new();
        for (other, receiver) in self.members.iter().filter(|(other, _)| **other != id) {
            for track in publisher.tracks.published() {
                let allowed = |by: &Audience| by.allows(&receiver.sid, receiver.identity(), &track.info.sid);
                if allowed(&former) != allowed(&publisher.audience) && receiver.choices.wants(track.id) {
                    let (participant_sid, track_sid) = (publisher.sid.to_string(), track.info.sid.clone());
                    let allowed = allowed(&publisher.audience);
                    changes.push((*other, proto::SubscriptionPermissionUpdate { participant_sid, track_sid, allowed }));
                }
            }
        }
        for (other, change) in changes {
            self.tell(other, Response::SubscriptionPermissionUpdate(change));
            self.hear(other);
        }
        deaf.into_iter().for_each(|other| self.hear(other));
    }

    /// Take from a participant what it is not to hear any more, and ask it for lines that it lacks.
    pub(super) fn hear(&mut self, id: MemberId) {
        self.keep_lines(id);
        if let Some(member) = self.members.get_mut(&id) {
            member.lines.changed();
            self.to_ask.insert(id);
        }
    }

    /// Take from a participant what it is not to hear any more. Returns whether there was something.
    fn keep_lines(&mut self, id: MemberId) -> bool {
        let wanted = self.wanted(id);
        self.members.get_mut(&id).is_some_and(|member| member.lines.keep(&wanted))
    }

    /// A participant that came back may have missed the last request.
    pub(super) fn hear_again(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.lines.forget_request();
            self.hear(id);
        }
    }

    /// Put tracks on the lines that a participant offers; one with two peers gets its tracks by the host's offers instead. Returns the text
    /// of its answer, and which line carries which track.
    pub(super) fn load_lines(&mut self, id: MemberId, answer: &str, now: Moment) -> (String, HashMap<String, String>) {
        let wanted = self.wanted(id);
        let Some(member) = self.members.get_mut(&id) else { return Default::default() };
        let mids = |member: &Member, flow| -> Vec<Mid> {
            member.offered.iter().filter(|line| line.flow == flow).map(|line| line.mid).collect()
        };
        let (mut new, mut loads) = (Vec::new(), Vec::new());
        if member.second.is_none() {
            new = member.lines.offered(&mids(member, Flow::Receives), &wanted);
            new.iter().for_each(|(mid, _)| member.peer.renew_source(*mid));
            loads = member.lines.loads().collect();
        }
        let sources: Vec<Option<u32>> = loads.iter().map(|(mid, _)| member.peer.source(*mid)).collect();
        let sends = member.offered.iter().filter(|line| line.flow == Flow::Sends);
        let sending = sends.map(|line| (line.mid, Use::Receives { dtx: member.tracks.has_dtx(&line.cid) }));
        let mut uses: HashMap<Mid, Use> = sending.collect();
        let (heard, tracks) = self.uses(loads, sources);
        uses.extend(heard);
        self.tell_heard(&new, now);
        (sdp::with_uses(answer, |mid| uses.remove(&mid).unwrap_or(Use::Nothing)), tracks)
    }

    /// The uses of lines that carry these tracks by these sources of RTP, and which line carries which track.
    pub(super) fn uses(
        &self,
        loads: Vec<(Mid, TrackId)>,
        sources: Vec<Option<u32>>,
    ) -> (HashMap<Mid, Use>, HashMap<String, String>) {
        let (mut uses, mut tracks) = (HashMap::new(), HashMap::new());
        for ((mid, track), source) in loads.into_iter().zip(sources) {
            if let (Some((publisher, track)), Some(source)) = (self.published(track), source) {
                let (publisher_sid, track_sid) = (publisher.sid.to_string(), track.info.sid.clone());
                tracks.insert(mid.to_string(), track_sid.clone());
                uses.insert(mid, Use::Sends { publisher_sid, track_sid, source });
            }
        }
        (uses, tracks)
    }

    /// What a participant that comes back may have missed of those who say who hears them. Clients take the same word twice.
    pub(super) fn audiences(&self, id: MemberId) -> Vec<Response> {
        let Some(receiver) = self.members.get(&id) else { return Vec::new() };
        let others =
            self.members.iter().filter(|(other, publisher)| **other != id && publisher.told.has_chosen_audience);
        let word = |publisher: &Member, track: &Track| {
            let (participant_sid, track_sid) = (publisher.sid.to_string(), track.info.sid.clone());
            let allowed = publisher.told.audience.allows(&receiver.sid, receiver.identity(), &track_sid);
            let update = proto::SubscriptionPermissionUpdate { participant_sid, track_sid, allowed };
            Response::SubscriptionPermissionUpdate(update)
        };
        let words =
            others.flat_map(|(_, publisher)| publisher.tracks.published().map(move |track| word(publisher, track)));
        words.collect()
    }

    /// When [`Self::ask_for_lines`] is due.
    pub(super) fn asks_due_at(&self) -> Option<Instant> {
        self.to_ask.iter().filter_map(|id| self.members.get(id)).map(ask_due_at).min()
    }

    /// Ask those for lines who lack some, or have some that are to become free, and whose turn it is; or offer the lines, where the host
    /// does.
    pub(super) fn ask_for_lines(&mut self, now: Moment) {
        let is_due = |id: &&MemberId| self.members.get(id).is_none_or(|member| ask_due_at(member) <= now.at);
        let due: Vec<MemberId> = self.to_ask.iter().filter(is_due).copied().collect();
        for id in due {
            self.to_ask.remove(&id);
            let wanted = self.wanted(id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.second.is_some() {
                self.offer(id, now);
                continue;
            }
            if let Some(num_audios) = member.lines.request(&wanted) {
                member.asked_at = Some(now.at);
                let requirement = proto::MediaSectionsRequirement { num_audios, num_videos: 0 };
                self.tell(id, Response::MediaSectionsRequirement(requirement));
            }
        }
    }

    /// Tell the publishers of these tracks that somebody hears them, each once.
    pub(super) fn tell_heard(&mut self, new: &[(Mid, TrackId)], now: Moment) {
        let mut heard = Vec::new();
        let is_new = |track: &Track| new.iter().any(|(_, one)| *one == track.id);
        for (id, member) in &mut self.members {
            for track in member.tracks.published_mut().filter(|track| is_new(track)) {
                if track.heard_at.is_none() {
                    track.heard_at = Some(now.at);
                    heard.push((*id, track.info.sid.clone()));
                }
            }
        }
        for (id, track_sid) in heard {
            self.tell(id, Response::TrackSubscribed(proto::TrackSubscribed { track_sid }));
        }
    }

    /// The tracks that a participant is to hear.
    pub(super) fn wanted(&self, id: MemberId) -> Vec<TrackId> {
        let Some(member) = self.members.get(&id).filter(|member| member.permission.can_subscribe) else {
            return Vec::new();
        };
        let others = self.members.iter().filter(|(other, publisher)| **other != id && !publisher.permission.hidden);
        let tracks =
            others.flat_map(|(_, publisher)| publisher.tracks.published().map(move |track| (publisher, track)));
        let is_wanted = |(publisher, track): &(&Member, &Track)| {
            member.choices.wants(track.id) && publisher.audience.allows(&member.sid, member.identity(), &track.info.sid)
        };
        tracks.filter(is_wanted).map(|(_, track)| track.id).collect()
    }

    /// A track that others know, and who publishes it.
    fn published(&self, id: TrackId) -> Option<(&Member, &Track)> {
        let find = |member: &'_ Member| member.tracks.published().any(|track| track.id == id);
        let member = self.members.values().find(|member| find(member))?;
        Some((member, member.tracks.published().find(|track| track.id == id)?))
    }

    fn track_id(&self, sid: &str) -> Option<TrackId> {
        let mut tracks = self.members.values().flat_map(|member| member.tracks.published());
        tracks.find(|track| track.info.sid == sid).map(|track| track.id)
    }
}

/// When the client of a participant may be asked for lines.
fn ask_due_at(member: &Member) -> Instant {
    member.asked_at.map_or(member.since, |at| at + ASK_PAUSE)
}
