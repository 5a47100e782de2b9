//! What all parts of the streams share: events, packets, deadlines, names and the time. Pure.

use livekit_protocol as proto;
use tokio::time::Instant;

use super::deadlines::Deadlines;
use super::inbox::Inbox;
use super::outbox::{Outbox, Reply};
use wasm_worker_core::room::command::{IncomingId, OperationId};
use wasm_worker_core::room::event::{Failure, RoomEvent};

/// Packets that nobody was told of, for the metrics of the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets that arrived again.
    pub(crate) repeats: u64,
    /// Packets that mean nothing to an agent, or whose stream or call is not known.
    pub(crate) ignored: u64,
    /// Lossy packets of the agent that were dropped, because newer ones waited.
    pub(crate) lossy_dropped: u64,
    /// Receipts, refusals and answers that were dropped, because too many waited.
    pub(crate) replies_dropped: u64,
    /// Packets that the server asked for after a resume, and that were not kept any more.
    pub(crate) missing: u64,
}

/// Why an operation fails: a code of the contract, and the reason for people.
pub(super) type Refusal = (&'static str, &'static str);

/// What all parts share.
pub(super) struct Shared {
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) deadlines: Deadlines,
    pub(super) counts: Counts,
    /// The time, as it was last told.
    pub(super) now: Instant,
    /// A time, and what it is in milliseconds since 1970.
    epoch: (Instant, u64),
    /// Part of every name that is made here. It differs from those of all other rooms.
    name: String,
    /// The number of names that were made.
    names: u64,
    /// The number of ids that were given to what began outside.
    begun_outside: u32,
}

impl Shared {
    pub(super) fn new(name: String, now: Instant, now_ms: u64) -> Self {
        Self {
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            deadlines: Deadlines::default(),
            counts: Counts::default(),
            now,
            epoch: (now, now_ms),
            name,
            names: 0,
            begun_outside: 0,
        }
    }

    /// A name that nobody else makes.
    pub(super) fn new_name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}_{}_{}", self.name, self.names)
    }

    /// The id of what begins outside. None after four thousand million.
    pub(super) fn new_incoming(&mut self) -> Option<IncomingId> {
        self.begun_outside = self.begun_outside.checked_add(1)?;
        Some(IncomingId(self.begun_outside))
    }

    /// The time in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        let (then, then_ms) = self.epoch;
        let passed = u64::try_from(self.now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX);
        i64::try_from(then_ms.saturating_add(passed)).unwrap_or(i64::MAX)
    }

    /// An operation failed and is over.
    pub(super) fn fail(&mut self, id: OperationId, (code, message): Refusal) {
        self.inbox.tell(RoomEvent::Failed(Failure { id, code, message: message.into() }));
    }

    /// Operations succeeded and are over.
    pub(super) fn end(&mut self, ids: Vec<OperationId>) {
        for id in ids {
            if self.outbox.end(id) {
                self.inbox.tell(RoomEvent::Done(id));
            }
        }
    }

    /// Send a packet for others.
    pub(super) fn reply(&mut self, packet: proto::DataPacket, reply: Reply) {
        if !self.outbox.push_reply(packet, reply) {
            self.counts.replies_dropped += 1;
        }
    }
}
