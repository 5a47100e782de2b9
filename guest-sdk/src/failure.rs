//! The failures of the contract as errors.

use std::fmt;

use crate::types::{Failure, RpcError};

/// Writes the code and the message, such as `not-joined: the agent is in no room`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        join(f, &self.code, &self.message)
    }
}

impl std::error::Error for Failure {}

/// The codes of failures that are the same the next time.
const FINAL: [&str; 6] = ["not-allowed", "not-joined", "not-supported", "too-large", "invalid", "limit"];

impl Failure {
    /// Whether the same call may succeed later. A host that is not allowed stays so.
    ///
    /// ```no_run
    /// # async fn example(request: wasm_worker_sdk::http::Request) {
    /// if request.send().await.is_err_and(|failure| failure.may_pass()) {
    ///     log::warn!("the server is away");
    /// }
    /// # }
    /// ```
    pub fn may_pass(&self) -> bool {
        !FINAL.contains(&self.code.as_str())
    }
}

impl RpcError {
    /// Code of an error that the method itself returns.
    pub const APPLICATION_ERROR: u32 = 1500;
    /// Code of a method that the other side does not know.
    pub const UNSUPPORTED_METHOD: u32 = 1400;
    /// Code of a call that could not be sent.
    pub const SEND_FAILED: u32 = 1505;

    /// An error with a code and a message. An application's own codes begin at 0 and end before 1001; LiveKit's codes
    /// follow.
    ///
    /// ```no_run
    /// let error = wasm_worker_sdk::types::RpcError::new(101, "the table is taken");
    /// ```
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: String::new() }
    }
}

/// Writes the message.
impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RpcError {}

fn join(f: &mut fmt::Formatter, code: &str, message: &str) -> fmt::Result {
    f.write_str(code)?;
    if message.is_empty() {
        return Ok(());
    }
    f.write_str(": ")?;
    f.write_str(message)
}
