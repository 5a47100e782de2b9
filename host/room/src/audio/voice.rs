//! Where somebody speaks: scores of the detector `earshot`, and the decision by them. Pure.
//!
//! A score belongs to 16 ms of sound. Voice begins where scores stay above the threshold for `min_voice`, and ends where they have been
//! below it for `min_silence`; its times are those of the sound. Once somebody speaks, the threshold is lower by 0.15, so that soft
//! syllables do not end it (so do Silero's detector and the agents of LiveKit).
//!
//! Seen with synthetic speech (espeak-ng): its beginning is found within 30 ms and its end within 110 ms; with white, brown or humming
//! noise 10 dB below it, within 50 and 290 ms. White noise, clicks and tones are no voice; music and loud rumble are, whatever the
//! threshold.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::options::Thresholds;

use super::resample::Resampler;

/// The rate that the detector wants.
const RATE: u32 = 16_000;
/// Samples of one score: 16 ms.
const HOP: usize = 256;
/// The time of one score.
pub(super) const HOP_TIME: Duration = Duration::from_millis(16);
/// The threshold is lower by this while somebody speaks.
const HYSTERESIS: f64 = 0.15;
/// The lowest threshold.
const THRESHOLD_MIN: f64 = 0.01;
/// Sound below this level is no voice, in squares of samples: 70 dB below full scale. The detector looks only at the form of a sound.
const QUIET: f32 = 32_768.0 * 32_768.0 * 1e-7;

/// A score of some sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// The probability of voice, from 0 to 1.
    pub(super) voice: f32,
    /// When the sound ended.
    pub(super) until: Instant,
}

/// Sound in, scores out.
pub(super) struct Detector {
    inner: Box<earshot::Detector>,
    resampler: Option<Resampler>,
    /// Sound at the detector's rate that is shorter than a hop.
    rest: Vec<i16>,
}

impl Detector {
    /// A detector of sound at this rate.
    pub(super) fn new(rate: u32) -> Self {
        let resampler = (rate != RATE).then(|| Resampler::new(rate, RATE));
        Self { inner: earshot::Detector::default_boxed(), resampler, rest: Vec::with_capacity(2 * HOP) }
    }

    /// Hear a sound that ends at this time. The scores that are complete.
    pub(super) fn hear(&mut self, samples: &[i16], end: Instant) -> Vec<Score> {
        match &mut self.resampler {
            Some(resampler) => resampler.push(samples, &mut self.rest),
            None => self.rest.extend_from_slice(samples),
        }
        let hops = self.rest.chunks_exact(HOP);
        let left = hops.remainder().len();
        let count = hops.len();
        let score = |(index, hop): (usize, &[i16])| {
            let behind = (count - 1 - index) * HOP + left;
            Score { voice: score(&mut self.inner, hop), until: earlier(end, time_of(behind)) }
        };
        let scores = hops.enumerate().map(score).collect();
        self.rest.drain(..count * HOP);
        scores
    }

    /// There is a gap in the sound: what is left of the sound before it is not judged.
    pub(super) fn cut(&mut self) {
        self.rest.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

fn score(detector: &mut earshot::Detector, hop: &[i16]) -> f32 {
    let squares: f32 = hop.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "256")]
    if squares < QUIET * HOP as f32 {
        return 0.0;
    }
    let score = detector.predict_i16(hop);
    if score.is_finite() { score.clamp(0.0, 1.0) } else { 0.0 }
}

fn time_of(samples: usize) -> Duration {
    Duration::from_micros(u64::try_from(samples).unwrap_or_default() * 1_000_000 / u64::from(RATE))
}

fn earlier(at: Instant, time: Duration) -> Instant {
    at.checked_sub(time).unwrap_or(at)
}

/// A change between silence and voice, at the time of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Started(Instant),
    Ended(Instant),
}

/// Whether somebody speaks.
#[derive(Debug)]
pub(super) struct Voice {
    thresholds: Thresholds,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody speaks.
    Silent,
    /// There is voice since this time, but not yet for long enough.
    Perhaps(Instant),
    /// Somebody speaks. There was voice up to this time.
    Speaking(Instant),
}

