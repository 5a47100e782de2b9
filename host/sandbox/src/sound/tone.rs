//! The share of a frequency in the power of a sound. Pure.
//!
//! The sound is examined in pieces of [`PIECE`], so a frequency that is up to 3 Hz off counts as the same.

use std::collections::VecDeque;
use std::time::Duration;

use super::{PIECE, samples_in};

/// The power of a sound, and that at one frequency.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tone {
    all: f64,
    at: f64,
    /// Time that was examined and is not silent.
    pub(crate) heard: Duration,
}

impl Tone {
    /// The powers of these samples.
    pub(crate) fn of(samples: &[i16], rate: u32, hz: f64) -> Self {
        let mut tone = Self::default();
        tone.add(samples, rate, hz);
        tone
    }

    /// Add more sound.
    pub(crate) fn add(&mut self, samples: &[i16], rate: u32, hz: f64) {
        for piece in samples.chunks(samples_in(PIECE, rate).max(1)) {
            let all: f64 = piece.iter().map(|sample| f64::from(*sample).powi(2)).sum();
            if all > 0.0 {
                self.all += all;
                self.at += power(piece, rate, hz).min(all);
                self.heard += super::duration_of(piece.len(), rate);
            }
        }
    }

    fn join(&mut self, other: Self) {
        (self.all, self.at, self.heard) = (self.all + other.all, self.at + other.at, self.heard + other.heard);
    }

    /// From 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        if self.all > 0.0 { self.at / self.all } else { 0.0 }
    }
}

/// Looks for a time of sound that is mostly one tone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToneSearch {
    /// The last pieces that are not silent.
    pieces: VecDeque<Tone>,
}

impl ToneSearch {
    /// Look at more sound. Whether some of it, with what came before, has this share of its power at the frequency for at least a time.
    pub(crate) fn finds(&mut self, (samples, rate): (&[i16], u32), hz: f64, share: f64, least: Duration) -> bool {
        samples.chunks(samples_in(PIECE, rate).max(1)).any(|piece| {
            let tone = Tone::of(piece, rate, hz);
            if tone.heard.is_zero() {
                return false;
            }
            self.pieces.push_back(tone);
            let mut sum = Tone::default();
            self.pieces.iter().for_each(|tone| sum.join(*tone));
            while let Some(first) = self.pieces.front()
                && sum.heard.saturating_sub(first.heard) >= least
            {
                (sum.all, sum.at, sum.heard) = (sum.all - first.all, sum.at - first.at, sum.heard - first.heard);
                self.pieces.pop_front();
            }
            sum.heard >= least && sum.share() >= share
        })
    }
}

/// The power of a piece at one frequency.
fn power(piece: &[i16], rate: u32, hz: f64) -> f64 {
    let turn = hz * std::f64::consts::TAU / f64::from(rate.max(1));
    let (mut sines, mut cosines, mut angle) = (0.0, 0.0, 0.0_f64);
    for sample in piece {
        let (sine, cosine) = angle.sin_cos();
        sines += f64::from(*sample) * sine;
        cosines += f64::from(*sample) * cosine;
        angle += turn;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = piece.len() as f64;
    2.0 * (sines * sines + cosines * cosines) / count
}

#[cfg(test)]
mod tests {
    use super::super::sine;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tone_has_its_power_at_its_frequency_and_a_mixture_a_part() {
        let (one, other) = (sine(440.0, 16_000, SECOND), sine(660.0, 16_000, SECOND));
        let tone = Tone::of(&one, 16_000, 440.0);
        assert!(tone.share() > 0.99 && tone.heard == SECOND, "{tone:?}");
        assert!(Tone::of(&other, 16_000, 440.0).share() < 0.05);
        let both: Vec<i16> = one.iter().zip(&other).map(|(one, other)| one + other).collect();
        let share = Tone::of(&both, 16_000, 440.0).share();
        assert!((0.45..0.55).contains(&share), "{share}");
    }

    #[test]
    fn a_tone_among_others_is_found_where_it_lasts() {
        let millis = Duration::from_millis;
        let (one, other) = (sine(440.0, 8_000, millis(300)), sine(660.0, 8_000, millis(300)));
        let sound = [&other[..], &[0; 900], &one, &other].concat();
        let finds = |hz, least| {
            let mut search = ToneSearch::default();
            sound.chunks(777).any(|part| search.finds((part, 8_000), hz, 0.9, least))
        };
        assert!(finds(440.0, millis(200)) && finds(660.0, millis(200)));
        assert!(!finds(440.0, millis(400)) && !finds(550.0, millis(100)));
    }

    #[test]
    fn silence_is_no_tone_and_counts_as_nothing() {
        let mut tone = Tone::of(&[0; 16_000], 16_000, 440.0);
        assert_eq!((tone.share(), tone.heard), (0.0, Duration::ZERO));
        tone.add(&sine(440.0, 16_000, SECOND), 16_000, 440.0);
        assert!(tone.share() > 0.99);
    }
}
