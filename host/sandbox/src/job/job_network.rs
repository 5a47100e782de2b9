//! The network of a job: its calls of HTTP and of sockets, and what follows from them.
//!
//! It is opened by the first call, so that a job without one costs nothing.
//!
//! Bounds: while the inbox is full, events wait in the network, which bounds them. Each advance takes [`EVENTS_AT_ONCE`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasm_worker_core::network::command::Command;
use wasm_worker_core::network::connection::{NetworkConnection, NetworkNumbers, NetworkOpener};
use wasm_worker_core::network::event::NetworkEvent;
use wasm_worker_core::network::traffic::NetworkUse;

use super::deliveries::Deliveries;
use super::network_calls::{charge_of, event_of};
use super::world::JobAccess;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::events::{id_of, is_last};
use crate::guest::kill::Kill;

/// Most events that one advance takes: as many as one step is given.
const EVENTS_AT_ONCE: usize = 64;
/// The status of a socket whose job is over: going away.
const GOING_AWAY: u16 = 1_001;

const NOT_GRANTED: &str = "the agent may use no host of the network: the operator allows one with `--allow-host HOST`, or with \
                           `allow-host = [\"HOST\"]` in its table of the settings";

/// The network of one job that has used it.
pub(super) struct JobNetwork {
    connection: Box<dyn NetworkConnection>,
    numbers: Arc<dyn NetworkNumbers>,
    /// What the agent has begun, and what it does not know to be over.
    operations: BTreeMap<u32, Operation>,
    /// Charges of what the last step was given.
    taken: Vec<(u32, usize)>,
    deliveries: Deliveries,
    is_finished: bool,
}

/// What the agent has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// A request whose body is being written.
    Upload,
    /// A request that is complete.
    Request,
    /// A request whose answer has begun.
    Answer,
    Socket,
}

impl JobNetwork {
    /// The network of a job.
    pub(super) fn open(opener: &dyn NetworkOpener) -> Self {
        let connection = opener.open();
        Self {
            numbers: connection.numbers(),
            connection,
            operations: BTreeMap::new(),
            taken: Vec::new(),
            deliveries: Deliveries::default(),
            is_finished: false,
        }
    }

    /// A call fails, because its agent was granted nothing.
    pub(super) fn refuse(command: &Command, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if command.begins() { job.fail(command.id(), "not-allowed", NOT_GRANTED) } else { Ok(()) }
    }

    /// Have the network do something.
    pub(super) fn perform(&mut self, command: Command) {
        let id = command.id();
        let begun = match &command {
            Command::Send { .. } => Some(Operation::Request),
            Command::Open { .. } => Some(Operation::Upload),
            Command::Connect { .. } => Some(Operation::Socket),
            _ => None,
        };
        self.operations.extend(begun.map(|operation| (id, operation)));
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if matches!((&command, &operation), (Command::End { .. }, Operation::Upload)) {
            *operation = Operation::Request;
        }
        self.connection.perform(command);
    }

    /// Whether the agent does not know this operation to be over.
    pub(super) fn knows(&self, id: u32) -> bool {
        self.operations.contains_key(&id)
    }

    /// The agent gives an operation up.
    pub(super) fn cancel(&mut self, id: u32, job: &mut JobAccess<'_>) {
        if self.operations.remove(&id).is_some() {
            self.deliveries.forget(id, job);
            self.connection.perform(Command::Cancel { id });
        }
    }

    /// Keep back what comes for an operation, or let it come again.
    pub(super) fn hold(&mut self, id: u32, held: bool) {
        self.deliveries.hold(id, held);
    }

    /// The next step is given this event.
    pub(super) fn is_given(&mut self, event: &Event) {
        let id = id_of(event);
        if !self.knows(id) {
            return;
        }
        // Of the last event too: until then the operation keeps its place in the network.
        self.taken.push((id, charge_of(event)));
        if is_last(event) {
            self.operations.remove(&id);
        }
    }

    /// Ready once something happened that [`Self::advance`] has not seen.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // What waited for the inbox has it once the job waits.
        if self.deliveries.is_late() { Poll::Ready(()) } else { self.connection.poll_ready(context) }
    }

    /// Give the agent what has come.
    pub(super) fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        for (id, charge) in std::mem::take(&mut self.taken) {
            self.connection.perform(Command::Taken { id, charge });
        }
        for _ in 0..EVENTS_AT_ONCE {
            if !self.deliveries.flush(job)? {
                break;
            }
            let Some(event) = self.connection.try_next() else { break };
            self.take(event, job)?;
        }
        self.deliveries.flush(job).map(drop)
    }

    fn take(&mut self, event: NetworkEvent, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let id = event.id();
        let Some(operation) = self.operations.get_mut(&id) else { return Ok(()) };
        if matches!(event, NetworkEvent::Head { .. }) {
            *operation = Operation::Answer;
        }
        if !self.is_finished {
            return self.deliveries.put(event_of(event), job);
        }
        if event.is_last() || *operation == Operation::Answer {
            self.cancel(id, job);
        }
        Ok(())
    }

    /// The agent has finished: requests that are complete reach their servers, sockets are closed, and all else is given up.
    pub(super) fn finish(&mut self, job: &mut JobAccess<'_>) {
        self.is_finished = true;
        self.deliveries.clear(job);
        for (id, operation) in self.operations.clone() {
            match operation {
                Operation::Request => {}
                Operation::Socket => {
                    self.connection.perform(Command::Close { id, code: GOING_AWAY, reason: String::new() });
                }
                Operation::Upload | Operation::Answer => self.cancel(id, job),
            }
        }
    }

    /// Whether something may come from here.
    pub(super) fn is_any_open(&self) -> bool {
        !self.operations.is_empty()
    }

    /// Bytes that wait in the network, in both directions.
    pub(super) fn bytes_waiting(&self) -> usize {
        self.numbers.bytes_waiting()
    }

    /// The use so far.
    pub(super) fn used(&self) -> NetworkUse {
        self.numbers.traffic()
    }
}
