//! The rate at which packets go out over the data channels. Pure; `now` is an argument.
//!
//! What is over the rate waits where it is: in the streams, whose writers are told to go on later.

use std::time::Duration;

use tokio::time::Instant;

/// The time whose share of the rate may go out at once.
const BURST: Duration = Duration::from_millis(250);

/// A rate in bytes, kept on average.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: f64,
    /// The time at which everything that went out was due, at the rate.
    paid_until: Instant,
    /// Whether something waits for its time.
    waits: bool,
}

impl Pace {
    /// At most so many bytes a second, and at least one.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn new(bytes_per_second: usize, now: Instant) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, paid_until: now, waits: false }
    }

    /// Whether the next packet may go out. One that may not is due at [`Self::wake_at`].
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        self.waits = self.due_at() > now;
        !self.waits
    }

    /// A packet of this size went out.
    #[expect(clippy::cast_precision_loss, reason = "a packet")]
    pub(super) fn pay(&mut self, bytes: usize, now: Instant) {
        let costs = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second).unwrap_or(BURST);
        self.paid_until = self.paid_until.max(now) + costs;
    }

    /// When something that waits is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.waits.then(|| self.due_at())
    }

    fn due_at(&self) -> Instant {
        self.paid_until.checked_sub(BURST).unwrap_or(self.paid_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_out_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let (mut pace, mut now, mut sent) = (Pace::new(100_000, start), start, 0_u32);
        while pace.is_due(now) {
            pace.pay(1_000, now);
            sent += 1;
        }
        assert_eq!((sent, pace.wake_at().is_some()), (26, true));
        while now < start + Duration::from_secs(10) {
            now = pace.wake_at().unwrap();
            while pace.is_due(now) {
                pace.pay(1_000, now);
                sent += 1;
            }
        }
        assert!((1_025..=1_030).contains(&sent), "{sent} packets in ten seconds");
        // Silence saves up no more than a burst.
        now += Duration::from_secs(3_600);
        assert!(pace.is_due(now) && pace.wake_at().is_none());
        let burst = std::iter::repeat_with(|| {
            let is_due = pace.is_due(now);
            pace.pay(1_000, now);
            is_due
        });
        assert_eq!(burst.take_while(|is_due| *is_due).count(), 26);
    }
}
