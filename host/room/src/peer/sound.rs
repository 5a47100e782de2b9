//! The packets of sound that come and go over the lines.

use str0m::format::Codec;
use str0m::media::{Frequency, MediaData, MediaTime};
use tokio::time::Instant;

use super::lines::LineId;
use super::order::SoundPacket;
use super::output::PeerOutput;
use super::{Path, Peer};
use crate::audio::playout::Outgoing;

/// The level of silence (RFC 6464).
const SILENCE: i8 = -127;

impl Peer {
    /// The server wants so many lines more; none: it wants an offer.
    pub(crate) fn want_lines(&mut self, count: u32) {
        self.lines.want(count);
    }

    /// A line for a track of the agent, which goes into the next offer under this name. None where there are too many lines.
    pub(crate) fn add_own(&mut self, name: String) -> Option<LineId> {
        self.lines.add_own(name)
    }

    /// The track of the agent on this line ends with the next offer.
    pub(crate) fn end_own(&mut self, line: LineId) {
        self.lines.end_own(line);
    }

    /// Nobody hears this track any more.
    pub(crate) fn forget_track(&mut self, track_sid: &str) {
        self.lines.forget(track_sid);
    }

    /// The line on which the server sends this track.
    pub(crate) fn line_of(&self, track_sid: &str) -> Option<LineId> {
        self.lines.line_of(track_sid)
    }

    /// Whether sound that is written to this line goes out.
    pub(crate) fn is_live(&self, line: LineId) -> bool {
        self.path == Path::Found && self.accepts(line)
    }

    /// Whether the server takes sound on this line.
    pub(crate) fn accepts(&self, line: LineId) -> bool {
        let media = self.lines.mid(line).and_then(|mid| self.rtc.media(mid));
        self.lines.is_taken(line) && media.is_some_and(|media| media.direction().is_sending())
    }

    /// Whether the server refused this line.
    pub(crate) fn is_refused(&self, line: LineId) -> bool {
        self.lines.is_refused(line)
    }

    /// Send a packet. Whether it went out.
    pub(crate) fn write_sound(&mut self, line: LineId, packet: Outgoing, now: Instant) -> bool {
        if !self.is_live(line) {
            return false;
        }
        let Some(writer) = self.lines.mid(line).and_then(|mid| self.rtc.writer(mid)) else { return false };
        let is_opus = |params: &&str0m::format::PayloadParams| params.spec().codec == Codec::Opus;
        let Some(pt) = writer.payload_params().find(is_opus).map(|params| params.pt()) else { return false };
        let time = MediaTime::new(packet.time, Frequency::FORTY_EIGHT_KHZ);
        let writer = writer.start_of_talkspurt(packet.starts_talk).audio_level(packet.level, packet.level > SILENCE);
        let written = writer.write(pt, now.into_std(), time, packet.payload).is_ok();
        // Only this takes the packet: a second one without it is refused.
        self.step(now);
        written
    }

    pub(super) fn take_sound(&mut self, data: MediaData) {
        let Some(order) = self.lines.order(data.mid) else { return };
        if data.params.spec().codec != Codec::Opus {
            return;
        }
        let received_at = Instant::from_std(data.network_time);
        let packet = SoundPacket {
            time: data.time.rebase(Frequency::FORTY_EIGHT_KHZ).numer(),
            // Its order tells.
            contiguous: false,
            received_at,
            payload: data.data,
        };
        order.take(**data.seq_range.start(), packet);
        self.tell_sound(received_at);
    }

    /// Tell the packets whose turn it is.
    pub(super) fn tell_sound(&mut self, now: Instant) {
        while let Some((line, packet)) = self.lines.next_sound(now) {
            self.outputs.push_back(PeerOutput::Sound(line, packet));
        }
    }
}
