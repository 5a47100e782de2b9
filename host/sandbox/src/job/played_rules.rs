//! The rules by which the servers of a scenario answer, and the events of what they refuse.

use std::sync::Arc;

use tokio::time::Instant;

use crate::guest::bindings::wasm_worker::agent::events::{Event, Failure, HttpBody, HttpHead, RpcAnswer};
use crate::guest::contract::RpcError;
use crate::scenario::script::{HttpOutcome, HttpRule};

/// Bytes of a body in one event.
pub(super) const PART_BYTES: usize = 64 << 10;

/// LiveKit's code for a call that nobody takes.
pub(super) const NO_RECIPIENT: u32 = 1_401;
/// LiveKit's code for a call that nobody answers in time.
pub(super) const NO_ANSWER: u32 = 1_502;

/// A rule.
pub(super) struct Rule<T> {
    rule: Arc<T>,
    /// Uses that are left; none for any number.
    left: Option<u32>,
}

impl<T> Rule<T> {
    /// A rule that may be used so often.
    pub(super) fn new(left: Option<u32>, rule: Arc<T>) -> Self {
        Self { rule, left }
    }
}

/// The newest rule that fits, which is used once more.
pub(super) fn newest<T>(rules: &mut [Rule<T>], fits: impl Fn(&T) -> bool) -> Option<Arc<T>> {
    let found = rules.iter_mut().rev().find(|rule| rule.left != Some(0) && fits(&rule.rule))?;
    found.left = found.left.map(|left| left.saturating_sub(1));
    Some(found.rule.clone())
}

/// The events of a request that a rule answers, with their times. The exchange is over at `until` at the latest.
pub(super) fn http_events(
    id: u32,
    rule: &HttpRule,
    url: String,
    until: Instant,
    now: Instant,
) -> Vec<(Instant, Event)> {
    let mut at = now + rule.after;
    let (status, headers, parts, every) = match &rule.outcome {
        _ if at > until => return vec![(until, failed(id, "timeout", 0))],
        HttpOutcome::Fail(code) => return vec![(at, failed(id, code, 0))],
        HttpOutcome::Answer { status, headers, parts, every } => (*status, headers.clone(), parts, *every),
    };
    let mut events = vec![(at, Event::HttpHead(HttpHead { id, status, url, headers }))];
    for part in parts {
        for bytes in part.as_bytes().chunks(PART_BYTES) {
            if at > until {
                events.push((until, failed(id, "timeout", 0)));
                return events;
            }
            events.push((at, Event::HttpBody(HttpBody { id, bytes: bytes.to_vec(), last: false })));
        }
        at += every;
    }
    events.push((at.min(until), Event::HttpBody(HttpBody { id, bytes: Vec::new(), last: true })));
    events
}

/// The failure of an id.
pub(super) fn failed(id: u32, code: &str, status: u16) -> Event {
    Event::Failed(Failure { id, code: code.into(), status, message: "by the scenario".into() })
}

/// The error that answers a call.
pub(super) fn rpc_error(id: u32, code: u32, message: &str) -> Event {
    let error = RpcError { code, message: message.into(), data: String::new() };
    Event::RpcAnswer(RpcAnswer { id, answer: Err(error) })
}
