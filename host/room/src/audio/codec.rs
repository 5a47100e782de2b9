//! Opus, by the crate `ropus`, at the rate of the agent. [`Encode`] takes another encoder.
//!
//! The decoder reads what strangers send. A panic in it is an error of the packet, and a new decoder follows. In debug builds,
//! arithmetic that overflows panics too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ropus::{Application, Bitrate, Channels, DecodeMode};

/// Frames a second of what is sent: 20 ms each.
pub(super) const FRAMES_PER_SECOND: u32 = 50;

/// Most samples of a packet: 120 ms at 48 kHz.
const SAMPLES_MAX: usize = 5_760;
/// Most bytes of a frame (section 3.2.1 of RFC 6716), and one for its head.
const FRAME_BYTES_MAX: usize = 1_276;
/// Rate of bits below which the encoder predicts speech instead of transforming it: for [`Application::Audio`] and mono the codec itself
/// changes at 17.6 kbit/s (`mode_thresholds` of libopus), and back a little lower.
const PREDICTED_BELOW: u32 = 18_000;
/// Effort of the encoder, from 0 to 10, where it predicts. Less is heard.
const COMPLEXITY_PREDICTED: u8 = 5;
/// Effort where it transforms: the least that notices where sound begins and ends. Beside [`Application::Voip`] at 5, the wave of speech is
/// nearer to the original and its spectrum a little further, a frame takes a fraction of the time, and lost packets are made up better.
const COMPLEXITY: u8 = 1;

/// A packet that is no sound, or sound that has no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The codec says so.
    #[error("the codec refuses it")]
    Refused,
    /// The codec panicked.
    #[error("the codec panicked")]
    Panicked,
}

/// Makes the packets of one track.
pub trait Encode: std::fmt::Debug + Send {
    /// The Opus packet of a frame of 20 ms.
    ///
    /// # Errors
    /// It has none. The frame is left out.
    fn encode(&mut self, frame: &[i16]) -> Result<Vec<u8>, CodecError>;
}

/// Starts an encoder of mono samples, from their rate in Hz and the bits a second of its packets.
pub type NewEncoder = fn(u32, u32) -> Result<Box<dyn Encode>, CodecError>;

/// Packets to samples.
pub(super) struct Decoder {
    rate: u32,
    inner: ropus::Decoder,
}

impl Decoder {
    /// A decoder to mono samples at one of the rates of Opus.
    pub(super) fn new(rate: u32) -> Result<Self, CodecError> {
        let inner = ropus::Decoder::new(rate, Channels::Mono).map_err(|_| CodecError::Refused)?;
        Ok(Self { rate, inner })
    }

    /// Add the sound of a packet to `samples`.
    pub(super) fn decode(&mut self, packet: &[u8], samples: &mut Vec<i16>) -> Result<(), CodecError> {
        // To the codec, an empty packet is one that was lost.
        if packet.is_empty() {
            return Err(CodecError::Refused);
        }
        self.run(packet, SAMPLES_MAX, DecodeMode::Normal, samples)
    }

    /// Add so many samples in the place of packets that did not come: a multiple of 2.5 ms, at most 120 ms. `next`, the packet behind
    /// them, may hold a copy of the last of them.
    pub(super) fn conceal(&mut self, count: usize, next: &[u8], samples: &mut Vec<i16>) -> Result<(), CodecError> {
        self.run(next, count.min(SAMPLES_MAX), DecodeMode::Fec, samples)
    }

    fn run(&mut self, packet: &[u8], most: usize, mode: DecodeMode, samples: &mut Vec<i16>) -> Result<(), CodecError> {
        let mut buffer = [0; SAMPLES_MAX];
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let decoded = catch_unwind(AssertUnwindSafe(|| self.inner.decode(packet, buffer, mode)));
        let count = match decoded {
            Ok(count) => count.map_err(|_| CodecError::Refused)?,
            Err(_) => {
                *self = Self::new(self.rate)?;
                return Err(CodecError::Panicked);
            }
        };
        samples.extend_from_slice(buffer.get(..count).ok_or(CodecError::Refused)?);
        Ok(())
    }
}

/// Samples to packets.
struct Encoder {
    inner: ropus::Encoder,
}

/// Start an encoder of Opus. Rates of bits are kept on average.
///
/// # Errors
/// Where Opus has no such rate.
pub fn opus(rate: u32, bits_per_second: u32) -> Result<Box<dyn Encode>, CodecError> {
    let bitrate = Bitrate::try_bits(bits_per_second).map_err(|_| CodecError::Refused)?;
    let builder = ropus::Encoder::builder(rate, Channels::Mono, Application::Audio);
    let complexity = if bits_per_second < PREDICTED_BELOW { COMPLEXITY_PREDICTED } else { COMPLEXITY };
    let inner = builder.bitrate(bitrate).complexity(complexity).build().map_err(|_| CodecError::Refused)?;
    Ok(Box::new(Encoder { inner }))
}

