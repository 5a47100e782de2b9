//! What is delivered of a track of which the agent wants voice only. Pure.
//!
//! While somebody speaks, sound passes up to `after` behind the last voice. What does not pass is kept for a while, so that voice comes
//! with the sound `before` it. Pauses that are shorter than both together are therefore not cut out.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::block::{Block, after, before};
use super::voice::HOP_TIME;

/// The sound that does not pass, and what lets it pass.
#[derive(Debug)]
pub(super) struct Gate {
    rate: u32,
    before: Duration,
    after: Duration,
    /// Sound that did not pass, oldest first.
    kept: VecDeque<Block>,
    /// The sound that is kept: that before voice, and what comes until voice is certain.
    keeps: Duration,
    /// Memory of what is kept.
    bytes: usize,
    /// Sound before this time passes.
    open_until: Option<Instant>,
    /// Whether the last block passed.
    is_open: bool,
}

/// What becomes of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// What passes now, oldest first.
    pub(super) blocks: VecDeque<Block>,
    /// Whether nothing passes any more for now: what was delivered is to be completed.
    pub(super) closes: bool,
}

impl Gate {
    /// A closed gate for sound of this rate.
    pub(super) fn new(rate: u32, before: Duration, after: Duration, min_voice: Duration) -> Self {
        let keeps = before + min_voice + 4 * HOP_TIME;
        let kept = VecDeque::new();
        Self { rate, before, after, kept, keeps, bytes: 0, open_until: None, is_open: false }
    }

    /// There was voice from the one time to the other.
    pub(super) fn voice(&mut self, from: Instant, until: Instant) {
        if !self.is_open {
            let wanted = before(from, self.before);
            while self.kept.front().is_some_and(|block| block.end(self.rate) <= wanted) {
                self.forget_oldest();
            }
        }
        let open_until = after(until, self.after);
        self.open_until = Some(self.open_until.map_or(open_until, |until| until.max(open_until)));
    }

    /// A block that was heard, after the voice in it was told.
    pub(super) fn push(&mut self, mut block: Block) -> Passed {
        let passes = self.open_until.is_some_and(|until| block.at < until);
        let closes = self.is_open && !passes;
        if passes {
            let mut blocks = std::mem::take(&mut self.kept);
            self.bytes = 0;
            // Behind a pause that was cut out, sound does not follow what was delivered.
            if let Some(first) = blocks.front_mut().filter(|_| !self.is_open) {
                first.follows = false;
            } else if !self.is_open {
                block.follows = false;
            }
            self.is_open = true;
            blocks.push_back(block);
            return Passed { blocks, closes };
        }
        self.is_open = false;
        let end = block.end(self.rate);
        self.bytes += block.bytes();
        self.kept.push_back(block);
        let oldest = before(end, self.keeps);
        while self.kept.front().is_some_and(|block| block.end(self.rate) <= oldest) {
            self.forget_oldest();
        }
        Passed { blocks: VecDeque::new(), closes }
    }

    /// Memory of what is kept.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forget what is kept, and pass nothing until there is voice.
    pub(super) fn close(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        self.open_until = None;
        self.is_open = false;
    }

    fn forget_oldest(&mut self) {
        if let Some(block) = self.kept.pop_front() {
            self.bytes -= block.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);
    const RATE: u32 = 8_000;

    /// The numbers of the blocks that pass when there is voice in some of 200.
    fn passed(gate: &mut Gate, start: Instant, voiced: &[std::ops::Range<u32>]) -> Vec<(u32, bool)> {
        let mut passed = Vec::new();
        for i in 0..200_u32 {
            let at = start + FRAME * i;
            if voiced.iter().any(|range| range.contains(&i)) {
                gate.voice(at, at + FRAME);
            }
            let block = Block { at, follows: true, samples: vec![0; 160], is_concealed: false };
            let blocks = gate.push(block).blocks;
            passed.extend(blocks.iter().map(|block| ((block.at - start).as_millis() as u32 / 20, block.follows)));
            assert!(gate.bytes() <= 40 * (320 + size_of::<Block>()), "{} bytes are kept", gate.bytes());
        }
        passed
    }

    #[test]
    fn voice_passes_with_what_is_beside_it() {
        let start = Instant::now();
        let mut gate = Gate::new(RATE, FRAME * 5, FRAME * 3, FRAME * 2);
        let blocks = passed(&mut gate, start, &[20..30, 36..40, 100..101]);
        let expected: Vec<u32> = (15..43).chain(95..104).collect();
        assert_eq!(blocks.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected);
        // The pause of six blocks is whole; the longer one is a gap.
        let cuts: Vec<u32> = blocks.iter().filter(|(_, follows)| !follows).map(|(number, _)| *number).collect();
        assert_eq!(cuts, [15, 95]);
    }

    #[test]
    fn voice_that_is_told_late_still_passes_whole() {
        let start = Instant::now();
        let mut gate = Gate::new(RATE, FRAME * 2, FRAME, FRAME * 5);
        let block = |i: u32| Block { at: start + FRAME * i, follows: true, samples: vec![0; 160], is_concealed: false };
        for i in 0..10 {
            assert!(gate.push(block(i)).blocks.is_empty());
        }
        gate.voice(start + FRAME * 6, start + FRAME * 11);
        let passed = gate.push(block(10));
        assert_eq!(passed.blocks.front().map(|block| block.at), Some(start + FRAME * 4));
        assert_eq!(passed.blocks.len(), 7);
        assert!(!gate.push(block(11)).closes);
        assert!(gate.push(block(12)).closes);
        assert!(!gate.push(block(13)).closes);
        gate.close();
        assert_eq!(gate.bytes(), 0);
    }
}
