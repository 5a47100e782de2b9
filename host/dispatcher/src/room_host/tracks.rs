//! The tracks that a participant publishes. Pure.
//!
//! A client announces a track, and then offers a line that carries it. From then on others know of it and may hear it.
//!
//! Bounds: [`TRACKS_MAX`] tracks of a participant, names of [`NAME_BYTES_MAX`] bytes. A track may send [`TRACK_PACKETS_A_SECOND`] and
//! [`PAYLOAD_BYTES_MAX`] in a packet; what is beyond is dropped and counted.

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use proto::{AudioTrackFeature, TrackSource, TrackType};
use str0m::media::Mid;
use tokio::time::Instant;

use super::limits::{ROOM_TRACKS_MAX, TRACK_PACKETS_A_SECOND, TRACKS_MAX};
use super::pace::Pace;
use super::peer::Sound;
use super::sdp::{Flow, SoundLine};
use crate::limits::NAME_BYTES_MAX;

/// The time whose share of packets may come at once.
const BURST: Duration = Duration::from_secs(1);
/// Largest payload of a packet, in bytes: the largest frame of Opus (RFC 6716) with what end-to-end encryption adds.
const PAYLOAD_BYTES_MAX: usize = 1_275 + 64;

/// The number of a track in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TrackId(pub(super) u64);

/// A track of a participant.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) id: TrackId,
    /// The name that its client gave it.
    cid: String,
    /// The track as others see it.
    pub(super) info: proto::TrackInfo,
    /// The line that carries it, once there is one.
    line: Option<Mid>,
    /// Whether the observers know of it.
    pub(super) is_reported: bool,
    /// When its client was told that the track is announced.
    pub(super) announced_at: Instant,
    /// When its client was told that somebody hears it.
    pub(super) heard_at: Option<Instant>,
    pub(super) mute: Mute,
    pace: Pace,
    pub(super) level: Level,
    /// The packets that were given on, and those that were too many or too large.
    counts: (u64, u64),
}

/// Whether the client of a track knows that it is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mute {
    /// It is not, or its client has said so.
    Known,
    /// A caller of the API has muted it, and its client has not said yet that it knows.
    Untold,
}

/// Why a track is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TrackError {
    /// The host forwards sound only.
    #[error("this host forwards sound, and no video and no other data")]
    NoSound,
    /// The participant may not publish this source.
    #[error("the token of the participant does not allow to publish this source")]
    NotAllowed,
    /// The participant has too many tracks.
    #[error("the participant has {TRACKS_MAX} tracks, which is the most")]
    Count,
    /// The room has too many tracks.
    #[error("the room has {ROOM_TRACKS_MAX} tracks, which is the most")]
    Room,
    /// A name is too long.
    #[error("the name of the track, of its stream or of the client's own track has more than {NAME_BYTES_MAX} bytes")]
    Name,
}

impl TrackError {
    /// The reason as LiveKit's clients know it.
    pub(super) const fn reason(self) -> proto::request_response::Reason {
        match self {
            Self::NoSound => proto::request_response::Reason::UnsupportedType,
            Self::NotAllowed => proto::request_response::Reason::NotAllowed,
            Self::Count | Self::Room | Self::Name => proto::request_response::Reason::LimitExceeded,
        }
    }
}

/// Whether a participant may publish a source.
pub(super) fn may_publish(permission: &proto::ParticipantPermission, source: i32) -> bool {
    let sources = &permission.can_publish_sources;
    permission.can_publish && (sources.is_empty() || sources.contains(&source))
}

/// The tracks of one participant.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    tracks: Vec<Track>,
    /// The tracks that the permission ended, and when: the last [`TRACKS_MAX`]. Their client may not have heard of it.
    ended: VecDeque<(String, Instant)>,
}

