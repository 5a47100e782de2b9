//! What has to happen at a time. Pure.
//!
//! Bounds: each call, request and stream has at most two entries, and clears them at its end.

use std::collections::BTreeSet;

use tokio::time::Instant;

use wasm_worker_core::room::command::{IncomingId, OperationId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The called participant should have acknowledged the call.
    Receipt(OperationId),
    /// The time of a call is over.
    Call(OperationId),
    /// The time of a request is over.
    Request(IncomingId),
    /// A stream may have been left by its sender.
    Stream(IncomingId),
}

/// All that is due, by time.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Instant, Due)>);

impl Deadlines {
    /// Have something be due at a time.
    pub(super) fn set(&mut self, at: Instant, due: Due) {
        self.0.insert((at, due));
    }

    /// Take a deadline back.
    pub(super) fn clear(&mut self, at: Instant, due: Due) {
        self.0.remove(&(at, due));
    }

    /// The first time.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Take the first that is due by now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        let (at, due) = self.0.pop_first()?;
        if at <= now {
            return Some(due);
        }
        self.0.insert((at, due));
        None
    }

    /// The number of deadlines.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