impl Encode for Encoder {
    fn encode(&mut self, frame: &[i16]) -> Result<Vec<u8>, CodecError> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode(frame, &mut buffer)));
        let length = encoded.map_err(|_| CodecError::Panicked)?.map_err(|_| CodecError::Refused)?;
        Ok(buffer.get(..length).ok_or(CodecError::Refused)?.to_vec())
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_worker_core::room::audio::RATES;

    use super::super::signals::{power_at, rms, sine, speech};
    use super::super::toc::ticks_of;
    use super::*;

    /// The packets of a tone of one second.
    fn tone(rate: u32, hz: f64) -> Vec<Vec<u8>> {
        let mut encoder = opus(rate, 32_000).unwrap();
        let samples = sine(rate, hz, 0.5, 1.0);
        samples.chunks_exact(rate as usize / 50).map(|frame| encoder.encode(frame).unwrap()).collect()
    }

    #[test]
    fn a_tone_keeps_its_power_at_every_rate() {
        for spoken in RATES {
            let packets = tone(spoken, 440.0);
            assert!(packets.iter().all(|packet| ticks_of(packet) == Some(960)));
            for heard in RATES {
                let mut decoder = Decoder::new(heard).unwrap();
                let mut samples = Vec::new();
                packets.iter().for_each(|packet| decoder.decode(packet, &mut samples).unwrap());
                assert_eq!(samples.len(), heard as usize);
                let share = power_at(&samples[samples.len() / 5..], heard, 440.0);
                assert!(share > 0.95, "{spoken} to {heard} Hz: {share} of the power is at 440 Hz");
                let level = rms(&samples[samples.len() / 5..]) / (0.5 / 2_f64.sqrt());
                assert!((0.8..1.2).contains(&level), "{spoken} to {heard} Hz: {level} of the level");
            }
        }
    }

    #[test]
    fn lost_packets_are_made_up_and_the_last_may_be_copied() {
        let packets = tone(48_000, 440.0);
        let mut decoder = Decoder::new(16_000).unwrap();
        let mut samples = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            if index % 10 == 4 {
                continue;
            }
            if index % 10 == 5 {
                decoder.conceal(320, packet, &mut samples).unwrap();
            }
            decoder.decode(packet, &mut samples).unwrap();
        }
        assert_eq!(samples.len(), 16_000);
        let share = power_at(&samples[4_000..], 16_000, 440.0);
        assert!(share > 0.95, "with every tenth packet lost, {share} of the power is at 440 Hz");
        decoder.conceal(1_920, &[], &mut samples).unwrap();
        assert_eq!(samples.len(), 17_920);
    }

    #[test]
    fn the_copy_in_the_next_packet_is_used() {
        // As browsers send where packets get lost: each packet has a copy of the one before it.
        let builder = ropus::Encoder::builder(16_000, Channels::Mono, Application::Voip).bitrate(Bitrate::Bits(32_000));
        let mut encoder = builder.packet_loss_perc(20).inband_fec(ropus::InbandFec::Enabled).build().unwrap();
        let mut packet = [0; FRAME_BYTES_MAX];
        let packets: Vec<Vec<u8>> = speech(16_000, 2.0)
            .chunks_exact(320)
            .map(|frame| encoder.encode(frame, &mut packet).map(|length| packet[..length].to_vec()).unwrap())
            .collect();
        let heard = |loses: bool, next_helps: bool| {
            let mut decoder = Decoder::new(16_000).unwrap();
            let mut samples = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                match packets.get(index + 1) {
                    Some(next) if loses && index % 5 == 3 => {
                        decoder.conceal(320, if next_helps { next } else { &[] }, &mut samples).unwrap();
                    }
                    _ => decoder.decode(packet, &mut samples).unwrap(),
                }
            }
            samples
        };
        let whole = heard(false, false);
        let error = |samples: Vec<i16>| -> f64 {
            whole.iter().zip(&samples).map(|(one, other)| (f64::from(*one) - f64::from(*other)).powi(2)).sum()
        };
        let (copied, made_up) = (error(heard(true, true)), error(heard(true, false)));
        assert!(copied < made_up / 2.0, "with copies the error is {copied}, without {made_up}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn random_packets_are_sound_or_an_error(
            packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 1..20),
            rate in prop::sample::select(&RATES[..]),
        ) {
            let mut decoder = Decoder::new(rate).unwrap();
            for (packet, lost) in packets {
                let mut samples = Vec::new();
                if lost {
                    prop_assert_ne!(decoder.conceal(rate as usize / 50, &packet, &mut samples), Err(CodecError::Panicked));
                }
                samples.clear();
                let decoded = decoder.decode(&packet, &mut samples);
                prop_assert_ne!(decoded, Err(CodecError::Panicked));
                if decoded.is_ok() {
                    let ticks = ticks_of(&packet).expect("the codec takes a packet that has no length");
                    prop_assert_eq!(samples.len() as u64 * 48_000, ticks * u64::from(rate));
                }
            }
        }
    }
}
