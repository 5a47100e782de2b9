//! A rate that has a burst. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What has come at a rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When all up to now would have come at the rate.
    even_at: Option<Instant>,
}

impl Pace {
    /// Whether something is within the rate. `share` is its time at the rate, and `burst` the time whose share may come at once.
    pub(super) fn admits(&mut self, share: Duration, burst: Duration, now: Instant) -> bool {
        let even_at = self.even_at.unwrap_or(now).max(now);
        let is_within = even_at.saturating_duration_since(now) < burst;
        if is_within {
            self.even_at = Some(even_at + share);
        }
        is_within
    }

    /// Count something that is admitted anyway.
    pub(super) fn count(&mut self, share: Duration, now: Instant) {
        self.even_at = Some(self.even_at.unwrap_or(now).max(now) + share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_has_a_burst() {
        let (mut pace, now, ms) = (Pace::default(), Instant::now(), Duration::from_millis);
        let admitted = |pace: &mut Pace, at| (0..100).filter(|_| pace.admits(ms(10), ms(100), at)).count();
        assert_eq!(admitted(&mut pace, now), 10);
        assert_eq!((admitted(&mut pace, now), admitted(&mut pace, now + ms(20))), (0, 2));
        assert_eq!(admitted(&mut pace, now + ms(9_000)), 10);
        let later = now + ms(20_000);
        (0..4).for_each(|_| pace.count(ms(10), later));
        assert_eq!(admitted(&mut pace, later), 6);
    }
}
