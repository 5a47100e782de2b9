//! The packets with sound of a peer. Nothing of them waits: what cannot be sent at once is lost, as any datagram may be.

use str0m::media::{Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Input, Rtc};
use tokio::time::Instant;

use super::output::{PeerOutput, Sound};
use super::{Peer, SOUND_SOURCES_MAX};

/// The types of RTCP packets in the byte where RTP has its payload type, without the highest bit (RFC 5761).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 64..=95;

impl Peer {
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

    /// Whether a datagram is of a source that the peer does not take up any more. `str0m` keeps a state for each.
    pub(super) fn is_surplus(&self, bytes: &[u8]) -> bool {
        let is_full = self.sources_of_sound.len() >= SOUND_SOURCES_MAX;
        is_full && source_of(bytes).is_some_and(|source| !self.sources_of_sound.contains(&source))
    }

    /// Sound came.
    pub(super) fn take_sound(&mut self, rtc: &mut Rtc, packet: RtpPacket) {
        let ssrc = packet.header.ssrc;
        self.sources_of_sound.insert(*ssrc);
        let Some(mid) = rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid()) else { return };
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

/// The client's number for Opus on a line.
fn payload_type(rtc: &Rtc, mid: Mid) -> Option<Pt> {
    rtc.media(mid)?.remote_pts().first().copied()
}

/// The source of a datagram of RTP.
fn source_of(bytes: &[u8]) -> Option<u32> {
    let is_rtp = matches!(bytes, [128..=191, second, ..] if !RTCP_TYPES.contains(&(second & 0x7f)));
    let source = bytes.get(8..12).filter(|_| is_rtp)?;
    Some(u32::from_be_bytes(source.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
