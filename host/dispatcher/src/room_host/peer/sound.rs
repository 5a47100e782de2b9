//! The packets with sound of a peer. Nothing of them waits: what cannot be sent at once is lost, as any datagram may be.
//!
//! Everybody who knows the address of a client can make up packets with sound. `str0m` keeps a state for a source before it has
//! checked whether a packet is genuine. Packets therefore count before that check, and a source without a genuine packet is taken
//! out of `str0m` again, unless the offer declares it.
//!
//! Bounds: [`PACKETS_A_SECOND`] of the client, [`UNPROVEN_A_SECOND`] of them from sources without a genuine packet, and
//! [`SOURCES_MAX`] sources that had one; the declared ones by the lines of the offer.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use str0m::media::{Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Input, Rtc};
use tokio::time::Instant;

use super::Peer;
use super::output::{PeerOutput, Sound};
use crate::room_host::limits::{TRACK_PACKETS_A_SECOND, TRACKS_MAX};
use crate::room_host::pace::Pace;

/// Most sources from which a client sends sound, one after another. Each track that it publishes has a new one.
const SOURCES_MAX: usize = 256;
/// Packets with sound of a client in a second: those of as many tracks as it may have.
const PACKETS_A_SECOND: u32 = {
    assert!(TRACKS_MAX == 8, "as many tracks as below");
    8 * TRACK_PACKETS_A_SECOND
};
/// Packets in a second from sources that had no genuine packet yet. A genuine source needs one.
const UNPROVEN_A_SECOND: u32 = 100;
/// The time whose share of packets may come at once.
const BURST: Duration = Duration::from_secs(1);

/// The types of RTCP packets in the byte where RTP has its payload type, without the highest bit (RFC 5761).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 64..=95;

/// The sources from which a client sends sound.
#[derive(Default)]
pub(super) struct SoundSources {
    /// Those that had a genuine packet.
    proven: HashSet<u32>,
    /// Those that the last offer declares.
    declared: HashSet<u32>,
    /// The last one of them that had a genuine packet, on each line.
    last: HashMap<Mid, u32>,
    pace: Pace,
    unproven_pace: Pace,
}

impl SoundSources {
    /// Whether a packet of this source is looked at.
    pub(super) fn admits(&mut self, source: u32, now: Instant) -> bool {
        let share = |a_second: u32| Duration::from_secs(1) / a_second;
        let is_allowed = self.proven.contains(&source)
            || self.proven.len() < SOURCES_MAX && self.unproven_pace.admits(share(UNPROVEN_A_SECOND), BURST, now);
        is_allowed && self.pace.admits(share(PACKETS_A_SECOND), BURST, now)
    }

    fn prove(&mut self, source: u32, mid: Mid) {
        self.proven.insert(source);
        self.last.insert(mid, source);
    }
}

impl Peer {
    /// The offer declares these sources. Those that the one before declared and that have sent nothing leave `str0m`.
    pub(super) fn declare(&mut self, sources: HashSet<u32>) {
        let SoundSources { proven, declared, .. } = &mut self.sound_sources;
        let former = std::mem::replace(declared, sources);
        let gone: Vec<u32> =
            former.into_iter().filter(|one| !declared.contains(one) && !proven.contains(one)).collect();
        self.with(|rtc| {
            for source in gone {
                rtc.direct_api().remove_stream_rx(source.into());
            }
            Ok(())
        });
    }

    /// Send sound on a line of the client.
    pub(in crate::room_host) fn send_sound(&mut self, mid: Mid, numbers: (u64, u32), sound: &Sound, now: Instant) {
        let (sequence, time) = numbers;
        self.with(|rtc| {
            let Some(payload_type) = payload_type(rtc, mid) else { return Ok(()) };
            let mut api = rtc.direct_api();
            let Some(stream) = api.stream_tx_by_mid(mid, None) else { return Ok(()) };
            let values = ExtensionValues {
                audio_level: sound.level_db,
                voice_activity: sound.has_voice,
                ..ExtensionValues::default()
            };
            let (payload, at) = (sound.payload.clone(), now.into_std());
            let packet = RtpWrite::new(payload_type, sequence.into(), time, at, payload);
            stream.write_rtp(packet.marker(sound.is_marked).ext_vals(values));
            // The packet leaves with the next time that `str0m` hears.
            rtc.handle_input(Input::Timeout(at))
        });
    }

