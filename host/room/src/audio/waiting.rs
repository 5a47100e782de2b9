//! Sound of a published track that waits to be played, and the marks in it. Pure.
//!
//! A place in the sound is the number of samples before it, of all that was written.

use std::collections::VecDeque;
use std::time::Duration;

use wasm_worker_core::room::audio::options::{MARKS_MAX, WAITING_MAX, WRITABLE_AFTER, WriteError};

use super::block::{samples_in, time_of};

/// Memory that is not given back when nothing waits.
const KEPT_SAMPLES: usize = 4_096;
/// The end of sound within a frame fades over this.
const FADE: Duration = Duration::from_micros(2_500);

/// Sound and marks, first to last.
#[derive(Debug)]
pub(super) struct Waiting {
    rate: u32,
    samples: VecDeque<i16>,
    marks: VecDeque<Mark>,
    /// All that was written, in samples.
    written: u64,
    /// What was cleared of it.
    cleared: u64,
    /// Whether the agent waits to be told that it may write.
    is_long: bool,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    mark: u32,
    place: u64,
}

/// A frame of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) samples: Vec<i16>,
    /// The samples that were written; the rest is silence.
    pub(super) written: usize,
}

/// A mark that is behind what was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) mark: u32,
    /// What was played before it.
    pub(super) played: Duration,
    /// What was played after it.
    pub(super) ago: Duration,
}

impl Waiting {
    /// Nothing waits.
    pub(super) const fn new(rate: u32) -> Self {
        Self { rate, samples: VecDeque::new(), marks: VecDeque::new(), written: 0, cleared: 0, is_long: false }
    }

    /// Add little-endian samples.
    pub(super) fn write(&mut self, pcm: &[u8]) -> Result<(), WriteError> {
        let (samples, rest) = pcm.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(WriteError::HalfSample);
        }
        if self.time() > WAITING_MAX {
            return Err(WriteError::TooLarge);
        }
        self.samples.extend(samples.iter().map(|sample| i16::from_le_bytes(*sample)));
        self.written += u64::try_from(samples.len()).unwrap_or_default();
        self.is_long |= self.time() > WRITABLE_AFTER;
        Ok(())
    }

    /// Mark the end of what was written.
    pub(super) fn mark(&mut self, mark: u32) -> Result<(), WriteError> {
        if self.marks.len() >= MARKS_MAX {
            return Err(WriteError::TooManyMarks);
        }
        self.marks.push_back(Mark { mark, place: self.written });
        Ok(())
    }

    /// Take a frame of so many samples. The end of what waits is completed by silence, and fades into it.
    pub(super) fn take(&mut self, count: usize) -> Option<Sound> {
        if self.samples.is_empty() {
            return None;
        }
        let written = self.samples.len().min(count);
        let mut samples: Vec<i16> = self.samples.drain(..written).collect();
        if written < count {
            fade(&mut samples, samples_in(FADE, self.rate));
            samples.resize(count, 0);
        }
        self.give_back();
        Some(Sound { samples, written })
    }

    /// The next mark that is behind what was taken.
    pub(super) fn reached(&mut self) -> Option<Reached> {
        let taken = self.taken();
        let mark = self.marks.pop_front_if(|mark| mark.place <= taken)?;
        let ago = taken - mark.place;
        let played = taken.saturating_sub(self.cleared).saturating_sub(ago);
        Some(Reached { mark: mark.mark, played: self.time_of(played), ago: self.time_of(ago) })
    }

    /// Discard what waits. The marks in it.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        self.cleared += u64::try_from(self.samples.len()).unwrap_or_default();
        self.samples.clear();
        self.give_back();
        self.marks.drain(..).map(|mark| mark.mark).collect()
    }

    /// What was played of all that was written.
    pub(super) fn played(&self) -> Duration {
        self.time_of(self.taken().saturating_sub(self.cleared))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Whether the agent is to be told that it may write again. True once.
    pub(super) fn take_writable(&mut self) -> bool {
        let is_writable = self.is_long && self.time() < WRITABLE_AFTER / 2;
        self.is_long &= !is_writable;
        is_writable
    }

    /// Memory of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.samples.len() * size_of::<i16>() + self.marks.len() * size_of::<Mark>()
    }

    /// The length of the sound that waits.
    fn time(&self) -> Duration {
        time_of(self.samples.len(), self.rate)
    }

    /// What was played or cleared, in samples.
    fn taken(&self) -> u64 {
        self.written.saturating_sub(u64::try_from(self.samples.len()).unwrap_or_default())
    }

    fn time_of(&self, samples: u64) -> Duration {
        time_of(usize::try_from(samples).unwrap_or(usize::MAX), self.rate)
    }

    fn give_back(&mut self) {
        if self.samples.is_empty() {
            self.samples.shrink_to(KEPT_SAMPLES);
        }
    }
}

