//! The store's own clock, by which ended dispatches grow old. The wall clock may jump, in both directions; this clock does not.
//!
//! It runs with the monotonic clock. Across a restart it follows the wall clock, for [`AWAY_MAX`] at most. It may be late
//! then, and what is kept is kept for longer.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, params};
use tokio::time::Instant;

/// The longest time between two dispatchers that counts in full. A longer one may be a wrong clock.
const AWAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A clock that began when the store was created.
pub(super) struct StoreClock {
    /// The time of the clock at `since`, as a Unix time in nanoseconds.
    base_ns: i64,
    since: Instant,
}

impl StoreClock {
    /// Continue the clock of the last dispatcher. A new clock begins at `wall_ns`.
    pub(super) fn open(c: &Connection, wall_ns: i64) -> Result<Self> {
        let times = |row: &rusqlite::Row| Ok((row.get("store_ns")?, row.get("wall_ns")?));
        let last: Option<(i64, i64)> = c.query_row("SELECT store_ns, wall_ns FROM clock", [], times).optional()?;
        let Some((store_ns, left_ns)) = last else {
            let clock = Self { base_ns: wall_ns, since: Instant::now() };
            clock.save(c, wall_ns)?;
            return Ok(clock);
        };
        let away = wall_ns.saturating_sub(left_ns).clamp(0, nanoseconds(AWAY_MAX));
        Ok(Self { base_ns: store_ns.saturating_add(away), since: Instant::now() })
    }

    /// The time of the clock, as a Unix time in nanoseconds.
    pub(super) fn now_ns(&self) -> i64 {
        self.base_ns.saturating_add(nanoseconds(self.since.elapsed()))
    }

    /// Store the time for the next dispatcher.
    pub(super) fn save(&self, c: &Connection, wall_ns: i64) -> Result<()> {
        c.execute("INSERT OR REPLACE INTO clock VALUES (0, ?1, ?2)", params![self.now_ns(), wall_ns])?;
        Ok(())
    }
}

/// A duration in nanoseconds, as times in the store are.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