impl Tracks {
    /// The tracks that others know.
    pub(super) fn published(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.is_published())
    }

    pub(super) fn published_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        self.tracks.iter_mut().filter(|track| track.is_published())
    }

    /// Whether the client announced or publishes a track with this sid, or did before the permission ended it.
    pub(super) fn has(&self, sid: &str) -> bool {
        self.tracks.iter().any(|track| track.info.sid == sid) || self.ended.iter().any(|(ended, _)| ended == sid)
    }

    /// The number of tracks, announced ones too.
    pub(super) const fn count(&self) -> usize {
        self.tracks.len()
    }

    /// Take in an announced track. Returns it as its client hears of it, or as it was announced before.
    pub(super) fn announce(
        &mut self,
        request: proto::AddTrackRequest,
        permission: &proto::ParticipantPermission,
        new: impl FnOnce() -> (TrackId, String),
        now: Instant,
    ) -> Result<&proto::TrackInfo, TrackError> {
        if request.r#type() != TrackType::Audio {
            return Err(TrackError::NoSound);
        }
        if !may_publish(permission, request.source) {
            return Err(TrackError::NotAllowed);
        }
        let longest = request.cid.len().max(request.name.len()).max(request.stream.len());
        if longest > NAME_BYTES_MAX {
            return Err(TrackError::Name);
        }
        let at = match self.tracks.iter().position(|track| track.cid == request.cid) {
            Some(at) => at,
            None if self.tracks.len() >= TRACKS_MAX => return Err(TrackError::Count),
            None => {
                let (id, sid) = new();
                self.tracks.push(Track::new(id, sid, request, now));
                self.tracks.len() - 1
            }
        };
        let track = self.tracks.get_mut(at).ok_or(TrackError::Count)?;
        track.announced_at = now;
        Ok(&track.info)
    }

    /// Whether the client of this track may send next to nothing while there is silence.
    #[expect(deprecated, reason = "clients set it")]
    pub(super) fn has_dtx(&self, cid: &str) -> bool {
        self.tracks.iter().find(|track| track.cid == cid).is_none_or(|track| !track.info.disable_dtx)
    }

    /// The client offers these lines. Returns whether others have to hear of a change, and the tracks that are over.
    pub(super) fn offered(&mut self, lines: &[SoundLine]) -> (bool, Vec<Track>) {
        let mut is_changed = false;
        let is_over = |track: &mut Track| {
            let sends = |line: &&SoundLine| line.flow == Flow::Sends && line.cid == track.cid;
            let line = lines.iter().find(sends).map(|line| line.mid);
            is_changed |= line != track.line;
            let was_published = std::mem::replace(&mut track.line, line).is_some();
            track.info.mid = line.map(|mid| mid.to_string()).unwrap_or_default();
            was_published && line.is_none()
        };
        let over = self.tracks.extract_if(.., is_over).collect();
        (is_changed, over)
    }

    /// What the client of these tracks may have missed since then: the tracks that its permission ended, those that it announced,
    /// those that are muted, and those that somebody hears.
    pub(super) fn missed(&self, since: Instant) -> Vec<Response> {
        let ended = self.ended.iter().filter(|(_, at)| *at >= since).map(|(sid, _)| unpublished(sid.clone()));
        let (mut answers, mut muted, mut heard) = (Vec::new(), Vec::new(), Vec::new());
        for track in &self.tracks {
            let sid = track.info.sid.clone();
            if track.announced_at >= since {
                let published =
                    proto::TrackPublishedResponse { cid: track.cid.clone(), track: Some(track.info.clone()) };
                answers.push(Response::TrackPublished(published));
            }
            if track.mute == Mute::Untold {
                muted.push(Response::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: true }));
            }
            if track.heard_at.is_some_and(|at| at >= since) {
                heard.push(Response::TrackSubscribed(proto::TrackSubscribed { track_sid: sid }));
            }
        }
        ended.chain(answers).chain(muted).chain(heard).collect()
    }

    /// Remove the tracks that the permission no longer allows.
    pub(super) fn permit(&mut self, permission: &proto::ParticipantPermission, now: Instant) -> Vec<Track> {
        let over: Vec<Track> =
            self.tracks.extract_if(.., |track| !may_publish(permission, track.info.source)).collect();
        self.ended.extend(over.iter().map(|track| (track.info.sid.clone(), now)));
        self.ended.drain(..self.ended.len().saturating_sub(TRACKS_MAX));
        over
    }

    /// Remove all tracks.
    pub(super) fn take(&mut self) -> Vec<Track> {
        std::mem::take(&mut self.tracks)
    }

    /// The track on a line of the client.
    pub(super) fn on_line(&mut self, mid: Mid) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.line == Some(mid))
    }

    /// The track with this sid.
    pub(super) fn by_sid(&mut self, sid: &str) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.info.sid == sid)
    }
}

/// The word that a track is over by the permission.
pub(super) fn unpublished(track_sid: String) -> Response {
    Response::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid })
}

