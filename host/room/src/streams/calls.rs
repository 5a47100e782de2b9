//! Remote procedure calls of the agent. Pure.
//!
//! A call ends by the answer of the called participant, by its leaving (1503), by the time of the caller (1502), or where no receipt
//! comes within [`ROUND_TRIP_MAX`] (1501). What comes afterwards is ignored.
//!
//! Bounds: a call is an operation of the caller, which has at most 4,096 of them. Answers wait within the bounds of [`super::inbox`];
//! one that has no space there becomes 1504.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message;
use proto::data_packet::Value;
use tokio::time::Instant;

use super::deadlines::Due;
use super::inbox::EVENT_BYTES;
use super::limits::{CALLED_AT_LEAST, PAYLOAD_BYTES_MAX, ROUND_TRIP_MAX};
use super::operation::{Envelope, Kind};
use super::rpc::{Fault, VERSION, bounded};
use super::shared::{Refusal, Shared};
use crate::wire::PACKET_BYTES_MAX;
use wasm_worker_core::room::command::{OperationId, RpcError};
use wasm_worker_core::room::event::RoomEvent;

/// The calls that have not ended.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<OperationId, Call>,
    /// The calls by the ids of their requests.
    by_request: BTreeMap<String, OperationId>,
}

#[derive(Debug)]
struct Call {
    destination: String,
    request_id: String,
    until: Instant,
    receipt: Receipt,
}

/// Whether the called participant has the request.
#[derive(Clone, Copy, Debug)]
enum Receipt {
    /// The request waits to be sent.
    Unsent,
    /// A receipt should come until then.
    Awaited(Instant),
    /// It came.
    Here,
}

impl Calls {
    /// Call a method of a participant.
    pub(super) fn call(
        &mut self,
        shared: &mut Shared,
        id: OperationId,
        destination: String,
        method: String,
        payload: String,
        timeout: Duration,
    ) {
        if destination.is_empty() {
            return shared.fail(id, ("invalid", "a call has one destination"));
        }
        let request_id = shared.new_name("RPC");
        let given = timeout.saturating_sub(ROUND_TRIP_MAX).max(CALLED_AT_LEAST);
        let is_too_large = payload.len() > PAYLOAD_BYTES_MAX;
        let request = proto::RpcRequest {
            id: request_id.clone(),
            method,
            payload,
            response_timeout_ms: u32::try_from(given.as_millis()).unwrap_or(u32::MAX),
            version: VERSION,
            ..Default::default()
        };
        let packet = Envelope::to(&destination).packet(Value::RpcRequest(request));
        if is_too_large || packet.encoded_len() > PACKET_BYTES_MAX {
            let answer = Err(Fault::RequestTooLarge.error());
            return shared.inbox.tell(RoomEvent::RpcAnswer { id, answer });
        }
        let Some(until) = shared.now.checked_add(timeout) else {
            return shared.fail(id, ("invalid", "the time for the answer is too long"));
        };
        shared.outbox.begin(id, Kind::Call);
        shared.outbox.push_packet(id, packet, true);
        shared.deadlines.set(until, Due::Call(id));
        self.by_request.insert(request_id.clone(), id);
        self.open.insert(id, Call { destination, request_id, until, receipt: Receipt::Unsent });
    }

    /// The request of a call is on its way.
    pub(super) fn asked(&mut self, shared: &mut Shared, id: OperationId) {
        if let Some(call) = self.open.get_mut(&id) {
            let until = shared.now + ROUND_TRIP_MAX;
            shared.deadlines.set(until, Due::Receipt(id));
            call.receipt = Receipt::Awaited(until);
        }
    }

    /// A receipt arrived.
    pub(super) fn acknowledged(&mut self, shared: &mut Shared, sender: &str, ack: &proto::RpcAck) {
        let Some(id) = self.find(sender, &ack.request_id) else {
            shared.counts.ignored += 1;
            return;
        };
        if let Some(call) = self.open.get_mut(&id) {
            if let Receipt::Awaited(until) = call.receipt {
                shared.deadlines.clear(until, Due::Receipt(id));
            }
            call.receipt = Receipt::Here;
        }
    }

