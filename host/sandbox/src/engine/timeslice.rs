//! Time slices: how long a guest keeps its core before other guests run.
//!
//! A guest yields after each fuel interval. Returning to the runtime at each yield would wake idle threads that look for work
//! that is not there: a loop alone on two cores took 2.4 s for 2.0 s of its work. So a time slice spans many fuel intervals.
//!
//! Bounds: [`SLICE_ALONE`] or [`SLICE_SHARED`], and one fuel interval more. A guest that uses time and no fuel, in host calls,
//! yields at the next epoch after [`CoreDemand::slice_by_fuel_max`]: after half a millisecond or a whole one while others wait.
//! A guest's own timers and control events are handled between two time slices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Time slice while a core is idle: guests that become ready run there.
const SLICE_ALONE: Duration = Duration::from_millis(2);
/// Time slice while at least as many guests want a core as there are cores. A switch takes about 1.5 µs.
const SLICE_SHARED: Duration = Duration::from_micros(50);
/// Longest time that the last fuel interval of a time slice takes, with a margin.
const FUEL_INTERVAL_MAX: Duration = Duration::from_micros(500);

/// The number of an engine's guests that want a core, against the number of cores.
#[derive(Debug, Default)]
pub(crate) struct CoreDemand {
    cores: usize,
    /// Guests that want a core.
    wanting: AtomicUsize,
}

impl CoreDemand {
    /// No guest wants one of these cores.
    pub(super) fn new(cores: usize) -> Self {
        Self { cores, wanting: AtomicUsize::new(0) }
    }

    /// The longest time slice that ends by fuel. A longer one is ended by the epoch.
    pub(crate) fn slice_by_fuel_max(&self) -> Duration {
        self.slice() + FUEL_INTERVAL_MAX
    }

    /// Whether at least as many guests want a core as there are cores.
    pub(super) fn is_contended(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) >= self.cores
    }

    /// The length of a time slice now.
    pub(crate) fn slice(&self) -> Duration {
        if self.is_contended() { SLICE_SHARED } else { SLICE_ALONE }
    }
}

/// The demand of one guest: it wants a core from its first time slice until it waits or ends.
pub(crate) struct GuestDemand {
    engine: Arc<CoreDemand>,
    wants: bool,
}

impl GuestDemand {
    /// A guest that wants no core yet.
    pub(crate) fn new(engine: Arc<CoreDemand>) -> Self {
        Self { engine, wants: false }
    }

    /// Begin a time slice, and return its begin.
    pub(crate) fn begin_slice(&mut self) -> Instant {
        if !std::mem::replace(&mut self.wants, true) {
            self.engine.wanting.fetch_add(1, Ordering::Relaxed);
        }
        Instant::now()
    }

    /// Whether a time slice with this begin is over.
    pub(crate) fn is_slice_over(&self, began: Instant) -> bool {
        began.elapsed() >= self.engine.slice()
    }

    /// Want no core until the next time slice.
    pub(crate) fn rest(&mut self) {
        if std::mem::take(&mut self.wants) {
            self.engine.wanting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for GuestDemand {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_slice_is_long_while_a_core_is_idle() {
        let engine = Arc::new(CoreDemand::new(2));
        let (mut first, mut second) = (GuestDemand::new(engine.clone()), GuestDemand::new(engine.clone()));
        let began = first.begin_slice();
        tokio::time::advance(SLICE_SHARED).await;
        assert!(!first.is_slice_over(began));
        let later = second.begin_slice();
        assert!(first.is_slice_over(began), "there is one for each core");
        assert!(!second.is_slice_over(later), "its own time slice has just begun");
        second.rest();
        second.rest();
        assert!(!first.is_slice_over(began));
        second.begin_slice();
        drop(second);
        first.begin_slice();
        assert_eq!(engine.wanting.load(Ordering::Relaxed), 1);
        tokio::time::advance(SLICE_ALONE).await;
        assert!(first.is_slice_over(began));
    }

    #[tokio::test(start_paused = true)]
    async fn time_slice_is_short_on_one_core() {
        let mut only = GuestDemand::new(Arc::new(CoreDemand::new(1)));
        let began = only.begin_slice();
        tokio::time::advance(SLICE_SHARED).await;
        assert!(only.is_slice_over(began));
    }
}