impl Track {
    fn new(id: TrackId, sid: String, request: proto::AddTrackRequest, now: Instant) -> Self {
        let known = [
            AudioTrackFeature::TfStereo,
            AudioTrackFeature::TfNoDtx,
            AudioTrackFeature::TfAutoGainControl,
            AudioTrackFeature::TfEchoCancellation,
            AudioTrackFeature::TfNoiseSuppression,
            AudioTrackFeature::TfEnhancedNoiseCancellation,
            AudioTrackFeature::TfPreconnectBuffer,
        ];
        let is_told = |one: &AudioTrackFeature| request.audio_features.contains(&(*one as i32));
        #[expect(deprecated, reason = "older clients read these two fields")]
        let info = proto::TrackInfo {
            sid,
            r#type: TrackType::Audio as i32,
            name: request.name,
            muted: request.muted,
            disable_dtx: request.disable_dtx,
            source: TrackSource::try_from(request.source).unwrap_or_default() as i32,
            mime_type: "audio/opus".into(),
            stereo: request.stereo,
            disable_red: true,
            encryption: proto::encryption::Type::try_from(request.encryption).unwrap_or_default() as i32,
            stream: request.stream,
            audio_features: known.into_iter().filter(is_told).map(|one| one as i32).collect(),
            ..Default::default()
        };
        let (cid, pace, level) = (request.cid, Pace::default(), Level::default());
        Self {
            id,
            cid,
            info,
            line: None,
            is_reported: false,
            announced_at: now,
            heard_at: None,
            mute: Mute::Known,
            pace,
            level,
            counts: (0, 0),
        }
    }

    /// Whether others know of it.
    pub(super) const fn is_published(&self) -> bool {
        self.line.is_some()
    }

    /// Whether a packet is to be given on. Packets of a muted track are not, nor are those that are too many.
    pub(super) fn admits(&mut self, sound: &Sound, now: Instant) -> bool {
        let share = Duration::from_secs(1) / TRACK_PACKETS_A_SECOND;
        let has_size = (1..=PAYLOAD_BYTES_MAX).contains(&sound.payload.len());
        let is_within = has_size && self.pace.admits(share, BURST, now);
        match (is_within, self.info.muted) {
            (true, false) => self.counts.0 += 1,
            (true, true) => {}
            (false, _) => self.counts.1 += 1,
        }
        is_within && !self.info.muted
    }

    /// A packet that was admitted is one too many for the room.
    pub(super) const fn count_dropped(&mut self) {
        self.counts = (self.counts.0.saturating_sub(1), self.counts.1 + 1);
    }

    /// The packets that were given on, and those that were too many or too large.
    pub(super) const fn counts(&self) -> (u64, u64) {
        self.counts
    }
}

/// Level of sound, in negative decibels of full scale, from which on somebody speaks, as in LiveKit's server.
const SPEAKS_FROM_DB: i8 = -35;
/// Share of an interval with such sound that makes a speaker, in percent, as in LiveKit's server.
const SPEAKS_PERCENT: usize = 40;
/// The time of one packet, about, with which clients send.
const PACKET_TIME: Duration = Duration::from_millis(20);
/// The time over which the levels are taken, as in LiveKit's server.
pub(super) const LEVEL_INTERVAL: Duration = Duration::from_millis(400);

/// The level of a track over the last interval, by what its packets say (RFC 6464).
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Packets with sound, and the loudest of them.
    loud: usize,
    loudest_db: Option<i8>,
}

impl Level {
    /// A packet says how loud it is.
    pub(super) fn observe(&mut self, level_db: i8) {
        if level_db >= SPEAKS_FROM_DB {
            self.loud += 1;
            self.loudest_db = self.loudest_db.max(Some(level_db));
        }
    }

