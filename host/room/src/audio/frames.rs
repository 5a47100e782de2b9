//! Blocks of a heard track made into frames of the length that the agent asked for. Pure.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioFrame, HeardId};

use super::block::{Block, Origin, after, before, samples_in, time_of};

/// Sound of one or more whole frames.
#[derive(Debug)]
pub(super) struct Frames {
    id: HeardId,
    rate: u32,
    /// Samples of one frame.
    frame: usize,
    /// Sound that is not a whole frame yet.
    rest: Vec<u8>,
    /// Samples of `rest` that were made up.
    concealed: usize,
    /// Whether `rest`, or what comes next, begins where the last frame ended.
    follows: bool,
    /// When what comes next would have been heard, if it follows.
    next: Instant,
    /// Silence was delivered up to this time. Sound that comes late and belongs before it is left out.
    silent_until: Instant,
}

/// Sound that is ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) frame: AudioFrame,
    /// Whether it begins where the last one ended.
    pub(super) follows: bool,
}

impl Frames {
    /// Frames of so much sound each.
    pub(super) fn new(id: HeardId, rate: u32, frame: Duration, now: Instant) -> Self {
        let frame = samples_in(frame, rate).max(1);
        Self { id, rate, frame, rest: Vec::new(), concealed: 0, follows: false, next: now, silent_until: now }
    }

    /// Add a block. Returns the sound of packets that was left out, and the frames that are whole. Behind a gap, silence completes the
    /// frame before it first: up to the block, where it reaches so far.
    pub(super) fn push(&mut self, block: &Block) -> (Duration, Vec<Ready>) {
        let mut ready = Vec::new();
        let late = samples_in(self.silent_until.saturating_duration_since(block.at), self.rate);
        let samples = block.samples.get(late..).unwrap_or_default();
        let left_out = match block.origin {
            Origin::Packet => time_of(block.samples.len() - samples.len(), self.rate),
            Origin::MadeUp => Duration::ZERO,
        };
        if samples.is_empty() {
            return (left_out, ready);
        }
        if !block.follows {
            let gap = samples_in(block.at.saturating_duration_since(self.next), self.rate);
            let (count, _) = self.counts();
            if count > 0 && count + gap < self.frame {
                self.add_silence(gap);
            } else {
                ready.extend(self.complete());
                self.follows = false;
            }
        }
        self.rest.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        self.next = block.end(self.rate);
        let (count, left) = self.counts();
        let of_block = |samples: usize| if block.origin == Origin::MadeUp { samples } else { 0 };
        // What is left of a frame is shorter than the block.
        let left_concealed = of_block(left.min(samples.len()));
        self.concealed += of_block(samples.len());
        if count > left {
            ready.extend(self.take(count - left, left_concealed));
        }
        (left_out, ready)
    }

    /// Complete the frame that is not whole, by silence.
    pub(super) fn complete(&mut self) -> Option<Ready> {
        let (count, left) = self.counts();
        if count == 0 {
            return None;
        }
        self.add_silence(self.frame - left);
        self.silent_until = self.next;
        self.take(self.counts().0, 0)
    }

    /// The samples that complete the frame that is not whole; 0 where nothing waits.
    pub(super) fn wanted(&self) -> usize {
        let (_, left) = self.counts();
        if left == 0 { 0 } else { self.frame - left }
    }

