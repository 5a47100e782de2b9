//! The two data channels of a room: texts, files, data packets, transcriptions and remote procedure calls. Pure; `now` is an
//! argument.
//!
//! # Use
//!
//! - [`Streams::perform`] takes what the agent asks for, and [`Streams::received`] what a channel brings.
//! - After each input, and at [`Streams::wake_at`] after [`Streams::advance`], [`Streams::next_event`] and [`Streams::next_packet`]
//!   are taken until there is none.
//! - Packets are taken only while the channels are open. The shell tells by [`Streams::drained`] how many bytes of the reliable
//!   channel the server has not acknowledged (str0m: `Channel::buffered_amount`). Only then an operation is over, and only then more
//!   is handed over: `limits::WINDOW_BYTES` at a time.
//!
//! # What is promised
//!
//! - What is sent on the reliable channel arrives once, whole and in order; or the sender is told that it failed. `Done` means that
//!   the server's transport has it: only a server that ends without having read it loses it unnoticed. After a resume the packets
//!   that the server did not read are sent again. After a join anew, what had begun to be sent fails as `interrupted`, and what
//!   waited is sent.
//! - What arrives is delivered once and in order, or its loss is told. A text that does not arrive whole is not delivered whole.
//! - Nothing grows beyond the bounds of `limits`, whatever arrives.

mod limits;

mod deadlines;
mod heard;
mod inbox;
mod receipts;
mod sent;
mod unicode;

mod operation;

mod outbox;

mod shared;

mod header;
mod rpc;

mod held;
mod parts;

mod calls;
mod incoming;
mod outgoing;
mod requests;

mod commands;

use livekit_protocol as proto;
use proto::data_packet::Value;
use tokio::time::Instant;

use crate::wire::{Channel, some};
use calls::Calls;
use deadlines::Due;
use heard::{Heard, Origin};
use incoming::Incoming;
use limits::SENDER_NAME_BYTES_MAX;
use operation::{Effect, Envelope};
use outbox::Handed;
use outgoing::Outgoing;
use requests::Requests;
pub(crate) use shared::Counts;
use shared::{Refusal, Shared};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::id::IncomingId;

/// Topic and attribute by which version 2 of remote procedure calls asks, which this room does not offer.
const RPC_STREAM: &str = "lk.rpc_request";
const RPC_STREAM_ID: &str = "lk.rpc_request_id";

const NOT_JOINED: Refusal = ("not-joined", "the agent is not in a room");
const INTERRUPTED: Refusal = ("interrupted", "the room was joined anew while it was being sent");

/// The data channels of one room.
pub(crate) struct Streams {
    shared: Shared,
    presence: Presence,
    heard: Heard,
    outgoing: Outgoing,
    incoming: Incoming,
    calls: Calls,
    requests: Requests,
}

/// Whether there is a room to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// There is none: sends fail.
    Outside,
    /// The agent is in it, or joins it: sends wait until packets are taken.
    Inside,
}

