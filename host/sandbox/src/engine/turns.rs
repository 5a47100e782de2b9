//! How long a guest that runs keeps its core before others are looked at.
//!
//! A guest stops after each slice of fuel. To hand it back to its runtime there wakes a thread that has nothing to do, to look
//! for work that is not there: a loop alone on two cores took 2.4 s for 2.0 s of its work. So its slices are strung together.
//!
//! Bounds: [`ALONE`] and [`SHARED`], each and one slice; a guest that uses time and no fuel, in host calls, is stopped at the next
//! tick of the clock once it has had more than [`Turns::by_fuel`]: half a millisecond or a whole one while others wait. Its own
//! timers and its news are heard between two turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// While a core is idle: whoever else becomes ready runs there.
const ALONE: Duration = Duration::from_millis(2);
/// While there is a guest for every core, or more. A change of guests costs about a microsecond and a half.
const SHARED: Duration = Duration::from_micros(50);
/// What the last slice of a turn may take, with room to spare.
const SLICE_MOST: Duration = Duration::from_micros(500);

/// The guests of one engine that want a core.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    cores: usize,
    wanting: AtomicUsize,
}

impl Turns {
    pub(super) fn new(cores: usize) -> Self {
        Self { cores, wanting: AtomicUsize::new(0) }
    }

    /// A turn that has taken longer than this was not ended by fuel.
    pub(crate) fn by_fuel(&self) -> Duration {
        self.longest() + SLICE_MOST
    }

    /// Whether there is a guest for every core, or more.
    pub(super) fn are_short(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) >= self.cores
    }

    fn longest(&self) -> Duration {
        if self.are_short() { SHARED } else { ALONE }
    }
}

/// Whether one guest wants a core: from its first turn until it waits or ends, whether it has one just now or not.
pub(crate) struct Demand {
    turns: Arc<Turns>,
    wants: bool,
}

impl Demand {
    pub(crate) fn new(turns: Arc<Turns>) -> Self {
        Self { turns, wants: false }
    }

    /// The guest has a core from now on.
    pub(crate) fn begin(&mut self) -> Instant {
        if !std::mem::replace(&mut self.wants, true) {
            self.turns.wanting.fetch_add(1, Ordering::Relaxed);
        }
        Instant::now()
    }

    /// Whether a turn that began then is over.
    pub(crate) fn is_over(&self, began: Instant) -> bool {
        began.elapsed() >= self.turns.longest()
    }

    /// The guest wants no core for now.
    pub(crate) fn rest(&mut self) {
        if std::mem::take(&mut self.wants) {
            self.turns.wanting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_long_while_a_core_is_idle() {
        let turns = Arc::new(Turns::new(2));
        let (mut first, mut second) = (Demand::new(turns.clone()), Demand::new(turns.clone()));
        let began = first.begin();
        tokio::time::advance(SHARED).await;
        assert!(!first.is_over(began));
        let later = second.begin();
        assert!(first.is_over(began), "there is one for each core");
        assert!(!second.is_over(later), "its own turn has just begun");
        second.rest();
        second.rest();
        assert!(!first.is_over(began));
        second.begin();
        drop(second);
        first.begin();
        assert_eq!(turns.wanting.load(Ordering::Relaxed), 1);
        tokio::time::advance(ALONE).await;
        assert!(first.is_over(began));
    }

    #[tokio::test(start_paused = true)]
    async fn on_one_core_nobody_is_alone() {
        let mut only = Demand::new(Arc::new(Turns::new(1)));
        let began = only.begin();
        tokio::time::advance(SHARED).await;
        assert!(only.is_over(began));
    }
}
