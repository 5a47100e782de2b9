//! Where voice begins and ends, by the level of the sound. Pure.
//!
//! A joined room has a detector of speech; this one knows loud from quiet, which is enough for scripted sound.

use tokio::time::Instant;
use wasm_worker_core::room::audio::options::Thresholds;

/// The level at which voice is as likely as not, in dB below full scale.
const LIKELY: f64 = -50.0;
/// The levels around it between which the probability goes from 0 to 1.
const SPREAD: f64 = 20.0;

/// Voice begins or ends, at a time before it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Began(Instant),
    Ended(Instant),
}

/// Knows whether somebody speaks.
#[derive(Debug)]
pub(super) struct Detector {
    thresholds: Thresholds,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody speaks.
    Silent,
    /// There is sound since then, which may be too short for voice.
    Beginning(Instant),
    /// Somebody speaks.
    Speaking,
    /// There is no sound since then, which may be a pause.
    Ending(Instant),
}

impl Detector {
    pub(super) const fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Silent }
    }

    /// The probability of voice at this level.
    pub(super) fn probability(level: f64) -> f64 {
        ((level - LIKELY) / SPREAD + 0.5).clamp(0.0, 1.0)
    }

    /// Sound of this level came from `at` to `until`.
    pub(super) fn hear(&mut self, at: Instant, until: Instant, level: f64) -> Option<Change> {
        let is_loud = Self::probability(level) > self.thresholds.voice;
        let (state, change) = match (self.state, is_loud) {
            (State::Silent, true) => self.begin(at, until),
            (State::Beginning(since), true) => self.begin(since, until),
            (State::Silent | State::Beginning(_), false) => (State::Silent, None),
            (State::Speaking | State::Ending(_), true) => (State::Speaking, None),
            (State::Speaking, false) => self.end(at, until),
            (State::Ending(since), false) => self.end(since, until),
        };
        self.state = state;
        change
    }

    fn begin(&self, since: Instant, until: Instant) -> (State, Option<Change>) {
        if until.saturating_duration_since(since) >= self.thresholds.min_voice {
            (State::Speaking, Some(Change::Began(since)))
        } else {
            (State::Beginning(since), None)
        }
    }

    fn end(&self, since: Instant, until: Instant) -> (State, Option<Change>) {
        if until.saturating_duration_since(since) >= self.thresholds.min_silence {
            (State::Silent, Some(Change::Ended(since)))
        } else {
            (State::Ending(since), None)
        }
    }

    /// The sound ends, at this time or before it. Whether voice ends with it.
    pub(super) fn stop(&mut self, at: Instant) -> Option<Change> {
        match std::mem::replace(&mut self.state, State::Silent) {
            State::Silent | State::Beginning(_) => None,
            State::Speaking => Some(Change::Ended(at)),
            State::Ending(since) => Some(Change::Ended(since)),
        }
    }

    /// The time since which somebody who speaks is silent.
    pub(super) fn pauses_since(&self) -> Option<Instant> {
        match self.state {
            State::Ending(since) => Some(since),
            State::Silent | State::Beginning(_) | State::Speaking => None,
        }
    }

    /// Whether somebody speaks, or pauses.
    pub(super) fn is_speaking(&self) -> bool {
        matches!(self.state, State::Speaking | State::Ending(_))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LOUD: f64 = -20.0;
    const QUIET: f64 = -80.0;

    /// What is known after each 10 ms of these levels, and when: the time of the change, and that at which it is known.
    fn changes(levels: impl IntoIterator<Item = f64>) -> Vec<(bool, u64, u64)> {
        let [min_voice, min_silence] = [30, 50].map(Duration::from_millis);
        let mut detector = Detector::new(Thresholds { voice: 0.5, min_voice, min_silence });
        let (began, piece) = (Instant::now(), Duration::from_millis(10));
        let (mut at, mut found) = (began, Vec::new());
        let millis = |time: Instant| u64::try_from((time - began).as_millis()).unwrap();
        for level in levels {
            match detector.hear(at, at + piece, level) {
                Some(Change::Began(since)) => found.push((true, millis(since), millis(at + piece))),
                Some(Change::Ended(since)) => found.push((false, millis(since), millis(at + piece))),
                None => {}
            }
            at += piece;
        }
        found
    }

    #[test]
    fn voice_begins_and_ends_before_it_is_known() {
        let levels = [QUIET; 2].into_iter().chain([LOUD; 10]).chain([QUIET; 10]);
        assert_eq!(changes(levels), [(true, 20, 50), (false, 120, 170)]);
    }

    #[test]
    fn a_click_is_no_voice_and_a_pause_no_end() {
        let click = [LOUD; 2].into_iter().chain([QUIET; 20]);
        assert!(changes(click).is_empty());
        let pause = [LOUD; 5].into_iter().chain([QUIET; 4]).chain([LOUD; 5]);
        assert_eq!(changes(pause), [(true, 0, 30)]);
    }

    #[test]
    fn probability_follows_the_level() {
        let probabilities = [-100.0, -60.0, -50.0, -45.0, -40.0, 0.0].map(Detector::probability);
        assert_eq!(probabilities, [0.0, 0.0, 0.5, 0.75, 1.0, 1.0]);
    }
}