impl Streams {
    /// The channels of a room that is not joined. `name` is part of the names of all streams and calls, and differs from that of every
    /// other room and attempt; `now_ms` is `now` in milliseconds since 1970.
    pub(crate) fn new(name: String, now: Instant, now_ms: u64) -> Self {
        Self {
            shared: Shared::new(name, now, now_ms),
            presence: Presence::Outside,
            heard: Heard::default(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            calls: Calls::default(),
            requests: Requests::default(),
        }
    }

    /// A join is under way: sends wait for it from now on.
    pub(crate) fn joining(&mut self) {
        self.presence = Presence::Inside;
    }

    /// The agent is in the room under this identity.
    pub(crate) fn joined(&mut self, identity: &str) {
        self.presence = Presence::Inside;
        identity.clone_into(&mut self.outgoing.identity);
    }

    /// The session goes on after a lost connection, and the server has read the reliable packets up to this sequence. The others are
    /// taken again.
    pub(crate) fn resumed(&mut self, last_sequence_heard: u32, now: Instant) {
        self.shared.now = now;
        let resumed = self.shared.outbox.sent.resumed(last_sequence_heard, now);
        self.shared.counts.missing += u64::from(resumed.missing);
        self.shared.end(resumed.ended);
    }

    /// The room was joined anew: a new session, whose sequences begin at 1. What was being sent fails, and what was being received ends.
    /// Calls and requests go on, because they are addressed by identity.
    pub(crate) fn rejoined(&mut self, now: Instant) {
        self.shared.now = now;
        let over = self.shared.outbox.rejoined();
        self.outgoing.forget(&over);
        over.into_iter().for_each(|id| self.shared.fail(id, INTERRUPTED));
        self.incoming.break_all(&mut self.shared, "the room was joined anew");
    }

    /// The room is left or lost for good: everything ends, and sends fail. The deliveries that the agent chose are kept.
    pub(crate) fn left(&mut self, now: Instant) {
        self.shared.now = now;
        self.presence = Presence::Outside;
        // The calls first: they take their operations with them.
        self.calls.fail_all(&mut self.shared, NOT_JOINED);
        for id in self.shared.outbox.clear() {
            self.shared.fail(id, NOT_JOINED);
        }
        self.requests.fail_all(&mut self.shared, NOT_JOINED);
        self.incoming.break_all(&mut self.shared, "the room is left");
        (self.heard, self.outgoing) = (Heard::default(), Outgoing::default());
    }

    /// A participant left. The one of a new `sid` with the same identity is another.
    pub(crate) fn participant_left(&mut self, sid: &str, identity: &str, now: Instant) {
        self.shared.now = now;
        self.incoming.left(&mut self.shared, sid);
        self.requests.left(&mut self.shared, sid);
        self.calls.left(&mut self.shared, identity);
        self.heard.left(sid);
    }

    /// The reliable channel holds so many bytes that the server has not acknowledged.
    pub(crate) fn drained(&mut self, unacknowledged_bytes: usize, now: Instant) {
        self.shared.now = now;
        let ended = self.shared.outbox.sent.drained(unacknowledged_bytes, now);
        self.shared.end(ended);
    }

    /// The number of the newest event.
    pub(crate) const fn newest_event(&self) -> u64 {
        self.shared.inbox.newest()
    }

    /// Whether an event waits whose number is not above this one.
    pub(crate) fn has_event_until(&self, number: u64) -> bool {
        self.shared.inbox.has_until(number)
    }

    /// The next event, if there is one.
    pub(crate) fn next_event(&mut self) -> Option<RoomEvent> {
        self.shared.inbox.take()
    }

    /// The next packet for a channel, if there is one. It is sent at once.
    pub(crate) fn next_packet(&mut self) -> Option<(Channel, proto::DataPacket)> {
        let Some(Handed { channel, packet, effect }) = self.shared.outbox.next() else {
            return self.hastening_packet();
        };
        match effect {
            Some(Effect::Writable(id)) => self.shared.inbox.tell(RoomEvent::Writable(id)),
            Some(Effect::Asked(id)) => self.calls.asked(&mut self.shared, id),
            None => {}
        }
        Some((channel, packet))
    }

    /// A packet to oneself, which the server forwards to nobody. A receiver acknowledges each second packet at once, and one that stays
    /// alone after 200 ms (RFC 9260, section 6.2): this is the second one, so that what was sent is told as done at once.
    fn hastening_packet(&mut self) -> Option<(Channel, proto::DataPacket)> {
        let identity = &self.outgoing.identity;
        if identity.is_empty() || !self.shared.outbox.sent.hasten() {
            return None;
        }
        let packet = Envelope::to(identity).packet(Value::User(proto::UserPacket::default()));
        Some((Channel::Lossy, packet))
    }

    /// The reliable channel had no room for the last packet of [`Self::next_packet`], which is taken again.
    pub(crate) fn refused(&mut self) {
        self.shared.outbox.sent.refused();
    }

    /// The next time at which something happens by itself.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        [self.shared.deadlines.first(), self.shared.outbox.sent.forget_at()].into_iter().flatten().min()
    }

