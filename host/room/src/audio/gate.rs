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
    state: State,
}

/// What became of the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It passed.
    Open,
    /// It was kept, and so was all since the last one that passed.
    Pausing,
    /// It was kept, and something since the last one that passed was forgotten.
    Cut,
}

impl Gate {
    /// A closed gate for sound of this rate.
    pub(super) fn new(rate: u32, before: Duration, after: Duration, min_voice: Duration) -> Self {
        let keeps = before + min_voice + 4 * HOP_TIME;
        let kept = VecDeque::new();
        Self { rate, before, after, kept, keeps, bytes: 0, open_until: None, state: State::Cut }
    }

    /// There was voice from the one time to the other.
    pub(super) fn voice(&mut self, from: Instant, until: Instant) {
        if self.state != State::Open {
            let wanted = before(from, self.before);
            while self.kept.front().is_some_and(|block| block.end(self.rate) <= wanted) {
                self.forget_oldest();
            }
        }
        let open_until = after(until, self.after);
        self.open_until = Some(self.open_until.map_or(open_until, |until| until.max(open_until)));
    }

    /// A block that was heard, after the voice in it was told. What passes now, oldest first. `wanted`: the samples that complete the
    /// frame that is being delivered; they pass in any case.
    pub(super) fn push(&mut self, mut block: Block, wanted: usize) -> VecDeque<Block> {
        if self.open_until.is_some_and(|until| block.at < until) {
            let mut blocks = std::mem::take(&mut self.kept);
            self.bytes = 0;
            blocks.push_back(block);
            if self.state == State::Cut
                && let Some(first) = blocks.front_mut()
            {
                first.follows = false;
            }
            self.state = State::Open;
            return blocks;
        }
        let mut blocks = VecDeque::new();
        if self.state == State::Open && wanted > 0 {
            let rest = block.split_off(wanted, self.rate);
            blocks.push_back(block);
            let Some(rest) = rest else { return blocks };
            block = rest;
        }
        if self.state == State::Open {
            self.state = State::Pausing;
        }
        let end = block.end(self.rate);
        self.bytes += block.bytes();
        self.kept.push_back(block);
        let oldest = before(end, self.keeps);
        while self.kept.front().is_some_and(|block| block.end(self.rate) <= oldest) {
            self.forget_oldest();
        }
        blocks
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
        self.state = State::Cut;
    }

    fn forget_oldest(&mut self) {
        if let Some(block) = self.kept.pop_front() {
            self.bytes -= block.bytes();
            self.state = State::Cut;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Origin;
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
            let block = Block { at, follows: true, samples: vec![0; 160], origin: Origin::Packet };
            let blocks = gate.push(block, 0);
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
        let block =
            |i: u32| Block { at: start + FRAME * i, follows: true, samples: vec![0; 160], origin: Origin::Packet };
        for i in 0..10 {
            assert!(gate.push(block(i), 0).is_empty());
        }
        gate.voice(start + FRAME * 6, start + FRAME * 11);
        let passed = gate.push(block(10), 0);
        assert_eq!(passed.front().map(|block| block.at), Some(start + FRAME * 4));
        assert_eq!(passed.len(), 7);
        assert_eq!(gate.push(block(11), 0).len(), 1);
        // What completes a frame passes, and the rest of it is kept.
        let passed = gate.push(block(12), 200);
        assert_eq!((passed.len(), gate.bytes()), (1, 0));
        let passed = gate.push(block(13), 40);
        assert_eq!(passed.iter().map(|block| block.samples.len()).collect::<Vec<_>>(), [40]);
        assert!(gate.push(block(14), 0).is_empty());
        gate.voice(start + FRAME * 15, start + FRAME * 16);
        let passed = gate.push(block(15), 0);
        let places: Vec<_> =
            passed.iter().map(|block| (block.at - start, block.samples.len(), block.follows)).collect();
        let ms = Duration::from_millis;
        assert_eq!(places, [(ms(265), 120, true), (ms(280), 160, true), (ms(300), 160, true)]);
        gate.close();
        assert_eq!(gate.bytes(), 0);
    }
}
