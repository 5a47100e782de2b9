//! Pauses between attempts: each failure doubles the pause, up to a bound.
//!
//! Pure: the caller waits, and supplies the randomness.

use std::time::Duration;

/// Counts failures in a row and derives the next pause from their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff whose first pause is `first` and whose pauses do not exceed `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Count a failure, and return the pause before the next attempt.
    pub fn fail(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// Count a failure, and return a pause between half of the full pause and all of it. `random` is from 0 to 1. It
    /// spreads the attempts of clients that failed at the same moment.
    pub fn fail_with_jitter(&mut self, random: f64) -> Duration {
        self.fail().mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// An attempt succeeded: the next pause is the first one again.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let pauses: Vec<u64> = (0..5).map(|_| backoff.fail().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        for _ in 0..100 {
            assert_eq!(backoff.fail(), Duration::from_secs(5));
        }
        backoff.succeed();
        assert_eq!(backoff.fail_with_jitter(0.0), Duration::from_millis(500));
        assert_eq!((backoff.fail_with_jitter(1.0), backoff.failures()), (Duration::from_secs(2), 2));
    }
}
