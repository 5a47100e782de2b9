//! The store of a dispatcher's process: batches that a writer makes durable later, and the actions that wait for them.

use std::collections::VecDeque;

use rand::RngExt;
use tokio::time::Instant;

use super::context::{Context, Event};
use super::network::ConnectionId;
use crate::scheduler::{Change, Id, ToWorker};
use crate::store::StoreOp;

/// An action that waits until everything before it is durable.
pub(super) enum Deferred {
    Send {
        worker: Id,
        message: ToWorker,
        since: Instant,
    },
    /// Tell the client that this dispatch is accepted.
    Confirm {
        dispatch: String,
    },
    Pong {
        connection: ConnectionId,
        timestamp: i64,
    },
}

/// The batches that are not durable, and what waits for them.
pub(super) struct Journal {
    /// The generation of the dispatcher.
    server: u32,
    unwritten: VecDeque<Vec<StoreOp>>,
    given: u64,
    written: u64,
    deferred: VecDeque<(u64, Deferred)>,
    is_stuck: bool,
}

impl Journal {
    pub(super) fn new(server: u32) -> Self {
        Self { server, unwritten: VecDeque::new(), given: 0, written: 0, deferred: VecDeque::new(), is_stuck: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unwritten.is_empty()
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Whether the creation of a dispatch is not durable yet.
    pub(super) fn has_created(&self, dispatch: &str) -> bool {
        let created = |op: &StoreOp| match op {
            StoreOp::Change(Change::Created { dispatch: other, .. }) => *other.id == *dispatch,
            _ => false,
        };
        self.unwritten.iter().flatten().any(created)
    }

    pub(super) fn give(&mut self, cx: &mut Context, batch: Vec<StoreOp>) {
        if !batch.is_empty() {
            self.unwritten.push_back(batch);
            self.given += 1;
            self.write_later(cx);
        }
    }

    /// Keep an action until everything before it is durable. Returns it where that is so already.
    pub(super) fn defer(&mut self, deferred: Deferred) -> Option<Deferred> {
        if self.given <= self.written {
            return Some(deferred);
        }
        self.deferred.push_back((self.given, deferred));
        None
    }

    pub(super) fn set_stuck(&mut self, cx: &mut Context, is_stuck: bool) {
        self.is_stuck = is_stuck;
        self.write_later(cx);
    }

    fn write_later(&self, cx: &mut Context) {
        let time = if cx.chance(0.9) { cx.up_to(5) } else { cx.up_to(500) };
        cx.after(time, Event::Write { server: self.server });
    }

    /// Write the batches that wait. Returns the actions that waited for them.
    pub(super) fn write(&mut self, cx: &mut Context) -> Vec<Deferred> {
        if self.is_stuck {
            return Vec::new();
        }
        for batch in self.unwritten.drain(..) {
            write(cx, &batch);
            self.written += 1;
        }
        let released = self.deferred.iter().take_while(|(batch, _)| *batch <= self.written).count();
        self.deferred.drain(..released).map(|(_, deferred)| deferred).collect()
    }

    /// The process ends. The writer may have written some of the batches, in their order.
    pub(super) fn crash(self, cx: &mut Context) {
        let written = if self.is_stuck { 0 } else { cx.rng.random_range(0..=self.unwritten.len()) };
        self.unwritten.iter().take(written).for_each(|batch| write(cx, batch));
    }
}

fn write(cx: &mut Context, batch: &[StoreOp]) {
    cx.store.write(batch);
    for op in batch {
        if let StoreOp::Change(Change::Ended { dispatch, end, .. }) = op {
            cx.log(|| format!("{dispatch} ends: {}: {}", end.verdict.code, end.verdict.detail));
            cx.checks.ended(dispatch, end.verdict.code);
        }
    }
}
