//! How long a guest that runs keeps its core before others are looked at.
//!
//! A guest stops after each slice of fuel. To hand it back to its runtime there wakes a thread that has nothing to do, to look
//! for work that is not there: a loop alone on two cores took 2.4 s for 2.0 s of its work. So its slices are strung together.
//!
//! Bounds: [`ALONE`] and [`SHARED`], each and one slice; a guest's own timers and its news are heard in between.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// While a core is idle: whoever else becomes ready runs there.
const ALONE: Duration = Duration::from_millis(2);
/// While every core has a guest: with 64 that loop on two cores, each has its turn after ten milliseconds or so.
const SHARED: Duration = Duration::from_micros(100);

/// The guests of one engine that run.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    cores: usize,
    running: AtomicUsize,
}

impl Turns {
    pub(super) fn new(cores: usize) -> Self {
        Self { cores, running: AtomicUsize::new(0) }
    }

    /// A guest gets a core.
    pub(crate) fn begin(&self) -> Turn<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Turn { turns: self, began: Instant::now() }
    }

    fn longest(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) < self.cores { ALONE } else { SHARED }
    }
}

/// A guest has a core until this is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    began: Instant,
}

impl Turn<'_> {
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.elapsed() >= self.turns.longest()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_long_while_a_core_is_idle() {
        let turns = Turns::new(2);
        let first = turns.begin();
        tokio::time::advance(SHARED).await;
        assert!(!first.is_over());
        let second = turns.begin();
        assert!(first.is_over(), "both cores are taken");
        assert!(!second.is_over(), "its own turn has just begun");
        drop(second);
        assert!(!first.is_over());
        tokio::time::advance(ALONE).await;
        assert!(first.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn on_one_core_nobody_is_alone() {
        let turns = Turns::new(1);
        let only = turns.begin();
        tokio::time::advance(SHARED).await;
        assert!(only.is_over());
    }
}