    /// Have everything happen that is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.shared.now = now;
        while let Some(due) = self.shared.deadlines.pop(now) {
            match due {
                Due::Receipt(id) => self.calls.unacknowledged(&mut self.shared, id),
                Due::Call(id) => self.calls.late(&mut self.shared, id),
                Due::Request(id) => self.requests.late(&mut self.shared, id),
                Due::Stream(id) => self.incoming.due(&mut self.shared, id),
            }
        }
        self.shared.outbox.forget(now);
    }

    /// Whether the server has everything that was sent.
    pub(crate) fn is_delivered(&self) -> bool {
        self.shared.outbox.is_delivered()
    }

    /// The publishers that were heard, by their sids, and the last sequence of each: for the resume.
    pub(crate) fn heard(&self) -> impl Iterator<Item = (&str, u32)> {
        self.heard.all()
    }

    /// Bytes that wait, in both directions.
    pub(crate) const fn bytes(&self) -> usize {
        self.shared.inbox.bytes() + self.shared.outbox.bytes()
    }

    /// The id of something else that begins outside: ids are unique in a room. None after four thousand million.
    pub(crate) fn new_incoming(&mut self) -> Option<IncomingId> {
        self.shared.new_incoming()
    }

    /// Packets that nobody was told of.
    pub(crate) const fn counts(&self) -> Counts {
        self.shared.counts
    }

    /// A packet arrived on a channel.
    pub(crate) fn received(&mut self, packet: proto::DataPacket, is_reliable: bool, now: Instant) {
        self.shared.now = now;
        let proto::DataPacket { participant_identity: sender, participant_sid: sid, sequence, value, .. } = packet;
        if sender.len() > SENDER_NAME_BYTES_MAX || sid.len() > SENDER_NAME_BYTES_MAX {
            self.shared.counts.ignored += 1;
            return;
        }
        if is_reliable && !self.heard.is_new(&sid, sequence) {
            self.shared.counts.repeats += 1;
            return;
        }
        let Some(value) = value else {
            self.shared.counts.ignored += 1;
            return;
        };
        match value {
            Value::User(user) => self.data(sender, user, is_reliable),
            Value::SipDtmf(proto::SipDtmf { code, digit }) => {
                let carried = sender.len() + digit.len();
                if !self.shared.inbox.try_tell(RoomEvent::Dtmf { sender: some(sender), code, digit }, carried) {
                    self.shared.inbox.lose("dtmf", None);
                }
            }
            Value::StreamHeader(header) if header.topic == RPC_STREAM => {
                let request_id = header.attributes.get(RPC_STREAM_ID).cloned().unwrap_or_default();
                Requests::refuse_stream(&mut self.shared, sender, request_id);
            }
            Value::StreamHeader(header) => {
                let from = Origin { has_left: self.heard.has_left(&sid), sid, sender: some(sender) };
                self.incoming.begun(&mut self.shared, from, header);
            }
            Value::StreamChunk(chunk) => self.incoming.chunk(&mut self.shared, sid, chunk),
            Value::StreamTrailer(trailer) => self.incoming.ended(&mut self.shared, sid, trailer),
            Value::RpcRequest(request) => self.requests.received(&mut self.shared, sid, sender, request),
            Value::RpcAck(ack) => self.calls.acknowledged(&mut self.shared, &sender, &ack),
            Value::RpcResponse(response) => self.calls.answered(&mut self.shared, &sender, response),
            // The old forms of transcriptions and chat are sent beside the streams; the rest is not for agents.
            _ => self.shared.counts.ignored += 1,
        }
    }

    fn data(&mut self, sender: String, user: proto::UserPacket, reliable: bool) {
        let (topic, payload) = (user.topic.unwrap_or_default(), user.payload);
        let carried = sender.len() + topic.len() + payload.len();
        let event = RoomEvent::Data { sender: some(sender), topic, payload, reliable };
        if !reliable {
            self.shared.inbox.tell_lossy(event, carried);
        } else if !self.shared.inbox.try_tell(event, carried) {
            self.shared.inbox.lose("data", None);
        }
    }
}

#[cfg(test)]
mod tests;
