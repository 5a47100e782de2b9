//! The level of a sound. Pure.

use std::time::Duration;

/// The level of silence, in dB to full scale (RFC 6464 ends there too).
pub(super) const SILENCE: f64 = -127.0;

/// The level of a frame, in dB to full scale, from -127 to 0.
#[expect(clippy::cast_possible_truncation, reason = "from -127 to 0")]
pub(super) fn of_frame(samples: &[i16]) -> i8 {
    decibels(squares(samples), u32::try_from(samples.len()).unwrap_or_default()).round() as i8
}

fn squares(samples: &[i16]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum()
}

fn decibels(squares: f64, samples: u32) -> f64 {
    let mean = squares / f64::from(samples.max(1)) / f64::from(1 << 30);
    (10.0 * mean.log10()).clamp(SILENCE, 0.0)
}

/// Measures the level of a sound at intervals.
#[derive(Debug)]
pub(super) struct Meter {
    every: Duration,
    /// The sound since the last level.
    heard: Duration,
    squares: f64,
    samples: u32,
    /// The sum and the number of the scores of voice since the last level.
    scores: (f64, u32),
    /// The last level that was told.
    last: f64,
}

/// A level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    /// The root of the mean square, in dB to full scale, from -127 to 0. A tone of full scale has -3.
    pub(super) level: f64,
    /// The mean probability of voice, from 0 to 1.
    pub(super) voice: f64,
}

impl Meter {
    /// A meter that tells the level after each `every` of sound.
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, heard: Duration::ZERO, squares: 0.0, samples: 0, scores: (0.0, 0), last: SILENCE }
    }

    /// Hear a probability of voice.
    pub(super) fn score(&mut self, voice: f32) {
        self.scores.0 += f64::from(voice);
        self.scores.1 += 1;
    }

    /// Hear a sound of this length. The level, where it is time.
    pub(super) fn hear(&mut self, samples: &[i16], length: Duration) -> Option<Level> {
        self.heard += length;
        self.squares += squares(samples);
        self.samples += u32::try_from(samples.len()).unwrap_or_default();
        if self.heard < self.every {
            return None;
        }
        let level = decibels(self.squares, self.samples);
        let voice = self.scores.0 / f64::from(self.scores.1.max(1));
        *self = Self { last: level, ..Self::new(self.every) };
        Some(Level { level, voice })
    }

    /// There is no sound any more. The level of silence, unless that was the last one.
    pub(super) fn pause(&mut self) -> Option<Level> {
        let was_loud = self.last > SILENCE || self.samples > 0;
        *self = Self::new(self.every);
        was_loud.then_some(Level { level: SILENCE, voice: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::signals::sine;
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    #[test]
    fn levels_are_those_of_the_sound() {
        for (amplitude, expected) in [(1.0, -3.01), (0.1, -23.01), (0.001, -63.0)] {
            let mut meter = Meter::new(FRAME * 5);
            let mut levels = Vec::new();
            for piece in sine(16_000, 440.0, amplitude, 0.4).chunks_exact(320) {
                meter.score(0.5);
                levels.extend(meter.hear(piece, FRAME));
            }
            assert_eq!(levels.len(), 4);
            assert!(
                levels.iter().all(|level| (level.level - expected).abs() < 0.1 && level.voice == 0.5),
                "{levels:?}"
            );
        }
    }

    #[test]
    fn frames_have_levels_from_silence_to_full_scale() {
        let tone = sine(16_000, 440.0, 0.1, 0.02);
        assert_eq!([&tone[..], &[i16::MIN; 320], &[0; 320], &[]].map(of_frame), [-23, 0, -127, -127]);
    }

    #[test]
    fn silence_is_told_once() {
        let mut meter = Meter::new(FRAME);
        assert_eq!(meter.pause(), None);
        assert!(meter.hear(&[i16::MIN; 10], FRAME).is_some_and(|level| level.level == 0.0));
        assert_eq!(meter.pause(), Some(Level { level: SILENCE, voice: 0.0 }));
        assert_eq!(meter.pause(), None);
        assert_eq!(meter.hear(&[0; 10], FRAME), Some(Level { level: SILENCE, voice: 0.0 }));
        assert_eq!(meter.pause(), None);
    }
}