/// Let the end of a sound fade to nothing.
#[expect(clippy::cast_possible_truncation, reason = "a share of a sample")]
fn fade(samples: &mut [i16], over: usize) {
    let over = over.min(samples.len());
    let steps = i64::try_from(over).unwrap_or(i64::MAX);
    for (sample, left) in samples.iter_mut().rev().take(over).zip(0..) {
        *sample = (i64::from(*sample) * left / steps) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcm(samples: usize) -> Vec<u8> {
        [100_i16.to_le_bytes()].repeat(samples).concat()
    }

    #[test]
    fn the_end_is_completed_and_fades() {
        let mut waiting = Waiting::new(8_000);
        waiting.write(&pcm(200)).unwrap();
        assert_eq!(waiting.take(160), Some(Sound { samples: vec![100; 160], written: 160 }));
        let end = waiting.take(160).unwrap();
        assert_eq!((end.samples.len(), end.written), (160, 40));
        assert_eq!(end.samples[..20], [100; 20]);
        assert!(end.samples[20..].windows(2).all(|two| two[0] >= two[1]));
        assert_eq!(end.samples[39..], [0; 121]);
        assert_eq!((waiting.take(160), waiting.played()), (None, Duration::from_millis(25)));
    }

    #[test]
    fn a_minute_waits_and_no_more() {
        let mut waiting = Waiting::new(8_000);
        assert_eq!(waiting.write(&[0; 3]), Err(WriteError::HalfSample));
        waiting.write(&pcm(480_000)).unwrap();
        waiting.write(&pcm(8_000)).unwrap();
        assert_eq!(waiting.write(&pcm(1)), Err(WriteError::TooLarge));
        assert!(!waiting.take_writable());
        while waiting.bytes() > 8_000 {
            waiting.take(160);
            assert!(!waiting.take_writable());
        }
        waiting.take(160);
        assert!(waiting.take_writable() && !waiting.take_writable());
        assert!(waiting.samples.capacity() > 100_000);
        waiting.clear();
        assert!(waiting.samples.capacity() <= KEPT_SAMPLES * 2);
        for mark in 0..MARKS_MAX {
            waiting.mark(mark as u32).unwrap();
        }
        assert_eq!(waiting.mark(0), Err(WriteError::TooManyMarks));
    }

    #[test]
    fn marks_know_what_was_played() {
        let ms = Duration::from_millis;
        let mut waiting = Waiting::new(8_000);
        waiting.write(&pcm(80)).unwrap();
        waiting.mark(1).unwrap();
        waiting.write(&pcm(800)).unwrap();
        waiting.mark(2).unwrap();
        assert_eq!(waiting.reached(), None);
        waiting.take(160);
        assert_eq!(waiting.reached(), Some(Reached { mark: 1, played: ms(10), ago: ms(10) }));
        assert_eq!(waiting.reached(), None);
        assert_eq!(waiting.clear(), [2]);
        assert_eq!(waiting.played(), ms(20));
        waiting.mark(3).unwrap();
        assert_eq!(waiting.reached(), Some(Reached { mark: 3, played: ms(20), ago: ms(0) }));
        waiting.write(&pcm(80)).unwrap();
        waiting.mark(4).unwrap();
        waiting.take(160);
        assert_eq!(waiting.reached(), Some(Reached { mark: 4, played: ms(30), ago: ms(0) }));
    }
}
