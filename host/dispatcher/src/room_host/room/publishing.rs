//! Tracks: how they are announced, published, muted, and over.

use livekit_protocol as proto;
use proto::request_response::Request;
use proto::signal_response::Message as Response;

use super::Room;
use crate::clock::Moment;
use crate::ids::new_id;
use crate::room_host::limits::ROOM_TRACKS_MAX;
use crate::room_host::member::MemberId;
use crate::room_host::tracks::{Mute, Track, TrackError, TrackId, unpublished};

/// Why a track is not muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MuteError {
    /// Nobody has the identity.
    #[error("participant does not exist")]
    Participant,
    /// The participant has no such track.
    #[error("track is not found")]
    Track,
    /// As in LiveKit's server, only the participant itself gives its voice back.
    #[error("remote unmute not enabled")]
    Unmute,
}

impl Room {
    /// A client announces a track.
    pub(super) fn add_track(&mut self, id: MemberId, request: proto::AddTrackRequest, now: Moment) {
        let count: usize = self.members.values().map(|member| member.tracks.count()).sum();
        let Self { members, last_track, rng, .. } = self;
        let Some(member) = members.get_mut(&id) else { return };
        let new = || {
            *last_track += 1;
            (TrackId(*last_track), new_id("TR_", rng))
        };
        let cid = request.cid.clone();
        let told = request.clone();
        let announced = match count {
            ROOM_TRACKS_MAX.. => Err(TrackError::Room),
            _ => member.tracks.announce(request, &member.permission, new, now.at).cloned(),
        };
        match announced {
            Ok(track) => {
                self.tell(id, Response::TrackPublished(proto::TrackPublishedResponse { cid, track: Some(track) }));
                self.match_lines(id, now);
            }
            Err(error) => self.refuse(id, error, Request::AddTrack(told)),
        }
    }

    /// A client announces a track of data. There is no sound in it.
    pub(super) fn refuse_data_track(&mut self, id: MemberId, request: proto::PublishDataTrackRequest) {
        self.refuse(id, TrackError::NoSound, Request::PublishDataTrack(request));
    }

    fn refuse(&mut self, id: MemberId, error: TrackError, request: Request) {
        let (reason, message, request) = (error.reason() as i32, error.to_string(), Some(request));
        self.tell(id, Response::RequestResponse(proto::RequestResponse { request_id: 0, reason, message, request }));
    }

    /// Publish the announced tracks whose lines are offered, and end those whose lines are not.
    pub(super) fn match_lines(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let (is_changed, over) = member.tracks.offered(&member.offered);
        if is_changed {
            member.change(|_| {});
            let info = member.info();
            self.report_ends(&info, &over);
            self.report_tracks(id, now);
            self.tell_changed(id, now);
            self.tracks_changed(&over);
        }
    }

    /// A participant mutes its track, or gives its voice back.
    pub(super) fn mute_own(&mut self, id: MemberId, mute: &proto::MuteTrackRequest, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(track) = member.tracks.by_sid(&mute.sid) {
            track.mute = Mute::Known;
        }
        self.set_muted(id, mute, now);
    }

    fn set_muted(&mut self, id: MemberId, mute: &proto::MuteTrackRequest, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let track = member.tracks.by_sid(&mute.sid).filter(|track| track.info.muted != mute.muted);
        if let Some(track) = track {
            track.info.muted = mute.muted;
            member.change(|_| {});
            self.tell_changed(id, now);
        }
    }

    /// A caller of the API mutes a track.
    pub(in crate::room_host) fn mute_track(
        &mut self,
        request: &proto::MuteRoomTrackRequest,
        now: Moment,
    ) -> Result<proto::TrackInfo, MuteError> {
        let id = self.member_of(&request.identity).ok_or(MuteError::Participant)?;
        if !request.muted {
            return Err(MuteError::Unmute);
        }
        let member = self.members.get_mut(&id).ok_or(MuteError::Participant)?;
        let track = member.tracks.by_sid(&request.track_sid).ok_or(MuteError::Track)?;
        track.mute = Mute::Untold;
        let info = track.info.clone();
        let mute = proto::MuteTrackRequest { sid: request.track_sid.clone(), muted: true };
        // The word to the owner comes first: a client that hears from others that it is muted says that it is not.
        self.tell(id, Response::Mute(mute.clone()));
        self.set_muted(id, &mute, now);
        Ok(proto::TrackInfo { muted: true, ..info })
    }

    /// The permission of a participant has changed: what it does not allow is over.
    pub(super) fn permission_changed(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let over = member.tracks.permit(&member.permission, now.at);
        let info = member.info();
        self.report_ends(&info, &over);
        for track in &over {
            self.tell(id, unpublished(track.info.sid.clone()));
        }
        self.tracks_over(&over);
        self.hear(id);
    }

    /// These tracks are over, because their participant has left or may publish them no longer.
    pub(super) fn tracks_over(&mut self, over: &[Track]) {
        // A track that nobody knew concerns nobody.
        if over.iter().any(Track::is_published) {
            self.tracks_changed(over);
        }
    }

    /// There are other tracks than before: these are over.
    pub(super) fn tracks_changed(&mut self, over: &[Track]) {
        for track in over {
            let (sid, (forwarded, dropped)) = (&track.info.sid, track.counts());
            tracing::debug!(target: "dispatcher", room = self.info.name, sid, forwarded, dropped, "a track is over");
            self.members.values_mut().for_each(|member| member.choices.forget(track.id));
        }
        let all: Vec<MemberId> = self.members.keys().copied().collect();
        for id in all {
            self.hear(id);
        }
    }
}
