//! The operations of one job, and the events that wait for it. Pure but for the wakers.
//!
//! - An operation has exactly one last event, unless it is cancelled: what comes after the last event is dropped here, and what a
//!   task does not say when it ends, it says by its end.
//! - An operation is read ahead by [`AHEAD_BYTES_MAX`], and all together by [`JOB_AHEAD_BYTES_MAX`], counted until the taker has handed
//!   the events on. An operation keeps its place among `operations_max` until then, so that the memory of a job has a bound.
//! - An operation of which nothing waits may always be read: others cannot starve it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;
use wasm_worker_core::network::command::OperationId;
use wasm_worker_core::network::event::{Failure, NetworkEvent};
use wasm_worker_core::network::traffic::{NetworkUse, Traffic};

use crate::outbox::Outbox;

/// How far an operation is read ahead, in charges of events.
pub(crate) const AHEAD_BYTES_MAX: usize = 256 << 10;

/// How far all operations of a job are read ahead.
const JOB_AHEAD_BYTES_MAX: usize = 8 << 20;

/// The operations of one job.
#[derive(Debug)]
pub(crate) struct Ledger {
    operations: HashMap<OperationId, Operation>,
    operations_max: usize,
    /// The charges of all operations.
    ahead: usize,
    /// Operations that ever began.
    begun: u64,
    events: VecDeque<NetworkEvent>,
    /// The charges of these events.
    told: usize,
    /// Wakes the taker that waits.
    taker: Option<Waker>,
    pub(crate) traffic: NetworkUse,
}

#[derive(Debug)]
struct Operation {
    /// Which of those that ever began: a task that ends late does not speak for another operation of the same id.
    serial: u64,
    outbox: Arc<Outbox>,
    /// The charge of its events that are not handed on.
    ahead: usize,
    /// Whether its last event was told.
    is_over: bool,
    /// Ends its task.
    task: Option<AbortHandle>,
    /// Wakes the task that waits to read on.
    reader: Option<Waker>,
}

/// Why an operation cannot begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The id is in use.
    Known,
    /// There are as many as there may be.
    Many,
}

impl Ledger {
    pub(crate) fn new(operations_max: usize) -> Self {
        let (operations, events) = (HashMap::new(), VecDeque::new());
        let traffic = NetworkUse::default();
        Self { operations, operations_max, ahead: 0, begun: 0, events, told: 0, taker: None, traffic }
    }

    /// Begin an operation. Its serial number.
    pub(crate) fn begin(&mut self, id: OperationId, outbox: Arc<Outbox>) -> Result<u64, Refused> {
        if self.operations.contains_key(&id) {
            return Err(Refused::Known);
        }
        if self.operations.len() >= self.operations_max {
            return Err(Refused::Many);
        }
        self.begun += 1;
        let (serial, task, reader) = (self.begun, None, None);
        self.operations.insert(id, Operation { serial, outbox, ahead: 0, is_over: false, task, reader });
        Ok(serial)
    }

    /// The task of an operation, if it is not over already.
    pub(crate) fn set_task(&mut self, id: OperationId, task: AbortHandle) {
        if let Some(operation) = self.operations.get_mut(&id).filter(|operation| !operation.is_over) {
            operation.task = Some(task);
        }
    }

    /// What is written on an operation that is not over.
    pub(crate) fn outbox(&self, id: OperationId) -> Option<Arc<Outbox>> {
        self.operations.get(&id).filter(|operation| !operation.is_over).map(|operation| operation.outbox.clone())
    }

    /// Tell an event. Whether the operation goes on, with it or without.
    pub(crate) fn tell(&mut self, serial: u64, event: NetworkEvent) -> bool {
        let speaks = |operation: &&mut Operation| operation.serial == serial && !operation.is_over;
        let Some(operation) = self.operations.get_mut(&event.id()).filter(speaks) else { return false };
        operation.ahead += event.charge();
        self.ahead += event.charge();
        operation.is_over = event.is_last();
        if operation.is_over {
            operation.task = None;
        }
        let goes_on = !operation.is_over;
        self.push(event);
        goes_on
    }

    /// Tell that an operation cannot begin.
    pub(crate) fn refuse(&mut self, id: OperationId, failure: Failure) {
        self.push(NetworkEvent::Failed { id, failure });
    }

    /// End an operation from outside of its task.
    pub(crate) fn fail(&mut self, id: OperationId, failure: Failure) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let (serial, task) = (operation.serial, operation.task.take());
        self.tell(serial, NetworkEvent::Failed { id, failure });
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Give up an operation, and all that is to be told of it.
    pub(crate) fn cancel(&mut self, id: OperationId) {
        if let Some(operation) = self.operations.remove(&id) {
            if let Some(task) = operation.task {
                task.abort();
            }
            self.events.retain(|event| event.id() != id);
            self.told = self.events.iter().map(NetworkEvent::charge).sum();
            self.release(operation.ahead);
        }
    }

    /// Give up all.
    pub(crate) fn cancel_all(&mut self) {
        for (_, operation) in self.operations.drain() {
            if let Some(task) = operation.task {
                task.abort();
            }
        }
        self.events.clear();
        (self.ahead, self.told) = (0, 0);
    }

