//! Sound as numbers: files, other rates, tones. For scenarios and jobs without a server; nothing here is part of a joined room.
//!
//! ```text
//! wav       files, read and written
//! resample  the same sound at another rate
//! tone      the share of a frequency
//! tape      what was played, in the order of time
//! ```
//!
//! Pure. Bounds: [`wav::BYTES_MAX`] for a file that is read, [`tape::SAMPLES_MAX`] for one that is written.

pub(crate) mod resample;
pub(crate) mod tone;
pub mod wav;

pub mod tape;

use std::time::Duration;

/// The time of a piece in which sound is kept and examined.
pub(crate) const PIECE: Duration = Duration::from_millis(50);

/// Mono samples of 16 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
}

impl Sound {
    /// The time that it lasts.
    pub fn duration(&self) -> Duration {
        duration_of(self.samples.len(), self.rate)
    }
}

/// The time that samples last.
pub(crate) fn duration_of(samples: usize, rate: u32) -> Duration {
    let nanos = u128::try_from(samples).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The samples of a time, to the nearest one.
pub(crate) fn samples_in(time: Duration, rate: u32) -> usize {
    let samples = (time.as_nanos() * u128::from(rate) + 500_000_000) / 1_000_000_000;
    usize::try_from(samples).unwrap_or(usize::MAX)
}

/// Little-endian bytes as samples. A last half sample is none.
pub(crate) fn samples_of(bytes: &[u8]) -> Vec<i16> {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

/// Samples as little-endian bytes.
pub(crate) fn bytes_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// The level in dB below full scale, at least -96: the quietest that 16 bits have.
pub(crate) fn level(samples: &[i16]) -> f64 {
    const QUIETEST: f64 = -96.0;
    let power: f64 = samples.iter().map(|sample| (f64::from(*sample) / 32_768.0).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few samples")]
    let mean = power / samples.len().max(1) as f64;
    if mean > 0.0 { (10.0 * mean.log10()).max(QUIETEST) } else { QUIETEST }
}

/// A sine of this frequency, at a quarter of the full scale.
#[cfg(test)]
pub(crate) fn sine(hz: f64, rate: u32, time: Duration) -> Vec<i16> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a few seconds, within 16 bits")]
    let sample = |n: usize| ((n as f64 * hz * std::f64::consts::TAU / f64::from(rate)).sin() * 8_192.0) as i16;
    (0..samples_in(time, rate)).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_samples_are_the_same_both_ways() {
        for rate in [8_000, 44_100, 48_000] {
            for millis in [0, 10, 20, 1_000, 3_600_000] {
                let time = Duration::from_millis(millis);
                assert_eq!(samples_in(duration_of(samples_in(time, rate), rate), rate), samples_in(time, rate));
            }
        }
        assert_eq!(samples_of(&bytes_of(&[1, -2, i16::MIN])), [1, -2, i16::MIN]);
        assert_eq!(samples_of(&[1, 0, 7]), [1]);
    }

    #[test]
    fn level_is_in_decibels_below_full_scale() {
        assert_eq!(level(&[]), -96.0);
        assert_eq!(level(&[0; 100]), -96.0);
        // A sine at a quarter of the full scale: -12 dB, and 3 dB less for its shape.
        assert!((level(&sine(440.0, 8_000, Duration::from_secs(1))) + 15.05).abs() < 0.1);
    }
}
