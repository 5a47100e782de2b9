//! The rules by which the servers of a scenario answer, and the events of what they refuse.

use std::sync::Arc;

use crate::guest::bindings::wasm_worker::agent::events::{Event, Failure, RpcAnswer};
use crate::guest::contract::RpcError;

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

/// The failure of an id.
pub(super) fn failed(id: u32, code: &str, status: u16) -> Event {
    Event::Failed(Failure { id, code: code.into(), status, message: "by the scenario".into() })
}

/// The error that answers a call.
pub(super) fn rpc_error(id: u32, code: u32, message: &str) -> Event {
    let error = RpcError { code, message: message.into(), data: String::new() };
    Event::RpcAnswer(RpcAnswer { id, answer: Err(error) })
}
