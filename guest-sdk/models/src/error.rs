//! Why a model gave no answer.

use std::fmt;
use std::time::Duration;

use wasm_worker_sdk::types::Failure;

/// Codes and types of errors that are the same the next time, in the words of OpenAI and of those who follow it.
const FINAL: [&str; 9] = [
    "authentication_error",
    "content_filter",
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_api_key",
    "invalid_request_error",
    "model_not_found",
    "not_found_error",
    "permission_error",
];

/// Why a model gave no answer, or not all of one.
#[derive(Clone, Debug)]
pub enum ChatError {
    /// The exchange failed, with the contract's code.
    Http(Failure),
    /// The server answered with an error.
    Status {
        /// The status of HTTP.
        status: u16,
        /// The server's code or type of the error; empty: none.
        code: String,
        /// What it says, or the beginning of the page that it sent.
        message: String,
        /// The pause that it asks for.
        retry_after: Option<Duration>,
    },
    /// The server told an error in the middle of an answer.
    Told {
        /// The server's code or type of the error; empty: none.
        code: String,
        /// What it says.
        message: String,
    },
    /// The answer stopped before its end. It has neither a reason nor a mark of the end.
    Cut,
    /// The answer did not come in time.
    Timeout(Limit),
    /// The answer is not what the protocol says.
    Invalid(String),
    /// The answer is larger than a bound, which the text names.
    TooLarge(String),
    /// The model called tools in more rounds than it may.
    Rounds(u32),
    /// No model of a [`Fallback`](crate::Fallback) answered. The names of the models and their errors, in order.
    AllFailed(Vec<(String, ChatError)>),
}

/// A limit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Until the first token.
    FirstToken,
    /// Between two tokens.
    BetweenTokens,
    /// The whole answer.
    Whole,
}

impl ChatError {
    /// Whether the same request may succeed later.
    ///
    /// ```
    /// use wasm_worker_models::{ChatError, Limit};
    /// assert!(ChatError::Timeout(Limit::FirstToken).may_pass());
    /// ```
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Http(failure) => failure.may_pass(),
            Self::Status { status, code, .. } => status_may_pass(*status) && code_may_pass(code),
            Self::Told { code, .. } => code_may_pass(code),
            Self::Timeout(limit) => *limit != Limit::Whole,
            Self::Cut | Self::Invalid(_) => true,
            Self::TooLarge(_) | Self::Rounds(_) => false,
            Self::AllFailed(errors) => errors.iter().any(|(_, error)| error.may_pass()),
        }
    }

    /// The pause that the server asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// OpenAI's own clients ask again after the same ones.
fn status_may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..)
}

fn code_may_pass(code: &str) -> bool {
    code.parse().map_or_else(|_| !FINAL.contains(&code), status_may_pass)
}

impl From<Failure> for ChatError {
    fn from(failure: Failure) -> Self {
        Self::Http(failure)
    }
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Http(failure) => write!(f, "{failure}"),
            Self::Status { status, message, .. } => write!(f, "the model's server answered {status}: {message}"),
            Self::Told { message, .. } => write!(f, "the model's server failed: {message}"),
            Self::Cut => f.write_str("the model's answer stopped before its end"),
            Self::Timeout(Limit::FirstToken) => f.write_str("the model did not begin to answer in time"),
            Self::Timeout(Limit::BetweenTokens) => f.write_str("the model stopped in the middle of its answer"),
            Self::Timeout(Limit::Whole) => f.write_str("the model did not end its answer in time"),
            Self::Invalid(why) => write!(f, "the model's server does not keep to the protocol: {why}"),
            Self::TooLarge(what) => write!(f, "the model's answer is too large: {what}"),
            Self::Rounds(rounds) => write!(f, "the model called tools after {rounds} rounds, which is all it may"),
            Self::AllFailed(errors) => {
                f.write_str("no model answered")?;
                errors.iter().try_for_each(|(name, error)| write!(f, "; {name}: {error}"))
            }
        }
    }
}

impl std::error::Error for ChatError {}
