//! The present moment, by the monotonic clock and by the wall clock.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The moment by the monotonic clock, for deadlines.
    pub(crate) at: Instant,
    /// The Unix time in nanoseconds, as LiveKit's protocol has it.
    pub(crate) wall_ns: i64,
}

impl Moment {
    /// The present moment.
    pub(crate) fn now() -> Self {
        let wall_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        Self { at: Instant::now(), wall_ns }
    }

    /// The Unix time in nanoseconds after this delay.
    pub(crate) fn wall_ns_after(self, delay: Duration) -> i64 {
        self.wall_ns.saturating_add(i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX))
    }
}
