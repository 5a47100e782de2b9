//! The same sound at another rate, by a windowed sinc. Pure, and without state: any part of a sound can be asked for.

use std::ops::Range;

/// Zero crossings of the sinc on each side, at the lower of both rates.
const CROSSINGS: u32 = 12;

/// From one rate to another.
#[derive(Debug)]
pub(crate) struct Resampler {
    /// The rates, without what they have in common.
    up: usize,
    down: usize,
    /// Samples of the source on each side of a sample.
    half: usize,
    /// The weights of the samples of the source, for each position between two of them.
    phases: Vec<Vec<f32>>,
}

impl Resampler {
    /// Between these rates.
    pub(crate) fn new(from: u32, to: u32) -> Self {
        let (from, to) = (from.max(1), to.max(1));
        let common = greatest_common_divisor(from, to);
        let (up, down) = (to / common, from / common);
        let width = f64::from(CROSSINGS) * f64::from(from.max(to)) / f64::from(to);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a few hundred")]
        let half = width.ceil() as usize;
        let cutoff = (f64::from(to) / f64::from(from)).min(1.0);
        let phases = if up == down {
            Vec::new()
        } else {
            (0..up).map(|phase| weights(f64::from(phase) / f64::from(up), half, cutoff)).collect()
        };
        Self { up: whole(up), down: whole(down), half, phases }
    }

    /// The samples that so many of the source become.
    pub(crate) fn length(&self, source: usize) -> usize {
        (source * self.up).div_ceil(self.down)
    }

    /// This part of the result. Beyond the source there is silence.
    pub(crate) fn part(&self, source: &[i16], part: Range<usize>) -> Vec<i16> {
        if self.phases.is_empty() {
            return part.map(|at| source.get(at).copied().unwrap_or(0)).collect();
        }
        part.map(|at| self.sample(source, at)).collect()
    }

    fn sample(&self, source: &[i16], at: usize) -> i16 {
        let (base, phase) = (at * self.down / self.up, at * self.down % self.up);
        let weights = self.phases.get(phase).into_iter().flatten();
        // The first weight is of the sample that is `half - 1` before the base.
        let taps = weights.enumerate().filter_map(|(tap, weight)| {
            let index = (base + tap + 1).checked_sub(self.half)?;
            Some(f32::from(*source.get(index)?) * weight)
        });
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
        let sample = taps.sum::<f32>().round() as i16;
        sample
    }
}

/// The weights of `2 * half` samples around a position between two of them.
fn weights(offset: f64, half: usize, cutoff: f64) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let raw: Vec<f64> = (0..2 * half)
        .map(|tap| {
            let distance = tap as f64 + 1.0 - half as f64 - offset;
            let window = 0.5 + 0.5 * (std::f64::consts::PI * distance / half as f64).cos();
            if distance.abs() > half as f64 { 0.0 } else { sinc(distance * cutoff) * window }
        })
        .collect();
    let sum: f64 = raw.iter().sum();
    #[expect(clippy::cast_possible_truncation, reason = "as exact as a weight has to be")]
    raw.into_iter().map(|weight| (weight / sum) as f32).collect()
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

fn whole(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tone::Tone;
    use super::super::{level, sine};
    use super::*;

    #[test]
    fn a_tone_stays_itself_at_every_rate() {
        for (from, to) in [(44_100, 24_000), (48_000, 8_000), (8_000, 48_000), (16_000, 16_000), (24_000, 44_100)] {
            let source = sine(440.0, from, Duration::from_millis(500));
            let resampler = Resampler::new(from, to);
            let length = resampler.length(source.len());
            assert!(length.abs_diff(to as usize / 2) <= 1, "{from} to {to}: {length}");
            let whole = resampler.part(&source, 0..length);
            assert!(Tone::of(&whole, to, 440.0).share() > 0.99, "{from} to {to}");
            assert!((level(&whole) - level(&source)).abs() < 0.2, "{from} to {to}");
            let parts: Vec<i16> =
                (0..length).step_by(100).flat_map(|at| resampler.part(&source, at..(at + 100).min(length))).collect();
            assert_eq!(parts, whole, "parts are the whole");
            assert_eq!(resampler.part(&source, length + 1_000..length + 1_002), [0, 0], "silence follows");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_have_is_taken_out() {
        let source = sine(6_000.0, 48_000, Duration::from_millis(200));
        let resampler = Resampler::new(48_000, 8_000);
        let lower = resampler.part(&source, 0..resampler.length(source.len()));
        assert!(level(&lower) < level(&source) - 40.0, "{}", level(&lower));
    }
}
