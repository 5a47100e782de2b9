//! Dispatches that wait for a worker, by priority, then age. Pure.
//!
//! One that every worker has refused rests for a while, so that it does not keep the others waiting.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

/// Where a dispatch stands: a higher priority first, then the older one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    priority: Reverse<i32>,
    created_ns: i64,
    pub(crate) dispatch: Arc<str>,
}

impl Rank {
    pub(crate) fn new(priority: i32, created_ns: i64, dispatch: Arc<str>) -> Self {
        Self { priority: Reverse(priority), created_ns, dispatch }
    }
}

/// The queue of one kind of worker.
#[derive(Default)]
pub(crate) struct Queue {
    ready: BTreeSet<Rank>,
    resting: BTreeSet<(Instant, Rank)>,
}

impl Queue {
    pub(crate) fn push(&mut self, rank: Rank) {
        self.ready.insert(rank);
    }

    pub(crate) fn rest(&mut self, rank: Rank, until: Instant) {
        self.resting.insert((until, rank));
    }

    /// Take the first that may be offered now.
    pub(crate) fn pop(&mut self) -> Option<Rank> {
        self.ready.pop_first()
    }

    /// Take one out, wherever it is.
    pub(crate) fn remove(&mut self, rank: &Rank) {
        if !self.ready.remove(rank) {
            self.resting.retain(|(_, other)| other != rank);
        }
    }

    /// Those that have rested enough are ready.
    pub(crate) fn wake(&mut self, now: Instant) {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            self.ready.extend(self.resting.pop_first().map(|(_, rank)| rank));
        }
    }

    /// All are ready: something has changed for the better.
    pub(crate) fn wake_all(&mut self) {
        self.ready.extend(std::mem::take(&mut self.resting).into_iter().map(|(_, rank)| rank));
    }

    /// When the next one has rested enough.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// All that wait, in their order.
    pub(crate) fn in_order(&self) -> Vec<&Rank> {
        let mut all: Vec<&Rank> = self.ready.iter().chain(self.resting.iter().map(|(_, rank)| rank)).collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.resting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rank(priority: i32, created_ns: i64) -> Rank {
        Rank::new(priority, created_ns, format!("{priority}/{created_ns}").into())
    }

    #[test]
    fn priority_then_age() {
        let mut queue = Queue::default();
        for (priority, created) in [(0, 2), (5, 9), (0, 1), (-1, 0)] {
            queue.push(rank(priority, created));
        }
        let order: Vec<Rank> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [rank(5, 9), rank(0, 1), rank(0, 2), rank(-1, 0)]);
    }

    #[test]
    fn one_that_rests_is_in_nobody_s_way_and_comes_back_at_its_place() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.rest(rank(0, 1), now + Duration::from_secs(1));
        queue.push(rank(0, 2));
        assert_eq!(queue.in_order(), [&rank(0, 1), &rank(0, 2)]);
        assert_eq!(queue.wake_at(), Some(now + Duration::from_secs(1)));
        assert_eq!(queue.pop(), Some(rank(0, 2)));
        queue.wake(now);
        assert_eq!(queue.pop(), None);
        queue.wake(now + Duration::from_secs(1));
        assert_eq!(queue.pop(), Some(rank(0, 1)));
        queue.rest(rank(0, 1), now);
        queue.remove(&rank(0, 1));
        assert!(queue.is_empty());
    }
}
