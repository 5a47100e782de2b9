//! The length of an Opus packet, read from its first two bytes (section 3 of RFC 6716). Pure.

/// Ticks of the clock of RTP in a second: Opus counts so, whatever the rate of the sound.
pub(super) const TICKS_IN_SECOND: u64 = 48_000;
const TICKS_IN_MS: u64 = TICKS_IN_SECOND / 1_000;
/// Longest packet: 120 ms.
pub(super) const PACKET_TICKS_MAX: u64 = 120 * TICKS_IN_MS;

/// The length of a packet in 1/48,000 s, or `None` where the packet is empty or is longer than Opus allows.
pub(super) fn ticks_of(packet: &[u8]) -> Option<u64> {
    let (first, rest) = packet.split_first()?;
    let configuration = first >> 3;
    let frame_ticks = match (configuration, configuration & 3) {
        // SILK: 10, 20, 40 and 60 ms.
        (0..12, 3) => 60 * TICKS_IN_MS,
        (0..12, step) => (10 * TICKS_IN_MS) << step,
        // Both: 10 and 20 ms.
        (12..16, step) => (10 * TICKS_IN_MS) << (step & 1),
        // CELT: 2.5, 5, 10 and 20 ms.
        (_, step) => (5 * TICKS_IN_MS / 2) << step,
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(rest.first()? & 0x3f),
    };
    Some(frame_ticks * frames).filter(|ticks| (1..=PACKET_TICKS_MAX).contains(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_standard() {
        let ms = |packet: &[u8]| ticks_of(packet).map(|ticks| ticks as f64 / TICKS_IN_MS as f64);
        // SILK at 16 kHz: configurations 8 to 11; both at 48 kHz: 14 and 15; CELT at 48 kHz: 28 to 31.
        for (configuration, expected) in [
            (8, 10.0),
            (9, 20.0),
            (10, 40.0),
            (11, 60.0),
            (14, 10.0),
            (15, 20.0),
            (28, 2.5),
            (29, 5.0),
            (30, 10.0),
            (31, 20.0),
        ] {
            assert_eq!(ms(&[configuration << 3]), Some(expected), "configuration {configuration}");
        }
        assert_eq!(ms(&[(15 << 3) | 1, 0, 0]), Some(40.0));
        assert_eq!(ms(&[(15 << 3) | 2, 0, 0]), Some(40.0));
        assert_eq!(ms(&[(15 << 3) | 3, 0x80 | 6, 0]), Some(120.0));
        for faulty in [&[][..], &[3], &[(15 << 3) | 3, 7], &[(15 << 3) | 3, 0], &[(11 << 3) | 3, 3]] {
            assert_eq!(ms(faulty), None, "{faulty:x?}");
        }
    }
}
