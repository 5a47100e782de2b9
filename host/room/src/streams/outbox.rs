//! Packets that wait for a data channel. Pure.
//!
//! The reliable channel keeps the order of the calls. A content is cut into chunks only when they are handed over. An operation
//! that is over leaves its pieces in the queue; they are skipped, and swept once they are the larger part.
//!
//! Bounds: the callers of [`Outbox`] ask [`Outbox::has_room`] before they add to an operation. Receipts, answers and lossy data
//! have bounds of their own.

use std::collections::{BTreeMap, VecDeque};

use livekit_protocol as proto;
use prost::Message;
use proto::data_packet::Value;
use tokio::time::Instant;

use super::limits::{ANSWER_BYTES_MAX, LOSSY_UNSENT_BYTES_MAX, QUEUE_BYTES_MAX, RECEIPT_BYTES_MAX};
use super::operation::{After, Effect, Kind, Operation, Piece, Waiting};
use super::sent::Sent;
use crate::wire::Channel;
use wasm_worker_core::room::command::OperationId;

/// Pieces of operations that are over, below which the queue is not swept, unless they are large.
const SWEEP_AT_LEAST: usize = 64;
/// Their bytes, above which it is.
const STALE_BYTES_MAX: usize = 256 << 10;

/// What waits, and the operations it belongs to.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What waits for the reliable channel, in order.
    waiting: VecDeque<Waiting>,
    /// Bytes of operations: those in `waiting`, and what they keep until their end.
    bytes: usize,
    /// Bytes of answers, receipts and refusals in `waiting`.
    reply_bytes: usize,
    /// Pieces in `waiting` whose operation is over.
    stale: usize,
    /// Their bytes.
    stale_bytes: usize,
    operations: BTreeMap<OperationId, Operation>,
    /// What waits for the lossy channel.
    lossy: VecDeque<proto::DataPacket>,
    lossy_bytes: usize,
    /// Whether the lossy channel is next: the channels take turns.
    is_lossy_next: bool,
    /// What has been handed over.
    pub(super) sent: Sent,
}

/// What is sent for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The agent's answer, or the end of something that receivers know.
    Answer,
    /// A receipt or a refusal.
    Receipt,
}

/// A packet that has been handed over, and what follows from it.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) channel: Channel,
    pub(super) packet: proto::DataPacket,
    pub(super) effect: Option<Effect>,
}

impl Outbox {
    /// Whether the operations together have room for another call.
    pub(super) const fn has_room(&self) -> bool {
        self.bytes <= QUEUE_BYTES_MAX
    }

    /// Begin an operation.
    pub(super) fn begin(&mut self, id: OperationId, kind: Kind) {
        let operation = Operation::new(kind);
        self.bytes += operation.kept_bytes;
        self.operations.insert(id, operation);
    }

    /// An operation keeps so many bytes more until its end.
    pub(super) fn keep(&mut self, id: OperationId, bytes: usize) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.kept_bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// An operation that is not over.
    pub(super) fn operation(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.operations.get_mut(&id)
    }

    /// Add a packet of an operation.
    pub(super) fn push_packet(&mut self, id: OperationId, packet: proto::DataPacket, is_last: bool) {
        self.push(id, Waiting::packet(Some(id), packet, is_last));
    }

    /// Add to the content of a stream.
    pub(super) fn push_content(&mut self, id: OperationId, mut content: Vec<u8>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.written += content.len();
        // Small writes that wait together are sent together: cuts mean nothing.
        if let Some(Waiting { id: last, bytes, piece: Piece::Content { content: before, at } }) =
            self.waiting.back_mut()
            && *last == Some(id)
        {
            let added = content.len();
            if *at > before.len() / 2 {
                before.drain(..std::mem::take(at));
            }
            before.append(&mut content);
            *bytes += added;
            operation.bytes += added;
            self.bytes += added;
        } else if !content.is_empty() {
            self.push(id, Waiting::content(id, content));
        }
    }

