//! When to try again after the connection is gone; pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// A connection that lasted this long was a good one: a server that takes a worker and drops it is not to be asked again at once
/// for ever.
const GOOD_AFTER: Duration = LONGEST;

/// Attempts that failed in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    failures_max: usize,
}

impl Backoff {
    pub(crate) fn new(failures_max: usize) -> Self {
        Self { failures: 0, failures_max }
    }

    /// How long to wait, or nothing when that was the last attempt. `held` is how long the server had the worker before that, and
    /// `random` from 0 to 1: workers that were cut off together are not to come back together.
    pub(crate) fn failed(&mut self, held: Duration, random: f64) -> Option<Duration> {
        if held >= GOOD_AFTER {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures as usize > self.failures_max {
            return None;
        }
        let whole = FIRST.saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX)).min(LONGEST);
        Some(whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_end() {
        let mut backoff = Backoff::new(16);
        let waits: Vec<Duration> = std::iter::from_fn(|| backoff.failed(Duration::from_secs(1), 1.0)).collect();
        assert_eq!(waits.len(), 16);
        assert_eq!(
            waits[..6].iter().map(Duration::as_millis).collect::<Vec<_>>(),
            [500, 1_000, 2_000, 4_000, 8_000, 10_000]
        );
        assert!(waits[5..].iter().all(|wait| *wait == LONGEST));
        assert_eq!(backoff.failed(GOOD_AFTER, 0.0), Some(FIRST / 2));
    }
}
