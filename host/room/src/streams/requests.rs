//! Remote procedure calls by participants. Pure.
//!
//! Each request is acknowledged at once, and answered once: by the agent, or by 1502 when its time is over. What is over a bound is
//! answered by 1500, and `Lost` tells it. A repeat is acknowledged and not delivered.
//!
//! Bounds: [`SENDER_REQUESTS_MAX`] requests of a participant and [`REQUESTS_MAX`] in all wait for an answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use livekit_protocol as proto;
use tokio::time::Instant;

use super::deadlines::Due;
use super::limits::{
    ENDED_REQUESTS_MAX, PAYLOAD_BYTES_MAX, REQUEST_ID_BYTES_MAX, REQUEST_WITHIN, REQUEST_WITHIN_MAX, REQUESTS_MAX,
    SENDER_REQUESTS_MAX,
};
use super::outbox::Reply;
use super::rpc::{self, Fault};
use super::shared::{Refusal, Shared};
use crate::wire::some;
use wasm_worker_core::room::command::{IncomingId, RpcError};
use wasm_worker_core::room::event::RoomEvent;

/// The name of a request in the contract's `lost`.
const WHAT: &str = "rpc-request";

/// The requests that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<IncomingId, Request>,
    /// The open requests of each caller.
    by_caller: BTreeMap<Key, IncomingId>,
    /// Requests that ended, the oldest first.
    ended: VecDeque<Key>,
}

/// A caller's identity, and the id that it gave its request.
type Key = (String, String);

#[derive(Debug)]
struct Request {
    key: Key,
    /// The sid of the caller.
    sid: String,
    until: Instant,
}

impl Requests {
    /// A request arrived.
    pub(super) fn received(&mut self, shared: &mut Shared, sid: String, caller: String, request: proto::RpcRequest) {
        let proto::RpcRequest { id: request_id, method, payload, response_timeout_ms, version, compressed_payload } =
            request;
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            return shared.inbox.lose(WHAT, None);
        }
        shared.reply(rpc::receipt(&caller, request_id.clone()), Reply::Receipt);
        let key = (caller, request_id);
        if self.by_caller.contains_key(&key) || self.ended.contains(&key) {
            shared.counts.repeats += 1;
            return;
        }
        let fault = if version != rpc::VERSION || !compressed_payload.is_empty() {
            Some(Fault::UnsupportedVersion)
        } else if payload.len() > PAYLOAD_BYTES_MAX {
            Some(Fault::RequestTooLarge)
        } else {
            None
        };
        if let Some(fault) = fault {
            return Self::refuse(shared, key, fault);
        }
        let timeout = match response_timeout_ms {
            0 => REQUEST_WITHIN,
            told => Duration::from_millis(told.into()).min(REQUEST_WITHIN_MAX),
        };
        if !self.try_open(shared, &key, sid, method, payload, timeout) {
            shared.inbox.lose(WHAT, None);
            Self::refuse(shared, key, Fault::Application);
        }
    }

    /// Deliver a request. Whether there was room for it.
    fn try_open(
        &mut self,
        shared: &mut Shared,
        key: &Key,
        sid: String,
        method: String,
        payload: String,
        timeout: Duration,
    ) -> bool {
        let of_caller =
            self.by_caller.range((key.0.clone(), String::new())..).take_while(|(other, _)| other.0 == key.0);
        if self.open.len() >= REQUESTS_MAX || of_caller.count() >= SENDER_REQUESTS_MAX {
            return false;
        }
        let Some(id) = shared.new_incoming() else { return false };
        let caller = some(key.0.clone());
        let carried = key.0.len() + method.len() + payload.len();
        if !shared.inbox.try_tell(RoomEvent::RpcRequest { id, caller, method, payload, timeout }, carried) {
            return false;
        }
        let until = shared.now + timeout;
        shared.deadlines.set(until, Due::Request(id));
        self.by_caller.insert(key.clone(), id);
        self.open.insert(id, Request { key: key.clone(), sid, until });
        true
    }

    /// Refuse a request that asks for a form that was not offered: a text stream.
    pub(super) fn refuse_stream(shared: &mut Shared, caller: String, request_id: String) {
        if request_id.len() <= REQUEST_ID_BYTES_MAX {
            shared.reply(rpc::receipt(&caller, request_id.clone()), Reply::Receipt);
            Self::refuse(shared, (caller, request_id), Fault::UnsupportedVersion);
        }
    }

    fn refuse(shared: &mut Shared, (caller, request_id): Key, fault: Fault) {
        shared.reply(rpc::answer(&caller, request_id, Err(fault.error())), Reply::Receipt);
    }

    /// The agent answers a request.
    pub(super) fn answer(&mut self, shared: &mut Shared, id: IncomingId, answer: Result<String, RpcError>) {
        if let Some((caller, request_id)) = self.close(shared, id) {
            shared.reply(rpc::answer(&caller, request_id, answer), Reply::Answer);
        }
    }

    /// The agent gives a request up. Whether it was one.
    pub(super) fn cancel(&mut self, shared: &mut Shared, id: IncomingId) -> bool {
        let is_open = self.open.contains_key(&id);
        self.answer(shared, id, Err(Fault::Application.error()));
        is_open
    }

    /// The time of a request is over.
    pub(super) fn late(&mut self, shared: &mut Shared, id: IncomingId) {
        if let Some((caller, request_id)) = self.close(shared, id) {
            shared.reply(rpc::answer(&caller, request_id, Err(Fault::ResponseTimeout.error())), Reply::Receipt);
            let message = "the time of the caller is over".into();
            shared.inbox.tell(RoomEvent::RpcRequestFailed { id, code: "timeout", message });
        }
    }

    /// A participant left.
    pub(super) fn left(&mut self, shared: &mut Shared, sid: &str) {
        let asked = self.open.iter().filter(|(_, request)| request.sid == sid).map(|(id, _)| *id);
        for id in asked.collect::<Vec<_>>() {
            self.fail(shared, id, ("interrupted", "the caller left"));
        }
    }

    /// The room is left: all requests fail.
    pub(super) fn fail_all(&mut self, shared: &mut Shared, refusal: Refusal) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            self.fail(shared, id, refusal);
        }
        self.ended.clear();
    }

    /// The number of requests.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.open.len(), self.by_caller.len());
        assert!(self.ended.len() <= ENDED_REQUESTS_MAX);
        self.open.len()
    }

    fn fail(&mut self, shared: &mut Shared, id: IncomingId, (code, message): Refusal) {
        if self.close(shared, id).is_some() {
            shared.inbox.tell(RoomEvent::RpcRequestFailed { id, code, message: message.into() });
        }
    }

    fn close(&mut self, shared: &mut Shared, id: IncomingId) -> Option<Key> {
        let Request { key, until, .. } = self.open.remove(&id)?;
        shared.deadlines.clear(until, Due::Request(id));
        self.by_caller.remove(&key);
        if self.ended.len() == ENDED_REQUESTS_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(key.clone());
        Some(key)
    }
}
