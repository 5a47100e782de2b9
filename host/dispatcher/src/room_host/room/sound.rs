//! Sound, from one participant to those who hear it, and who speaks.
//!
//! Nobody waits for another one: a packet that does not leave at once is lost for its receiver alone. A room that has more packets
//! than [`PACKETS_A_SECOND`] loses the ones beyond, so that other rooms have their share of the machine. Each participant that
//! sends sound has an equal share of them for itself, and what others leave over: one that floods takes nobody's voice.

use std::time::Duration;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use tokio::time::Instant;

use super::Room;
use crate::clock::Moment;
use crate::room_host::member::{Member, MemberId, Path};
use crate::room_host::peer::Sound;
use crate::room_host::tracks::{LEVEL_INTERVAL, TrackId};

/// Packets with sound that a room sends in a second: 100 voices that 2 others hear, or 15 that everybody of 15 hears.
const PACKETS_A_SECOND: u32 = 10_000;
/// The time whose share of packets may come at once.
const BURST: Duration = Duration::from_millis(500);
/// The time whose share of packets of one participant may come at once, whatever the others send.
const FAIR_BURST: Duration = Duration::from_millis(200);
/// Somebody who sent sound in this time has a share.
const SPEAKS_WITHIN: Duration = Duration::from_secs(1);
/// Steps of the levels that are told, as in LiveKit's server.
const LEVEL_STEPS: f32 = 8.0;

impl Room {
    /// A participant sent sound.
    pub(super) fn forward_sound(&mut self, from: MemberId, sound: &Sound, now: Moment) {
        let Some(member) = self.members.get_mut(&from) else { return };
        let Some(track) = member.tracks.on_line(sound.mid) else { return };
        if !track.admits(sound, now.at) {
            return;
        }
        member.last_sound_at = Some(now.at);
        if let Some(level_db) = sound.level_db {
            track.level.observe(level_db);
            self.levels_due.get_or_insert(now.at + LEVEL_INTERVAL);
        }
        let track = track.id;
        if !self.admits_sound(from, track, now) {
            if let Some(track) = self.members.get_mut(&from).and_then(|member| member.tracks.on_line(sound.mid)) {
                track.count_dropped();
            }
            return;
        }
        for (id, member) in self.members.iter_mut().filter(|(_, member)| hears(member, track)) {
            let Some(line) = member.lines.of(track) else { continue };
            let Some(numbers) = line.numbers.of(sound, now.at) else { continue };
            let mid = line.mid;
            member.getting_peer().send_sound(mid, numbers, sound, now.at);
            self.touched.insert(*id);
        }
    }

    /// Whether a packet of a track leaves for all who hear it.
    fn admits_sound(&mut self, from: MemberId, track: TrackId, now: Moment) -> bool {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let receivers = count(self.members.values().filter(|member| hears(member, track)).count());
        let speaks = |at: Instant| now.at.saturating_duration_since(at) < SPEAKS_WITHIN;
        let speakers = count(self.members.values().filter(|member| member.last_sound_at.is_some_and(speaks)).count());
        let share = Duration::from_secs(1) / PACKETS_A_SECOND * receivers;
        let Some(member) = self.members.get_mut(&from) else { return false };
        if member.sound_pace.admits(share.saturating_mul(speakers), FAIR_BURST, now.at) {
            self.sound_pace.count(share, now.at);
            return true;
        }
        self.sound_pace.admits(share, BURST, now.at)
    }

    /// Tell all who speaks, if that is due.
    pub(super) fn tell_speakers(&mut self, now: Moment) {
        if self.levels_due.is_none_or(|due| due > now.at) {
            return;
        }
        let mut speakers = Vec::new();
        let mut is_silent = true;
        for member in self.members.values_mut().filter(|member| !member.permission.hidden) {
            let levels = member.tracks.published_mut().filter_map(|track| track.level.take());
            let level = levels.max_by(f32::total_cmp).map(|level| (level * LEVEL_STEPS).ceil() / LEVEL_STEPS);
            is_silent &= level.is_none();
            if member.level != level {
                (member.level, member.level_at) = (level, Some(now.at));
                speakers.push(member.speaker());
            }
        }
        // Somebody who speaks may send nothing at all afterwards.
        self.levels_due = (!is_silent).then(|| now.at + LEVEL_INTERVAL);
        if !speakers.is_empty() {
            self.tell_others(None, Response::SpeakersChanged(proto::SpeakersChanged { speakers }));
        }
    }
}

impl Room {
    /// Tell somebody that comes back who speaks, and who has stopped meanwhile.
    pub(super) fn tell_speakers_again(&mut self, id: MemberId, since: Instant) {
        let is_new = |member: &&Member| {
            !member.permission.hidden && (member.level.is_some() || member.level_at.is_some_and(|at| at >= since))
        };
        let speakers: Vec<proto::SpeakerInfo> = self.members.values().filter(is_new).map(Member::speaker).collect();
        if !speakers.is_empty() {
            self.tell(id, Response::SpeakersChanged(proto::SpeakersChanged { speakers }));
        }
    }
}

/// Whether a track goes to a participant now. Without a path nothing leaves, and `str0m` would keep it.
fn hears(member: &Member, track: TrackId) -> bool {
    member.path == Path::Found && !member.choices.is_paused(track) && member.lines.carries(track)
}
