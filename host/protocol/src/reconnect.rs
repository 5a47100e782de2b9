//! The pauses before a worker connects again after it lost its server.
//!
//! Bounds: the pause doubles from [`PAUSE_FIRST`] up to [`PAUSE_LONGEST`]. After `failures_max` failures in a row the worker
//! gives up.

use std::time::Duration;

use wasm_worker_core::backoff::Backoff;

const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// A connection that lasted this long was healthy, and its loss is the first failure. A server that registers a worker and drops
/// it at once is not healthy.
const HEALTHY_AFTER: Duration = PAUSE_LONGEST;

/// The reconnect policy of one worker, with its failures in a row.
#[derive(Debug)]
pub struct Reconnect {
    backoff: Backoff,
    failures_max: usize,
}

impl Reconnect {
    /// A policy that gives up after `failures_max` failures in a row.
    pub fn new(failures_max: usize) -> Self {
        Self { backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST), failures_max }
    }

    /// The pause before the next attempt, or `None` to give up. `held` is how long the worker was registered before this failure.
    /// `random` is from 0 to 1 and spreads workers that lost their server at the same moment.
    pub fn failed(&mut self, held: Duration, random: f64) -> Option<Duration> {
        if held >= HEALTHY_AFTER {
            self.backoff.succeed();
        }
        let pause = self.backoff.fail_with_jitter(random);
        (self.backoff.failures() as usize <= self.failures_max).then_some(pause)
    }

    /// The pause after a connection that one message ended by its length. Such an end is no failure of the server: it does not
    /// count, however often it comes.
    pub fn too_long(&self, random: f64) -> Duration {
        Backoff::new(PAUSE_FIRST, PAUSE_FIRST).fail_with_jitter(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_until_the_worker_gives_up() {
        let mut reconnect = Reconnect::new(16);
        let pauses: Vec<Duration> = std::iter::from_fn(|| reconnect.failed(Duration::from_secs(1), 1.0)).collect();
        assert_eq!(pauses.len(), 16);
        assert_eq!(
            pauses[..6].iter().map(Duration::as_millis).collect::<Vec<_>>(),
            [500, 1_000, 2_000, 4_000, 8_000, 10_000]
        );
        assert!(pauses[5..].iter().all(|pause| *pause == PAUSE_LONGEST));
        assert_eq!(reconnect.failed(HEALTHY_AFTER, 0.0), Some(PAUSE_FIRST / 2));
    }

    #[test]
    fn message_that_is_too_long_is_no_failure() {
        let mut reconnect = Reconnect::new(2);
        for _ in 0..100 {
            assert_eq!(reconnect.too_long(1.0), PAUSE_FIRST);
        }
        assert!(reconnect.failed(Duration::ZERO, 1.0).is_some() && reconnect.failed(Duration::ZERO, 1.0).is_some());
        assert_eq!(reconnect.failed(Duration::ZERO, 1.0), None);
    }
}
