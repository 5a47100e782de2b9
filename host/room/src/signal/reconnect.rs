//! The attempts to get into a room, or back into it: which kind, when, and when no more.
//!
//! Bounds: [`TRIES_MAX`] attempts after a loss, with pauses that grow from [`PAUSE_FIRST`] to [`PAUSE_LONGEST`], as LiveKit's SDKs
//! have them; the first one comes at once.

use std::time::Duration;

use wasm_worker_core::backoff::Backoff;

const TRIES_MAX: u32 = 10;
const PAUSE_FIRST: Duration = Duration::from_millis(300);
const PAUSE_LONGEST: Duration = Duration::from_secs(7);

/// A room that was held for this long was in order, and its loss has all attempts again. A server that lets the agent in and sends
/// it away at once is not in order.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// What an attempt tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A new place in the room, with a new peer.
    Join,
    /// The same place, with the same peer. `restart`: the peer looks for a new path.
    Resume { restart: bool },
}

/// The attempts since the room was last in order.
#[derive(Debug)]
pub(super) struct Attempts {
    begun: u32,
    backoff: Backoff,
    /// State of the generator that spreads the pauses.
    random: u64,
}

impl Attempts {
    /// None were made. `seed` spreads the rooms that lose their server in one moment.
    pub(super) const fn new(seed: u64) -> Self {
        Self { begun: 0, backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST), random: seed | 1 }
    }

    /// The pause before the next attempt; none where no more follows.
    pub(super) fn next(&mut self) -> Option<Duration> {
        if self.begun >= TRIES_MAX {
            return None;
        }
        self.begun += 1;
        if self.begun == 1 {
            return Some(Duration::ZERO);
        }
        let random = self.random();
        Some(self.backoff.fail_with_jitter(random))
    }

    /// The room is in order, or a new join begins.
    pub(super) fn reset(&mut self) {
        self.begun = 0;
        self.backoff.succeed();
    }

    /// A number from 0 to 1, by xorshift.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_have_pauses_that_grow() {
        let mut attempts = Attempts::new(7);
        let pauses: Vec<Duration> = std::iter::from_fn(|| attempts.next()).collect();
        let full = [0, 300, 600, 1_200, 2_400, 4_800, 7_000, 7_000, 7_000, 7_000].map(Duration::from_millis);
        assert_eq!(pauses.len(), full.len());
        assert!(pauses.iter().zip(full).all(|(pause, full)| *pause <= full && *pause >= full / 2), "{pauses:?}");
        attempts.reset();
        assert_eq!(attempts.next(), Some(Duration::ZERO));
        assert!(attempts.next().unwrap() <= PAUSE_FIRST);
    }
}
