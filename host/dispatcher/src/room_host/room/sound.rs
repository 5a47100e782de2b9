//! Sound, from one participant to those who hear it, and who speaks.
//!
//! Nobody waits for another one: a packet that does not leave at once is lost for its receiver alone. A room that has more packets
//! than [`PACKETS_A_SECOND`] loses the ones beyond, so that other rooms have their share of the machine.

use std::time::Duration;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;

use super::Room;
use crate::clock::Moment;
use crate::room_host::member::{Member, MemberId, Path};
use crate::room_host::peer::Sound;
use crate::room_host::tracks::{LEVEL_INTERVAL, TrackId};

/// Packets with sound that a room sends in a second: 100 voices that 2 others hear, or 15 that everybody of 15 hears.
const PACKETS_A_SECOND: u32 = 10_000;
/// The time whose share of packets may come at once.
const BURST: Duration = Duration::from_millis(500);
/// Steps of the levels that are told, as in LiveKit's server.
const LEVEL_STEPS: f32 = 8.0;

impl Room {
    /// A participant sent sound.
    pub(super) fn forward_sound(&mut self, from: MemberId, sound: &Sound, now: Moment) {
        let Some(track) = self.members.get_mut(&from).and_then(|member| member.tracks.on_line(sound.mid)) else {
            return;
        };
        if !track.admits(sound, now.at) {
            return;
        }
        if let Some(level_db) = sound.level_db {
            track.level.observe(level_db);
            self.levels_due.get_or_insert(now.at + LEVEL_INTERVAL);
        }
        let track = track.id;
        let receivers = self.members.values().filter(|member| hears(member, track)).count();
        let share = Duration::from_secs(1) / PACKETS_A_SECOND * u32::try_from(receivers).unwrap_or(u32::MAX);
        if !self.sound_pace.admits(share, BURST, now.at) {
            if let Some(track) = self.members.get_mut(&from).and_then(|member| member.tracks.on_line(sound.mid)) {
                track.count_dropped();
            }
            return;
        }
        for (id, member) in self.members.iter_mut().filter(|(_, member)| hears(member, track)) {
            let Some(line) = member.lines.of(track) else { continue };
            let Some(numbers) = line.numbers.of(sound, now.at) else { continue };
            member.peer.send_sound(line.mid, numbers, sound, now.at);
            self.touched.insert(*id);
        }
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
            if std::mem::replace(&mut member.level, level) != level {
                let (sid, active) = (member.sid.to_string(), level.is_some());
                speakers.push(proto::SpeakerInfo { sid, level: level.unwrap_or_default(), active });
            }
        }
        // Somebody who speaks may send nothing at all afterwards.
        self.levels_due = (!is_silent).then(|| now.at + LEVEL_INTERVAL);
        if !speakers.is_empty() {
            self.tell_others(None, Response::SpeakersChanged(proto::SpeakersChanged { speakers }));
        }
    }
}

/// Whether a track goes to a participant now. Without a path nothing leaves, and `str0m` would keep it.
fn hears(member: &Member, track: TrackId) -> bool {
    member.path == Path::Found && !member.choices.is_paused(track) && member.lines.carries(track)
}
