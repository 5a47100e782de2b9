//! Change of the rate by a rational factor: a filter with a finite response (windowed sinc), evaluated only where a sample falls.
//!
//! The pass band ends at 80 % of the lower rate's half; all that is above that half is 50 dB down.

use std::f64::consts::PI;

/// Taps of the filter in each period of the lower rate. With the window of Hamming, the step from the pass band to 53 dB less takes 3.3
/// periods of the lower rate divided by this number: a tenth of that rate.
const TAPS_PER_PERIOD: usize = 32;

/// Sound of one rate to sound of another.
#[derive(Debug)]
pub(super) struct Resampler {
    /// Samples that one sample of the input becomes before all but one in `down` are left out.
    up: usize,
    down: usize,
    /// The taps of each of the `up` phases, newest sample first.
    phases: Vec<Vec<f32>>,
    /// The last samples of the input, as many as a phase has taps but one, and then the new ones.
    input: Vec<f32>,
    /// Place of the next output behind the first new sample, in 1/`up` samples of the input.
    next: usize,
}

impl Resampler {
    /// From one rate to another, in samples a second. Both have a common factor of at least an eighth of the higher.
    pub(super) fn new(from: u32, to: u32) -> Self {
        let common = common_factor(from, to).max(1);
        let (up, down) = ((to / common) as usize, (from / common) as usize);
        let taps = filter(up, down);
        let phase = |phase: usize| taps.iter().skip(phase).step_by(up).copied().collect::<Vec<_>>();
        let phases: Vec<_> = (0..up).map(phase).collect();
        let kept = phases.iter().map(Vec::len).max().unwrap_or_default().saturating_sub(1);
        Self { up, down, phases, input: vec![0.0; kept], next: 0 }
    }

    /// Add the sound of `samples` at the new rate to `output`. It lags by half the filter: 16 periods of the lower rate.
    pub(super) fn push(&mut self, samples: &[i16], output: &mut Vec<i16>) {
        let kept = self.input.len();
        self.input.extend(samples.iter().map(|sample| f32::from(*sample)));
        while self.next < samples.len() * self.up {
            let (newest, phase) = (kept + self.next / self.up, self.next % self.up);
            let taps = self.phases.get(phase).map_or(&[][..], Vec::as_slice);
            let window = self.input.get(newest + 1 - taps.len()..=newest).unwrap_or_default();
            let sum: f32 = window.iter().rev().zip(taps).map(|(sample, tap)| sample * tap).sum();
            #[expect(clippy::cast_possible_truncation, reason = "saturates, as sound does")]
            output.push(sum.round() as i16);
            self.next += self.down;
        }
        self.next -= samples.len() * self.up;
        self.input.drain(..samples.len());
    }

    /// Forget what was heard.
    pub(super) fn reset(&mut self) {
        self.input.fill(0.0);
        self.next = 0;
    }
}

/// The taps at the rate of both: a low pass below half of the lower rate, with a gain of `up`.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
fn filter(up: usize, down: usize) -> Vec<f32> {
    let period = up.max(down);
    let count = TAPS_PER_PERIOD * period;
    // The step is centred between the end of the pass band and half of the lower rate.
    let cutoff = 0.9 / period as f64;
    let centre = (count - 1) as f64 / 2.0;
    let tap = |i: usize| {
        let x = (i as f64 - centre) * cutoff;
        let sinc = if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let turn = 2.0 * PI * i as f64 / (count - 1) as f64;
        sinc * (0.54 - 0.46 * turn.cos())
    };
    let taps: Vec<f64> = (0..count).map(tap).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap * up as f64 / sum) as f32).collect()
}

fn common_factor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_factor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::RATES;

    use super::super::signals::{power_at, rms, sine};
    use super::*;

    fn resample(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to);
        let mut output = Vec::new();
        // Pieces of any size give the same as the whole.
        for piece in samples.chunks(441) {
            resampler.push(piece, &mut output);
        }
        output
    }

    #[test]
    fn tones_pass_unchanged_at_every_pair_of_rates() {
        for (from, to) in RATES.iter().flat_map(|from| RATES.map(|to| (*from, to))) {
            let half = f64::from(from.min(to)) / 2.0;
            for hz in [200.0, 440.0, (half * 0.5).round(), (half * 0.8).round()] {
                let output = resample(&sine(from, hz, 0.5, 0.5), from, to);
                assert_eq!(output.len(), to as usize / 2, "{from} to {to} Hz");
                let settled = &output[to as usize / 10..];
                let gain = 20.0 * (rms(settled) / (0.5 / 2_f64.sqrt())).log10();
                assert!(gain.abs() < 0.5, "{hz} Hz from {from} to {to} Hz changes by {gain} dB");
                let share = power_at(settled, to, hz);
                assert!(share > 0.99, "{hz} Hz from {from} to {to} Hz: {share} of the power is there");
            }
        }
    }

    #[test]
    fn tones_above_half_of_the_lower_rate_do_not_pass() {
        for (from, to) in RATES.iter().flat_map(|from| RATES.map(|to| (*from, to))).filter(|(from, to)| from > to) {
            let half = f64::from(to) / 2.0;
            for hz in [half * 1.02, (half * 1.25).min(f64::from(from) / 2.1), f64::from(from) / 2.1] {
                let output = resample(&sine(from, hz, 0.9, 0.3), from, to);
                let left = 20.0 * (rms(&output[to as usize / 10..]) / 0.9).max(1e-9).log10();
                assert!(left < -50.0, "{hz} Hz from {from} to {to} Hz leaves {left} dB");
            }
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives_and_full_scale_saturates() {
        let square: Vec<i16> = (0..4_800).map(|i| if i / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let mut whole = Vec::new();
        let mut resampler = Resampler::new(24_000, 16_000);
        resampler.push(&square, &mut whole);
        assert_eq!(whole, resample(&square, 24_000, 16_000));
        assert!(whole.contains(&i16::MAX) && whole.contains(&i16::MIN));
        resampler.reset();
        let mut again = Vec::new();
        resampler.push(&square, &mut again);
        assert_eq!(whole, again);
    }
}
