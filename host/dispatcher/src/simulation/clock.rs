//! The virtual clock, and the events that are planned on it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Moment;

/// The wall clock at the start of a run, in nanoseconds.
const WALL_START_NS: i64 = 1_000_000_000_000;

/// A clock that moves from event to event.
pub(super) struct Clock<E> {
    start: Instant,
    now: Instant,
    /// The planned events by time; those of one moment in the order of their planning.
    planned: BTreeMap<(Instant, u64), E>,
    next: u64,
}

impl<E> Clock<E> {
    pub(super) fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start, planned: BTreeMap::new(), next: 0 }
    }

    pub(super) fn now(&self) -> Moment {
        let passed = i64::try_from(self.passed().as_nanos()).unwrap();
        Moment { at: self.now, wall_ns: WALL_START_NS + passed }
    }

    /// The time since the start of the run.
    pub(super) fn passed(&self) -> Duration {
        self.now - self.start
    }

    /// The moment at this time after the start of the run.
    pub(super) fn at(&self, passed: Duration) -> Instant {
        self.start + passed
    }

    pub(super) fn plan(&mut self, at: Instant, event: E) {
        self.planned.insert((at, self.next), event);
        self.next += 1;
    }

    /// The time of the next planned event.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.planned.first_key_value().map(|((at, _), _)| *at)
    }

    /// Move to this moment. A clock never moves backwards.
    pub(super) fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
    }

    /// Take the next event that is due.
    pub(super) fn take_due(&mut self) -> Option<E> {
        let due = self.planned.first_entry().filter(|entry| entry.key().0 <= self.now)?;
        Some(due.remove())
    }
}
