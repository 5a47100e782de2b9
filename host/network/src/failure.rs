//! Failures of operations, by the codes of [`Failure`]. Each message is one line for people.

use std::error::Error;

use wasm_worker_core::network::event::Failure;
use wasm_worker_core::text::clip;

/// A failure in the place of an error, so that it passes through `hyper`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct Fault(pub(crate) Failure);

/// A failure without an answer.
pub(crate) fn failure(code: &'static str, message: impl AsRef<str>) -> Failure {
    Failure { code, status: 0, message: clip(message.as_ref()) }
}

/// The request is none.
pub(crate) fn invalid(message: impl AsRef<str>) -> Failure {
    failure("invalid", message)
}

/// The rules refuse it.
pub(crate) fn not_allowed(message: impl AsRef<str>) -> Failure {
    failure("not-allowed", message)
}

/// The first failure among an error and its causes.
pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Fault(failure)) = error.downcast_ref() {
            return Some(failure);
        }
        next = error.source();
    }
    None
}