    /// An answer arrived.
    pub(super) fn answered(&mut self, shared: &mut Shared, sender: &str, response: proto::RpcResponse) {
        use proto::rpc_response::Value as Answer;
        let Some(id) = self.find(sender, &response.request_id) else {
            shared.counts.ignored += 1;
            return;
        };
        let answer = match response.value {
            Some(Answer::Payload(payload)) if payload.len() <= PAYLOAD_BYTES_MAX => Ok(payload),
            Some(Answer::Payload(_)) => Err(Fault::ResponseTooLarge.error()),
            Some(Answer::Error(proto::RpcError { code, message, data })) => {
                Err(bounded(RpcError { code, message, data }))
            }
            // Nobody asked for an answer in a form that this version does not read.
            Some(Answer::CompressedPayload(_)) | None => Err(Fault::UnsupportedVersion.error()),
        };
        let bytes = EVENT_BYTES
            + match &answer {
                Ok(payload) => payload.len(),
                Err(error) => error.message.len() + error.data.len(),
            };
        if !self.close(shared, id) {
            return;
        }
        if shared.inbox.try_reserve(bytes) {
            shared.inbox.tell_reserved(RoomEvent::RpcAnswer { id, answer }, bytes);
        } else {
            // Too much from outside waits to be taken.
            shared.inbox.tell(RoomEvent::RpcAnswer { id, answer: Err(Fault::ResponseTooLarge.error()) });
        }
    }

    /// The time for the receipt of a call is over.
    pub(super) fn unacknowledged(&mut self, shared: &mut Shared, id: OperationId) {
        self.end(shared, id, Fault::ConnectionTimeout);
    }

    /// The time of a call is over.
    pub(super) fn late(&mut self, shared: &mut Shared, id: OperationId) {
        self.end(shared, id, Fault::ResponseTimeout);
    }

    /// A participant left.
    pub(super) fn left(&mut self, shared: &mut Shared, identity: &str) {
        let called = self.open.iter().filter(|(_, call)| call.destination == identity).map(|(id, _)| *id);
        for id in called.collect::<Vec<_>>() {
            self.end(shared, id, Fault::RecipientDisconnected);
        }
    }

    /// The caller gives a call up. Whether it was one.
    pub(super) fn cancel(&mut self, shared: &mut Shared, id: OperationId) -> bool {
        self.close(shared, id)
    }

    /// The room is left: all calls fail.
    pub(super) fn fail_all(&mut self, shared: &mut Shared, refusal: Refusal) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            if self.close(shared, id) {
                shared.fail(id, refusal);
            }
        }
    }

    /// The number of calls.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.open.len(), self.by_request.len());
        self.open.len()
    }

    /// The call that this participant was asked for.
    fn find(&self, sender: &str, request_id: &str) -> Option<OperationId> {
        let id = *self.by_request.get(request_id)?;
        (self.open.get(&id)?.destination == sender).then_some(id)
    }

    /// End a call by an error of the protocol itself.
    fn end(&mut self, shared: &mut Shared, id: OperationId, fault: Fault) {
        if self.close(shared, id) {
            shared.inbox.tell(RoomEvent::RpcAnswer { id, answer: Err(fault.error()) });
        }
    }

    fn close(&mut self, shared: &mut Shared, id: OperationId) -> bool {
        let Some(call) = self.open.remove(&id) else { return false };
        self.by_request.remove(&call.request_id);
        shared.deadlines.clear(call.until, Due::Call(id));
        if let Receipt::Awaited(until) = call.receipt {
            shared.deadlines.clear(until, Due::Receipt(id));
        }
        // A request that still waits is not sent.
        shared.outbox.remove(id);
        true
    }
}
