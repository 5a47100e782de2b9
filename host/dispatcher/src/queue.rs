//! The queue of one agent: its dispatches without a worker, by priority, then age. Pure.
//!
//! A dispatch that every worker has refused is paused, so that it does not block the others.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The rank of a dispatch: a higher priority comes first, then the older dispatch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    priority: Reverse<i32>,
    created_ns: i64,
    /// The id of the dispatch.
    pub(crate) dispatch: Arc<str>,
}

impl Rank {
    pub(crate) fn new(priority: i32, created_ns: i64, dispatch: Arc<str>) -> Self {
        Self { priority: Reverse(priority), created_ns, dispatch }
    }
}

/// The dispatches of one agent that wait.
#[derive(Default)]
pub(crate) struct Queue {
    ready: BTreeSet<Rank>,
    paused: BTreeSet<Rank>,
}

impl Queue {
    /// Add a dispatch.
    pub(crate) fn push(&mut self, rank: Rank) {
        self.ready.insert(rank);
    }

    /// Add a dispatch that is not offered before it is resumed.
    pub(crate) fn pause(&mut self, rank: Rank) {
        self.paused.insert(rank);
    }

    /// Remove and return the first dispatch that is not paused.
    pub(crate) fn pop(&mut self) -> Option<Rank> {
        self.ready.pop_first()
    }

    /// Remove a dispatch, paused or not.
    pub(crate) fn remove(&mut self, rank: &Rank) {
        if !self.ready.remove(rank) {
            self.paused.remove(rank);
        }
    }

    /// End the pause of a dispatch, if it is paused.
    pub(crate) fn resume(&mut self, rank: &Rank) {
        self.ready.extend(self.paused.take(rank));
    }

    /// End all pauses, because a worker may accept now.
    pub(crate) fn resume_all(&mut self) {
        self.ready.append(&mut self.paused);
    }

    /// Whether a dispatch is not paused.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// All dispatches, by rank.
    pub(crate) fn in_order(&self) -> Vec<&Rank> {
        let mut all: Vec<&Rank> = self.ready.iter().chain(&self.paused).collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.paused.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(priority: i32, created_ns: i64) -> Rank {
        Rank::new(priority, created_ns, format!("{priority}/{created_ns}").into())
    }

    #[test]
    fn queue_is_ordered_by_priority_then_age() {
        let mut queue = Queue::default();
        for (priority, created) in [(0, 2), (5, 9), (0, 1), (-1, 0)] {
            queue.push(rank(priority, created));
        }
        let order: Vec<Rank> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [rank(5, 9), rank(0, 1), rank(0, 2), rank(-1, 0)]);
    }

    #[test]
    fn paused_dispatch_blocks_no_other_and_keeps_its_rank() {
        let mut queue = Queue::default();
        queue.pause(rank(0, 1));
        queue.push(rank(0, 2));
        assert_eq!(queue.in_order(), [&rank(0, 1), &rank(0, 2)]);
        assert_eq!(queue.pop(), Some(rank(0, 2)));
        queue.resume(&rank(0, 2));
        assert!(!queue.has_ready() && queue.pop().is_none());
        queue.resume(&rank(0, 1));
        assert_eq!(queue.pop(), Some(rank(0, 1)));
        queue.pause(rank(0, 1));
        queue.remove(&rank(0, 1));
        assert!(queue.is_empty());
    }
}