    /// Events of this charge were handed on.
    pub(crate) fn taken(&mut self, id: OperationId, charge: usize) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let charge = charge.min(operation.ahead);
        operation.ahead -= charge;
        if operation.is_over && operation.ahead == 0 {
            self.operations.remove(&id);
        }
        self.release(charge);
    }

    /// Let the tasks look again that wait to read on.
    fn release(&mut self, charge: usize) {
        self.ahead -= charge;
        if self.ahead < JOB_AHEAD_BYTES_MAX {
            for operation in self.operations.values_mut().filter(|operation| operation.ahead < AHEAD_BYTES_MAX) {
                if let Some(reader) = operation.reader.take() {
                    reader.wake();
                }
            }
        }
    }

    /// Ready once more of an operation may be read.
    pub(crate) fn poll_room(&mut self, id: OperationId, context: &mut Context<'_>) -> Poll<()> {
        match self.operations.get_mut(&id) {
            Some(operation)
                if !operation.is_over
                    && operation.ahead > 0
                    && (operation.ahead >= AHEAD_BYTES_MAX || self.ahead >= JOB_AHEAD_BYTES_MAX) =>
            {
                operation.reader = Some(context.waker().clone());
                Poll::Pending
            }
            // A task whose operation is gone ends by what it tells.
            _ => Poll::Ready(()),
        }
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Option<NetworkEvent> {
        let event = self.events.pop_front()?;
        self.told -= event.charge();
        if self.events.is_empty() {
            // A burst does not keep its memory.
            self.events.shrink_to(16);
        }
        Some(event)
    }

    /// Ready once there is an event.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.events.is_empty() {
            self.taker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Operations that are not over.
    pub(crate) fn open_operations(&self) -> usize {
        self.operations.values().filter(|operation| !operation.is_over).count()
    }

    /// Bytes of the events that nobody has taken.
    pub(crate) fn told_bytes(&self) -> usize {
        self.told
    }

    /// Count what went to and came from a server.
    pub(crate) fn count(&mut self, host: &str, traffic: &Traffic) {
        self.traffic.add(host, traffic);
    }

    fn push(&mut self, event: NetworkEvent) {
        self.told += event.charge();
        self.events.push_back(event);
        if let Some(taker) = self.taker.take() {
            taker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::failure;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2);
        ledger.begin(1, Arc::default()).unwrap();
        ledger
    }

    fn body(id: OperationId, bytes: usize, last: bool) -> NetworkEvent {
        NetworkEvent::Body { id, bytes: vec![0; bytes], last }
    }

    fn has_room(ledger: &mut Ledger, id: OperationId) -> bool {
        ledger.poll_room(id, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn nothing_follows_the_last_event_of_an_operation() {
        let mut ledger = ledger();
        assert!(
            ledger.tell(1, body(1, 1, false)) && !ledger.tell(1, body(1, 1, true)) && !ledger.tell(1, body(1, 1, true))
        );
        ledger.fail(1, failure("fault", "late"));
        assert!(ledger.outbox(1).is_none());
        assert_eq!(std::iter::from_fn(|| ledger.next()).count(), 2);
        assert!(!ledger.tell(3, body(7, 1, true)) && ledger.next().is_none());
    }

    #[test]
    fn a_cancelled_operation_is_not_heard_of() {
        let mut ledger = ledger();
        ledger.begin(2, Arc::default()).unwrap();
        ledger.tell(1, body(1, 1, false));
        ledger.tell(2, body(2, 2, false));
        ledger.cancel(1);
        assert!(!ledger.tell(1, body(1, 3, true)));
        assert_eq!(ledger.told_bytes(), body(2, 2, false).charge());
        assert_eq!((ledger.next(), ledger.next()), (Some(body(2, 2, false)), None));
        assert_eq!(ledger.told_bytes(), 0);
        assert_eq!(ledger.begin(1, Arc::default()), Ok(3), "its place is free");
        assert!(
            !ledger.tell(1, body(1, 3, true)) && ledger.tell(3, body(1, 3, false)),
            "a late task speaks for itself"
        );
    }

    #[test]
    fn an_operation_is_read_ahead_up_to_a_bound_and_keeps_its_place_until_it_is_taken() {
        let mut ledger = ledger();
        assert_eq!(ledger.begin(1, Arc::default()), Err(Refused::Known));
        let mut told = 0;
        while has_room(&mut ledger, 1) {
            ledger.tell(1, body(1, 0, false));
            told += 1;
        }
        let charge = body(1, 0, false).charge();
        assert_eq!(told, AHEAD_BYTES_MAX / charge, "empty parts count too");
        ledger.taken(1, charge);
        assert!(has_room(&mut ledger, 1));
        let last = body(1, 9, true);
        let rest = (told - 1) * charge;
        ledger.tell(1, last.clone());
        ledger.begin(2, Arc::default()).unwrap();
        assert_eq!((ledger.begin(3, Arc::default()), ledger.open_operations()), (Err(Refused::Many), 1));
        ledger.taken(1, rest);
        assert_eq!(ledger.begin(3, Arc::default()), Err(Refused::Many));
        ledger.taken(1, last.charge());
        assert_eq!(ledger.begin(3, Arc::default()), Ok(3));
    }
    #[test]
    fn all_operations_together_have_a_bound_and_none_starves() {
        let mut ledger = Ledger::new(100);
        for id in 1..=40 {
            ledger.begin(id, Arc::default()).unwrap();
            while has_room(&mut ledger, id) {
                ledger.tell(u64::from(id), body(id, 30_000, false));
            }
        }
        let (bound, step) = (JOB_AHEAD_BYTES_MAX, 31_000 + AHEAD_BYTES_MAX);
        assert!((bound..bound + 10 * step).contains(&ledger.ahead), "{}", ledger.ahead);
        ledger.begin(41, Arc::default()).unwrap();
        assert!(has_room(&mut ledger, 41) && !has_room(&mut ledger, 40));
        (1..=20).for_each(|id| ledger.cancel(id));
        assert!(has_room(&mut ledger, 40));
        while let Some(event) = ledger.next() {
            ledger.taken(event.id(), event.charge());
        }
        assert_eq!(ledger.ahead, 0);
    }
}