impl Voice {
    pub(super) const fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Silent }
    }

    /// Hear a score.
    pub(super) fn hear(&mut self, score: Score) -> Option<Change> {
        let since = earlier(score.until, HOP_TIME);
        let threshold = match self.state {
            State::Silent | State::Perhaps(_) => self.thresholds.voice,
            State::Speaking(_) => (self.thresholds.voice - HYSTERESIS).max(THRESHOLD_MIN),
        };
        let is_voice = f64::from(score.voice) > threshold;
        match self.state {
            State::Silent if is_voice => self.perhaps(since, score.until),
            State::Perhaps(began) if is_voice => self.perhaps(began, score.until),
            State::Silent | State::Perhaps(_) => {
                self.state = State::Silent;
                None
            }
            State::Speaking(until) => {
                self.state = State::Speaking(if is_voice { score.until.max(until) } else { until });
                self.pass(score.until)
            }
        }
    }

    /// There is no voice up to this time, as far as is known.
    pub(super) fn pass(&mut self, now: Instant) -> Option<Change> {
        let ends_at = self.ends_at()?;
        if now >= ends_at { self.end() } else { None }
    }

    /// When voice ends, if there is only silence from now on.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        let voice_until = self.voice_until()?;
        Some(voice_until.checked_add(self.thresholds.min_silence).unwrap_or(voice_until))
    }

    /// While somebody speaks: the end of the last sound that was voice.
    pub(super) const fn voice_until(&self) -> Option<Instant> {
        match self.state {
            State::Silent | State::Perhaps(_) => None,
            State::Speaking(until) => Some(until),
        }
    }

    /// Voice ends now, whatever comes.
    pub(super) fn end(&mut self) -> Option<Change> {
        let ended = self.voice_until().map(Change::Ended);
        self.state = State::Silent;
        ended
    }

    fn perhaps(&mut self, began: Instant, until: Instant) -> Option<Change> {
        let is_long = until.saturating_duration_since(began) >= self.thresholds.min_voice;
        self.state = if is_long { State::Speaking(until) } else { State::Perhaps(began) };
        is_long.then_some(Change::Started(began))
    }
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::RATES;

    use super::super::signals::{sine, speech};
    use super::*;

    const THRESHOLDS: Thresholds =
        Thresholds { voice: 0.5, min_voice: Duration::from_millis(50), min_silence: Duration::from_millis(320) };

    /// Feed scores, 16 ms each, and give the changes in milliseconds.
    fn changes(scores: &[(f32, u32)]) -> Vec<(bool, u128)> {
        let start = Instant::now();
        let mut voice = Voice::new(THRESHOLDS);
        let mut until = start;
        let mut changes = Vec::new();
        for score in scores.iter().flat_map(|(score, count)| vec![*score; *count as usize]) {
            until += HOP_TIME;
            changes.extend(voice.hear(Score { voice: score, until }).map(|change| match change {
                Change::Started(at) => (true, (at - start).as_millis()),
                Change::Ended(at) => (false, (at - start).as_millis()),
            }));
        }
        changes
    }

    #[test]
    fn voice_begins_and_ends_at_the_times_of_the_sound() {
        assert_eq!(changes(&[(0.1, 10), (0.9, 50), (0.1, 19)]), [(true, 160)]);
        assert_eq!(changes(&[(0.1, 10), (0.9, 50), (0.1, 20)]), [(true, 160), (false, 960)]);
        // Short voice is none; a soft syllable and a short pause do not end it.
        assert_eq!(changes(&[(0.9, 3), (0.1, 50)]), []);
        assert_eq!(
            changes(&[(0.9, 4), (0.1, 19), (0.4, 1), (0.1, 19), (0.9, 1), (0.3, 20)]),
            [(true, 0), (false, 44 * 16)]
        );
        // A soft syllable does not begin it either.
        assert_eq!(changes(&[(0.4, 50), (0.5, 50)]), []);
    }

    #[test]
    fn voice_ends_once_without_sound() {
        let start = Instant::now();
        let mut voice = Voice::new(THRESHOLDS);
        for i in 1..=4 {
            voice.hear(Score { voice: 1.0, until: start + HOP_TIME * i });
        }
        let until = start + HOP_TIME * 4;
        assert_eq!((voice.voice_until(), voice.ends_at()), (Some(until), Some(until + THRESHOLDS.min_silence)));
        assert_eq!(voice.pass(until + THRESHOLDS.min_silence - HOP_TIME), None);
        assert_eq!(voice.pass(until + THRESHOLDS.min_silence), Some(Change::Ended(until)));
        assert_eq!((voice.pass(until + THRESHOLDS.min_silence * 2), voice.end()), (None, None));
    }

    /// The share of scores above one half in a sound that is heard in pieces of 20 ms.
    fn share_of_voice(samples: &[i16], rate: u32) -> f64 {
        let start = Instant::now();
        let mut detector = Detector::new(rate);
        let mut scores = Vec::new();
        for (index, piece) in samples.chunks(rate as usize / 50).enumerate() {
            scores.extend(detector.hear(piece, start + Duration::from_millis(20) * (index as u32 + 1)));
        }
        let expected = samples.len() as u64 * 1_000 / u64::from(rate) / 16;
        assert_eq!(scores.len() as u64, expected);
        assert!(scores.windows(2).all(|two| two[1].until - two[0].until == HOP_TIME));
        assert_eq!(scores[0].until, start + HOP_TIME);
        scores.iter().filter(|score| score.voice > 0.5).count() as f64 / scores.len() as f64
    }

    #[test]
    fn speech_is_voice_and_silence_and_quiet_are_not() {
        for rate in RATES {
            let speech = speech(rate, 2.0);
            let share = share_of_voice(&speech, rate);
            assert!(share > 0.5, "{share} of speech at {rate} Hz is voice");
            assert_eq!(share_of_voice(&vec![0; rate as usize], rate), 0.0);
            let quiet: Vec<i16> = speech.iter().map(|sample| sample / 20_000).collect();
            assert_eq!(share_of_voice(&quiet, rate), 0.0);
            let share = share_of_voice(&sine(rate, 1_000.0, 0.3, 2.0), rate);
            assert!(share < 0.3, "{share} of a tone at {rate} Hz is voice");
        }
    }

    #[test]
    fn a_gap_cuts_what_is_not_judged() {
        let start = Instant::now();
        let mut detector = Detector::new(8_000);
        assert!(detector.hear(&[9_000; 100], start + Duration::from_millis(12)).is_empty());
        detector.cut();
        assert!(detector.hear(&[9_000; 100], start + Duration::from_millis(1_012)).is_empty());
        assert_eq!(detector.hear(&[9_000; 100], start + Duration::from_millis(1_024)).len(), 1);
    }
}