    fn push(&mut self, id: OperationId, waiting: Waiting) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.pieces += 1;
        operation.bytes += waiting.bytes;
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
    }

    /// Add a packet that is sent for others. Whether there was room for it.
    pub(super) fn push_reply(&mut self, packet: proto::DataPacket, reply: Reply) -> bool {
        let waiting = Waiting::packet(None, packet, true);
        let limit = match reply {
            Reply::Answer => ANSWER_BYTES_MAX,
            Reply::Receipt => RECEIPT_BYTES_MAX,
        };
        let fits = self.reply_bytes + waiting.bytes <= limit;
        if fits {
            self.reply_bytes += waiting.bytes;
            self.waiting.push_back(waiting);
        }
        fits
    }

    /// Add a packet for the lossy channel. Returns how many older ones were dropped for it.
    pub(super) fn push_lossy(&mut self, packet: proto::DataPacket) -> u64 {
        self.lossy_bytes += lossy_bytes(&packet);
        self.lossy.push_back(packet);
        let mut dropped = 0;
        while self.lossy_bytes > LOSSY_UNSENT_BYTES_MAX
            && let Some(oldest) = self.lossy.pop_front()
        {
            self.lossy_bytes -= lossy_bytes(&oldest);
            dropped += 1;
        }
        dropped
    }

    /// End an operation: what waits of it is not sent.
    pub(super) fn remove(&mut self, id: OperationId) -> Option<Operation> {
        let operation = self.operations.remove(&id)?;
        self.stale += operation.pieces;
        self.stale_bytes += operation.bytes;
        self.bytes -= operation.bytes + operation.kept_bytes;
        let are_many = self.stale > SWEEP_AT_LEAST && self.stale > self.waiting.len() / 2;
        if are_many || self.stale_bytes > STALE_BYTES_MAX {
            let Self { waiting, operations, .. } = self;
            waiting.retain(|waiting| waiting.id.is_none_or(|id| operations.contains_key(&id)));
            (self.stale, self.stale_bytes) = (0, 0);
        }
        Some(operation)
    }

    /// The next packet, if a channel has room for one.
    pub(super) fn next(&mut self) -> Option<Handed> {
        if self.is_lossy_next || !self.sent.has_room() {
            self.is_lossy_next = false;
            if let Some(handed) = self.next_lossy() {
                return Some(handed);
            }
        }
        let handed = if self.sent.has_room() { self.next_reliable() } else { None };
        self.is_lossy_next = handed.is_some();
        handed.or_else(|| self.next_lossy())
    }

    fn next_lossy(&mut self) -> Option<Handed> {
        let packet = self.lossy.pop_front()?;
        self.lossy_bytes -= lossy_bytes(&packet);
        Some(Handed { channel: Channel::Lossy, packet, effect: None })
    }

    fn next_reliable(&mut self) -> Option<Handed> {
        let channel = Channel::Reliable;
        while self.sent.has_again() {
            if let Some(packet) = self.sent.next_again() {
                return Some(Handed { channel, packet, effect: None });
            }
        }
        loop {
            let first = self.waiting.front_mut()?;
            let Some(id) = first.id else {
                let Waiting { bytes, piece, .. } = self.waiting.pop_front()?;
                self.reply_bytes -= bytes;
                let Piece::Packet { packet, .. } = piece else { continue };
                let packet = self.sent.hand_over(*packet, None);
                return Some(Handed { channel, packet, effect: None });
            };
            let Some(operation) = self.operations.get_mut(&id) else {
                self.stale -= 1;
                self.stale_bytes -= first.bytes;
                self.waiting.pop_front();
                continue;
            };
            operation.has_begun = true;
            let taken = operation.take(first);
            operation.bytes -= taken.freed;
            self.bytes -= taken.freed;
            let effect = operation.effect(id);
            if taken.after != After::Rest {
                operation.pieces -= 1;
                self.waiting.pop_front();
            }
            if matches!(effect, Some(Effect::Asked(_))) {
                self.operations.remove(&id);
            }
            let Some(packet) = taken.packet else { continue };
            let packet = self.sent.hand_over(packet, (taken.after == After::End).then_some(id));
            return Some(Handed { channel, packet, effect });
        }
    }

    /// The server has acknowledged the last packet of an operation. Whether it was not over before.
    pub(super) fn end(&mut self, id: OperationId) -> bool {
        let operation = self.operations.remove(&id);
        self.bytes -= operation.as_ref().map_or(0, |operation| operation.kept_bytes);
        operation.is_some()
    }

    /// A new session begins: returns the operations of which a part was sent in the old one, and which are over. What is sent for
    /// others and was not acknowledged waits again: a receiver ignores what it knows.
    pub(super) fn rejoined(&mut self) -> Vec<OperationId> {
        let begun = |(id, operation): (&OperationId, &Operation)| operation.has_begun.then_some(*id);
        let over: Vec<OperationId> = self.operations.iter().filter_map(begun).collect();
        over.iter().for_each(|id| {
            self.remove(*id);
        });
        self.lossy.clear();
        self.lossy_bytes = 0;
        for packet in self.sent.reset().into_iter().rev() {
            if matches!(packet.value, Some(Value::RpcAck(_) | Value::RpcResponse(_))) {
                let waiting = Waiting::packet(None, packet, true);
                self.reply_bytes += waiting.bytes;
                self.waiting.push_front(waiting);
            }
        }
        over
    }

    /// Nothing is sent any more. Returns the operations that are over by that.
    pub(super) fn clear(&mut self) -> Vec<OperationId> {
        let Self { operations, .. } = std::mem::take(self);
        operations.into_keys().collect()
    }

    /// Whether the server has everything that was sent.
    pub(super) fn is_delivered(&self) -> bool {
        self.waiting.len() == self.stale && self.lossy.is_empty() && self.sent.is_all_acknowledged()
    }

    /// Bytes that wait to be handed over.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes + self.stale_bytes + self.reply_bytes + self.lossy_bytes
    }

    /// Forget sent packets that need not be kept.
    pub(super) fn forget(&mut self, now: Instant) {
        self.sent.forget(now);
        if self.waiting.is_empty() {
            self.waiting.shrink_to_fit();
        }
    }
}

/// Memory of lossy data that waits, in bytes.
fn lossy_bytes(packet: &proto::DataPacket) -> usize {
    size_of::<proto::DataPacket>() + packet.encoded_len()
}