    /// Send by a new source of RTP on a line of the client, so that the client takes what comes for something new.
    pub(in crate::room_host) fn renew_source(&mut self, mid: Mid) {
        self.with(|rtc| {
            if rtc.media(mid).is_none_or(|media| !media.direction().is_sending()) {
                return Ok(());
            }
            let mut api = rtc.direct_api();
            if let Some(former) = api.stream_tx_by_mid(mid, None).map(|stream| stream.ssrc()) {
                api.remove_stream_tx(former);
            }
            let source = api.new_ssrc();
            api.declare_stream_tx(source, None, mid, None);
            Ok(())
        });
    }

    /// The source of RTP of a line on which the host sends.
    pub(in crate::room_host) fn source(&mut self, mid: Mid) -> Option<u32> {
        let source = |rtc: &mut Rtc| rtc.direct_api().stream_tx_by_mid(mid, None).map(|stream| *stream.ssrc());
        self.with(|rtc| Ok(source(rtc))).flatten()
    }

    /// Take a source that had no genuine packet out of `str0m`, and put the genuine one of its line back: `str0m` has one for each.
    pub(super) fn forget_forged(&mut self, source: u32) {
        if self.sound_sources.proven.contains(&source) || self.sound_sources.declared.contains(&source) {
            return;
        }
        let last = self.sound_sources.last.clone();
        self.with(|rtc| {
            let mut api = rtc.direct_api();
            let mid = api.stream_rx(&source.into()).map(|stream| stream.mid());
            api.remove_stream_rx(source.into());
            if let Some(mid) = mid.filter(|mid| rtc.media(*mid).is_some())
                && let Some(genuine) = last.get(&mid)
            {
                rtc.direct_api().expect_stream_rx((*genuine).into(), None, mid, None).suppress_nack(true);
            }
            Ok(())
        });
    }

    /// Whether `str0m` has a state for a source.
    #[cfg(test)]
    pub(in crate::room_host) fn has_source(&mut self, source: u32) -> bool {
        self.with(|rtc| Ok(rtc.direct_api().stream_rx(&source.into()).is_some())).unwrap()
    }

    /// Sound came.
    pub(super) fn take_sound(&mut self, rtc: &mut Rtc, packet: RtpPacket) {
        let ssrc = packet.header.ssrc;
        let Some(mid) = rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid()) else { return };
        self.sound_sources.prove(*ssrc, mid);
        self.outputs.push_back(PeerOutput::Sound(Sound {
            mid,
            source: *ssrc,
            sequence: *packet.seq_no,
            time: packet.header.timestamp,
            is_marked: packet.header.marker,
            level_db: packet.header.ext_vals.audio_level,
            has_voice: packet.header.ext_vals.voice_activity,
            payload: packet.payload,
        }));
    }
}

/// The client's number for Opus on a line on which it receives.
fn payload_type(rtc: &Rtc, mid: Mid) -> Option<Pt> {
    rtc.media(mid).filter(|media| media.direction().is_sending())?.remote_pts().first().copied()
}

/// The source of a datagram of RTP.
pub(super) fn source_of(bytes: &[u8]) -> Option<u32> {
    let is_rtp = matches!(bytes, [128..=191, second, ..] if !RTCP_TYPES.contains(&(second & 0x7f)));
    let source = bytes.get(8..12).filter(|_| is_rtp)?;
    Some(u32::from_be_bytes(source.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_count_before_they_prove_genuine() {
        let (mut sources, now) = (SoundSources::default(), Instant::now());
        let admitted = |sources: &mut SoundSources, from: std::ops::Range<u32>, ms: u64| {
            let at = now + Duration::from_millis(ms);
            from.filter(|source| sources.admits(*source, at)).count()
        };
        assert_eq!(admitted(&mut sources, 0..10_000, 0), 100, "one second of new sources");
        assert_eq!(admitted(&mut sources, 0..10_000, 500), 50);
        sources.prove(7, "1".into());
        let of_one = (0..10_000).filter(|_| sources.admits(7, now + Duration::from_millis(500))).count();
        assert!(
            (1_150..=1_151).contains(&of_one),
            "{of_one}: those of a genuine source are not new ones, and all together have a rate"
        );
    }

    #[test]
    fn datagrams_of_rtp_have_a_source() {
        let packet =
            |first: u8, second: u8| [&[first, second, 0, 0, 0, 0, 0, 0][..], &7_u32.to_be_bytes(), &[1]].concat();
        assert_eq!(source_of(&packet(0x90, 111)), Some(7));
        assert_eq!(source_of(&packet(0x90, 0x80 | 111)), Some(7), "it begins a talk");
        for other in [packet(0x80, 200), packet(22, 111), packet(0, 1)] {
            assert_eq!(source_of(&other), None);
        }
        assert_eq!(source_of(&packet(0x80, 111)[..11]), None);
        assert_eq!(source_of(&[]), None);
    }
}
