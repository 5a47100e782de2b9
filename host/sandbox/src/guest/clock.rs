//! The time as a guest sees it. It stands still during each call.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Units of a [`Moment`] in one millisecond.
const UNITS_PER_MS: u64 = 1_024;
/// The date of every prewarm: 2026-01-01T00:00:00Z.
const PREWARM_DATE: Duration = Duration::from_secs(1_767_225_600);
/// The monotonic clock at the beginning of a job. It is later than any time that a prewarm can have read.
const MONOTONIC_ORIGIN: Duration = Duration::from_secs(60 * 60 * 24);

/// A moment since 1970, in units of 1/1024 ms. As `f64` in milliseconds it is exact, so that sums with whole milliseconds are too:
/// a timer is never seen a fraction too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    fn new(since_1970: Duration) -> Self {
        let units = since_1970.as_nanos() * u128::from(UNITS_PER_MS) / 1_000_000;
        Self(u64::try_from(units).unwrap_or(u64::MAX))
    }

    /// The moment of a recording.
    pub(crate) const fn of_units(units: u64) -> Self {
        Self(units)
    }

    /// The same as a whole number.
    pub(crate) const fn units(self) -> u64 {
        self.0
    }

    /// Milliseconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 for the next 270,000 years")]
    pub(crate) fn as_ms(self) -> f64 {
        self.0 as f64 / 1_024.0
    }

    /// Time since 1970.
    pub(crate) fn since_1970(self) -> Duration {
        self.since(Self(0))
    }

    fn since(self, earlier: Self) -> Duration {
        let units = self.0.saturating_sub(earlier.0);
        Duration::from_millis(units / UNITS_PER_MS)
            + Duration::from_nanos(units % UNITS_PER_MS * 1_000_000 / UNITS_PER_MS)
    }
}

/// The clock of one instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestClock {
    now: Moment,
    /// The beginning of the monotonic clock; none in `prewarm`.
    began: Option<Moment>,
    /// The launch of the job: by the host's clock, and since 1970.
    launch: Option<(Instant, Duration)>,
}

impl GuestClock {
    /// The clock of a prewarm, which shows the same on every machine.
    pub(crate) fn prewarm() -> Self {
        Self { now: Moment::new(PREWARM_DATE), began: None, launch: None }
    }

    /// The clock of `decide`, at this time since 1970.
    pub(crate) fn decide(wall: Duration) -> Self {
        let now = Moment::new(wall);
        Self { now, began: Some(now), launch: None }
    }

    /// The clock of a job that is launched at `at`, which is `wall` since 1970.
    pub(crate) fn launched(at: Instant, wall: Duration) -> Self {
        let now = Moment::new(wall);
        Self { now, began: Some(now), launch: Some((at, wall)) }
    }

    /// The clock of a replay, which shows what it is told.
    pub(crate) fn replayed(now: Moment) -> Self {
        Self { now, began: Some(now), launch: None }
    }

    /// Show this moment from now on.
    pub(crate) fn show(&mut self, moment: Moment) {
        self.now = moment;
    }

    /// Show another time from now on. It never decreases.
    pub(crate) fn advance(&mut self, at: Instant) {
        self.now = self.now.max(self.moment(at));
    }

    /// The moment that the clock shows at this time.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        self.launch.map_or(self.now, |(launched, wall)| Moment::new(wall + at.saturating_duration_since(launched)))
    }

    /// The moment that the clock shows now.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Time since the launch.
    pub(crate) fn since_launch(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| self.now.since(began))
    }

    /// The monotonic clock.
    pub(crate) fn monotonic(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |_| MONOTONIC_ORIGIN + self.since_launch())
    }
}

/// The time since 1970, by the host's clock.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prewarm_has_one_date_and_a_job_begins_later_than_it() {
        let prewarm = GuestClock::prewarm();
        assert_eq!(prewarm.now().as_ms(), 1_767_225_600_000.0);
        assert_eq!(prewarm.monotonic(), Duration::ZERO);
        let launched = Instant::now();
        let mut clock = GuestClock::launched(launched, since_1970());
        assert_eq!(clock.monotonic(), MONOTONIC_ORIGIN);
        clock.advance(launched + Duration::from_millis(1_500));
        assert_eq!(clock.monotonic(), MONOTONIC_ORIGIN + Duration::from_millis(1_500));
        clock.advance(launched);
        assert_eq!(clock.monotonic(), MONOTONIC_ORIGIN + Duration::from_millis(1_500), "it never decreases");
    }

    proptest! {
        /// A guest that adds whole milliseconds to `now-ms` finds its timer due at the host's time for it.
        #[test]
        fn sums_with_whole_milliseconds_are_exact(nanos in 0_u64..2_000_000_000_000_000_000, after: u32) {
            let set = Duration::from_nanos(nanos);
            let due = set + Duration::from_millis(after.into());
            prop_assert!(Moment::new(due).as_ms() >= Moment::new(set).as_ms() + f64::from(after));
            prop_assert!(Moment::new(set).since_1970() <= set);
        }
    }
}
