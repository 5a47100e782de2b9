//! The sums of what guests have used since the start of the engine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What guests have used since the start of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Fuel units.
    pub fuel: u64,
    /// CPU time, by the clocks of the threads.
    pub cpu: Duration,
}

/// The counters behind [`Spent`].
#[derive(Default)]
pub(crate) struct Spending {
    /// Fuel units.
    pub(crate) fuel: AtomicU64,
    cpu_nanos: AtomicU64,
}

impl Spending {
    /// Add what one guest used.
    pub(crate) fn add(&self, fuel: u64, cpu_nanos: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
        self.cpu_nanos.fetch_add(cpu_nanos, Ordering::Relaxed);
    }

    /// The sums now.
    pub(super) fn spent(&self) -> Spent {
        let cpu = Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed));
        Spent { fuel: self.fuel.load(Ordering::Relaxed), cpu }
    }
}