    /// The level of the interval that is over, from 0 to 1; none where nobody spoke.
    pub(super) fn take(&mut self) -> Option<f32> {
        let Self { loud, loudest_db } = std::mem::take(self);
        let time = PACKET_TIME * u32::try_from(loud).unwrap_or(u32::MAX);
        let is_speaking = time.as_millis() * 100 >= LEVEL_INTERVAL.as_millis() * SPEAKS_PERCENT as u128;
        let level = 10_f32.powf(f32::from(loudest_db?.min(0)) / 20.0);
        is_speaking.then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn permission() -> proto::ParticipantPermission {
        proto::ParticipantPermission { can_publish: true, ..Default::default() }
    }

    fn announce(tracks: &mut Tracks, request: proto::AddTrackRequest, number: u64) -> Result<String, TrackError> {
        let new = || (TrackId(number), format!("TR_{number}"));
        tracks.announce(request, &permission(), new, Instant::now()).map(|info| info.sid.clone())
    }

    fn request(cid: &str) -> proto::AddTrackRequest {
        proto::AddTrackRequest { cid: cid.into(), source: TrackSource::Microphone as i32, ..Default::default() }
    }

    fn line(mid: &str, cid: &str) -> SoundLine {
        SoundLine { mid: mid.into(), flow: Flow::Sends, cid: cid.into() }
    }

    fn sound(bytes: usize) -> Sound {
        Sound {
            mid: "1".into(),
            source: 7,
            sequence: 0,
            time: 0,
            is_marked: false,
            level_db: None,
            has_voice: None,
            payload: Arc::from(vec![0; bytes]),
        }
    }

    #[test]
    fn announced_tracks_have_bounds_and_names() {
        let mut tracks = Tracks::default();
        let video = proto::AddTrackRequest { r#type: TrackType::Video as i32, ..request("v") };
        assert_eq!(announce(&mut tracks, video, 1), Err(TrackError::NoSound));
        assert_eq!(announce(&mut tracks, request(&"x".repeat(NAME_BYTES_MAX + 1)), 1), Err(TrackError::Name));
        for number in 0..TRACKS_MAX {
            let number = u64::try_from(number).unwrap();
            assert_eq!(announce(&mut tracks, request(&number.to_string()), number), Ok(format!("TR_{number}")));
        }
        assert_eq!(announce(&mut tracks, request("one more"), 99), Err(TrackError::Count));
        assert_eq!(announce(&mut tracks, request("1"), 99), Ok("TR_1".into()), "it was announced before");
        let camera = TrackSource::Camera as i32;
        let only_camera = proto::ParticipantPermission { can_publish_sources: vec![camera], ..permission() };
        let refused = tracks.announce(request("1"), &only_camera, || unreachable!(), Instant::now());
        assert_eq!(refused.map(|info| info.sid.clone()), Err(TrackError::NotAllowed));
        assert_eq!(tracks.permit(&only_camera, Instant::now()).len(), TRACKS_MAX);
        assert_eq!(tracks.count(), 0);
    }

    #[test]
    fn tracks_are_published_by_their_lines_and_end_with_them() {
        let mut tracks = Tracks::default();
        announce(&mut tracks, request("a"), 1).unwrap();
        announce(&mut tracks, request("b"), 2).unwrap();
        let offered = |tracks: &mut Tracks, lines: &[SoundLine]| {
            let (is_changed, over) = tracks.offered(lines);
            (is_changed, over.into_iter().map(|track| track.id).collect::<Vec<_>>())
        };
        assert_eq!(offered(&mut tracks, &[line("1", "c")]), (false, vec![]));
        assert_eq!(tracks.published().count(), 0);
        let lines = [line("1", "c"), line("2", "b"), line("3", "a")];
        assert_eq!(offered(&mut tracks, &lines), (true, vec![]));
        assert_eq!(offered(&mut tracks, &lines), (false, vec![]));
        assert_eq!(tracks.on_line("3".into()).map(|track| track.id), Some(TrackId(1)));
        let mut receives = line("2", "b");
        receives.flow = Flow::Receives;
        assert_eq!(offered(&mut tracks, &[receives, line("3", "a")]), (true, vec![TrackId(2)]));
        assert!(tracks.has("TR_1") && !tracks.has("TR_2"));
    }

    #[test]
    fn flood_and_large_packets_are_dropped_and_counted() {
        let (mut tracks, now) = (Tracks::default(), Instant::now());
        announce(&mut tracks, request("a"), 1).unwrap();
        let track = tracks.by_sid("TR_1").unwrap();
        let burst = (0..1_000).filter(|_| track.admits(&sound(100), now)).count();
        assert!((150..=151).contains(&burst), "{burst}");
        // For as long as it likes.
        let later = (1..=2_000).filter(|ms| track.admits(&sound(100), now + Duration::from_millis(*ms))).count();
        assert!((299..=301).contains(&later), "{later}");
        let rested = now + Duration::from_secs(9);
        assert!(!track.admits(&sound(0), rested) && !track.admits(&sound(PAYLOAD_BYTES_MAX + 1), rested));
        assert!(track.admits(&sound(PAYLOAD_BYTES_MAX), rested));
        let given = u64::try_from(burst + later + 1).unwrap();
        assert_eq!(track.counts(), (given, 3_000 + 3 - given));
        track.info.muted = true;
        assert!(!track.admits(&sound(100), rested));
        assert_eq!(track.counts(), (given, 3_003 - given), "it is no fault of the sender's");
    }

    #[test]
    fn speaker_is_loud_for_long_enough() {
        let mut level = Level::default();
        (0..7).for_each(|_| level.observe(-20));
        (0..13).for_each(|_| level.observe(-36));
        assert_eq!(level.take(), None);
        (0..8).for_each(|_| level.observe(-20));
        level.observe(-127);
        let loud = level.take().unwrap();
        assert!((loud - 0.1).abs() < 0.001, "{loud}");
        assert_eq!(level.take(), None, "the next interval begins with nothing");
    }
}
