//! What was played, in the order of time: silence in between, and sounds at the same time together. Pure.
//!
//! Bound: [`SAMPLES_MAX`]; what comes later is not kept.

use std::time::Duration;

use super::resample::Resampler;
use super::{Sound, samples_in};

/// Most samples: 20 minutes at 48 kHz.
pub const SAMPLES_MAX: usize = 20 * 60 * 48_000;

/// The sound of one job. It has the rate of what was played first.
#[derive(Debug, Default)]
pub struct Tape {
    sound: Option<Sound>,
    /// Whether something came after the end of the tape.
    is_full: bool,
}

impl Tape {
    /// Something was played, at this time from the beginning on.
    pub(crate) fn add(&mut self, at: Duration, rate: u32, samples: &[i16]) {
        let sound = self.sound.get_or_insert_with(|| Sound { rate, samples: Vec::new() });
        let resampled = (sound.rate != rate).then(|| {
            let resampler = Resampler::new(rate, sound.rate);
            resampler.part(samples, 0..resampler.length(samples.len()))
        });
        let samples = resampled.as_deref().unwrap_or(samples);
        let begin = samples_in(at, sound.rate);
        let end = begin.saturating_add(samples.len()).min(SAMPLES_MAX);
        self.is_full |= begin.saturating_add(samples.len()) > SAMPLES_MAX;
        if sound.samples.len() < end {
            sound.samples.resize(end, 0);
        }
        for (place, sample) in sound.samples.iter_mut().skip(begin).zip(samples) {
            *place = place.saturating_add(*sample);
        }
    }

    /// The sound; none where nothing was played.
    pub fn sound(&self) -> Option<&Sound> {
        self.sound.as_ref()
    }

    /// Whether something came after the end of the tape.
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_has_its_time_and_what_comes_at_once_is_together() {
        let mut tape = Tape::default();
        assert_eq!(tape.sound(), None);
        let millis = Duration::from_millis;
        tape.add(millis(1), 8_000, &[1; 8]);
        tape.add(millis(3), 8_000, &[i16::MAX; 8]);
        tape.add(millis(3), 16_000, &[4; 16]);
        let sound = tape.sound().unwrap();
        assert_eq!((sound.rate, sound.samples.len()), (8_000, 32));
        assert_eq!(sound.samples[..25], [&[0; 8][..], &[1; 8], &[0; 8], &[i16::MAX]].concat());
        tape.add(Duration::from_secs(10 * 3_600), 8_000, &[1]);
        assert!(tape.is_full() && tape.sound().unwrap().samples.len() == SAMPLES_MAX);
    }
}
