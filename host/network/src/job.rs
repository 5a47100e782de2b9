//! What the tasks of one job's operations share with its handle, and how a task tells its operation's events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use wasm_worker_core::network::command::OperationId;
use wasm_worker_core::network::connection::NetworkNumbers;
use wasm_worker_core::network::event::{Failure, NetworkEvent};
use wasm_worker_core::network::traffic::{NetworkUse, Traffic};

use crate::failure::failure;
use crate::ledger::Ledger;
use crate::outbox::Outbox;

/// The operations of one job.
#[derive(Debug)]
pub(crate) struct Job {
    ledger: Mutex<Ledger>,
    /// Bytes that wait to be sent, on all operations.
    waiting: Arc<AtomicUsize>,
}

impl Job {
    pub(crate) fn new(operations_max: usize) -> Arc<Self> {
        Arc::new(Self { ledger: Mutex::new(Ledger::new(operations_max)), waiting: Arc::default() })
    }

    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        Arc::new(Outbox::new(self.waiting.clone()))
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // No code that can panic runs under this lock.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NetworkNumbers for Job {
    fn traffic(&self) -> NetworkUse {
        self.ledger().traffic.clone()
    }

    fn bytes_waiting(&self) -> usize {
        self.ledger().told_bytes() + self.waiting.load(Ordering::Relaxed)
    }

    fn open_operations(&self) -> usize {
        self.ledger().open_operations()
    }
}

/// Speaks for one operation.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    pub(crate) job: Arc<Job>,
    pub(crate) id: OperationId,
    /// As the ledger gave it.
    pub(crate) serial: u64,
}

impl Voice {
    /// Tell an event. Whether the operation goes on.
    pub(crate) fn tell(&self, event: NetworkEvent) -> bool {
        self.job.ledger().tell(self.serial, event)
    }

    /// Count for the bill.
    pub(crate) fn count(&self, host: &str, traffic: Traffic) {
        self.job.ledger().count(host, &traffic);
    }
}

/// The task of one operation. Dropped before the last event, it tells a failure: a bug of the host, or the end of the worker.
pub(crate) struct Teller {
    pub(crate) voice: Voice,
}

impl Teller {
    pub(crate) const fn id(&self) -> OperationId {
        self.voice.id
    }

    /// Tell an event. Whether the operation goes on.
    pub(crate) fn tell(&self, event: NetworkEvent) -> bool {
        self.voice.tell(event)
    }

    /// End the operation.
    pub(crate) fn fail(&self, failure: Failure) {
        self.tell(NetworkEvent::Failed { id: self.id(), failure });
    }

    /// Wait until more may be read ahead.
    pub(crate) async fn room(&self) {
        std::future::poll_fn(|context| self.poll_room(context)).await;
    }

    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.voice.job.ledger().poll_room(self.id(), context)
    }

    /// Count for the bill.
    pub(crate) fn count(&self, host: &str, traffic: Traffic) {
        self.voice.count(host, traffic);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.fail(failure("fault", "a bug of the host ended the operation, or the worker ends"));
    }
}