    /// When the frame that is not whole ends. None where nothing waits.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        let wanted = self.wanted();
        (wanted > 0).then(|| after(self.next, time_of(wanted, self.rate)))
    }

    /// Memory of the sound that is not a whole frame yet.
    pub(super) fn bytes(&self) -> usize {
        self.rest.len()
    }

    /// The samples that wait, and those of them that are no whole frame.
    fn counts(&self) -> (usize, usize) {
        let count = self.rest.len() / size_of::<i16>();
        (count, count % self.frame)
    }

    fn add_silence(&mut self, samples: usize) {
        self.rest.resize(self.rest.len() + samples * size_of::<i16>(), 0);
        self.next = after(self.next, time_of(samples, self.rate));
    }

    /// Take the first samples. `left_concealed`: those that were made up in what is left.
    fn take(&mut self, samples: usize, left_concealed: usize) -> Option<Ready> {
        let (count, _) = self.counts();
        let at = before(self.next, time_of(count, self.rate));
        let rest = self.rest.split_off((samples * size_of::<i16>()).min(self.rest.len()));
        let pcm = std::mem::replace(&mut self.rest, rest);
        let concealed = time_of(self.concealed.saturating_sub(left_concealed), self.rate);
        self.concealed = left_concealed;
        let follows = std::mem::replace(&mut self.follows, true);
        let frame = AudioFrame { id: self.id, at: at.into_std(), concealed, dropped: Duration::ZERO, pcm };
        Some(Ready { frame, follows })
    }
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::HeardId;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn block(at: Instant, ms: usize, follows: bool) -> Block {
        Block { at, follows, samples: vec![5; ms * 8], origin: Origin::Packet }
    }

    /// Each frame by its time, length, and what was made up of it, in milliseconds, and whether it follows.
    fn shape(ready: &[Ready], start: Instant) -> Vec<(u128, usize, u128, bool)> {
        let of = |ready: &Ready| {
            let at = (Instant::from_std(ready.frame.at) - start).as_millis();
            (at, ready.frame.pcm.len() / 16, ready.frame.concealed.as_millis(), ready.follows)
        };
        ready.iter().map(of).collect()
    }

    #[test]
    fn frames_are_whole_and_in_time() {
        let start = Instant::now();
        let mut frames = Frames::new(HeardId::Asked(1), 8_000, 50 * MS, start);
        let mut ready = Vec::new();
        for i in 0..5 {
            let origin = if i == 2 { Origin::MadeUp } else { Origin::Packet };
            ready.extend(frames.push(&Block { origin, ..block(start + 20 * MS * i, 20, i > 0) }).1);
        }
        assert_eq!(shape(&ready, start), [(0, 50, 10, false), (50, 50, 10, true)]);
        // A long packet is several frames in one event.
        let (_, ready) = frames.push(&block(start + 100 * MS, 120, true));
        assert_eq!(shape(&ready, start), [(100, 100, 0, true)]);
        assert_eq!(frames.bytes(), 20 * 16);
        // A short gap is silence inside of the frame, a long one completes it.
        assert!(frames.push(&block(start + 230 * MS, 10, false)).1.is_empty());
        let (_, ready) = frames.push(&block(start + 300 * MS, 60, false));
        assert_eq!(shape(&ready, start), [(200, 50, 0, true), (300, 50, 0, false)]);
        assert_eq!(ready[0].frame.pcm[20 * 16..30 * 16], [0; 160]);
        assert_eq!(ready[0].frame.pcm[40 * 16..], [0; 160]);
        assert_eq!(shape(&frames.complete().into_iter().collect::<Vec<_>>(), start), [(350, 50, 0, true)]);
        assert!(frames.complete().is_none());
    }

    #[test]
    fn sound_that_comes_after_silence_was_delivered_for_it_is_left_out() {
        let start = Instant::now();
        let mut frames = Frames::new(HeardId::Asked(1), 8_000, 50 * MS, start);
        frames.push(&block(start, 20, false));
        assert_eq!(shape(&frames.complete().into_iter().collect::<Vec<_>>(), start), [(0, 50, 0, false)]);
        let mut left_out = |block: &Block| {
            let (left_out, ready) = frames.push(block);
            assert!(ready.is_empty());
            left_out
        };
        assert_eq!(left_out(&block(start + 20 * MS, 20, true)), 20 * MS);
        assert_eq!(left_out(&block(start + 40 * MS, 20, true)), 10 * MS);
        // What was made up is no sound that anybody misses.
        assert_eq!(left_out(&Block { origin: Origin::MadeUp, ..block(start, 20, true) }), Duration::ZERO);
        assert_eq!(frames.bytes(), 10 * 16);
        let (_, ready) = frames.push(&block(start + 60 * MS, 40, true));
        assert_eq!(shape(&ready, start), [(50, 50, 0, true)]);
    }
}
