//! An answer: its head, and its body in parts.

use std::time::Duration;

use super::retry;
use crate::types::{Failure, HttpHead};
use crate::{Event, Operation};

/// Number of bytes of a body that the text of an error shows.
const ERROR_BYTES_MAX: usize = 1 << 10;

/// The answer to a request. Dropping it gives up what has not been read.
///
/// The server is made to wait while the agent does not read.
#[derive(Debug)]
pub struct Response {
    operation: Operation,
    head: HttpHead,
}

impl Response {
    /// Waits for the head.
    pub(super) async fn wait(mut operation: Operation) -> Result<Self, Failure> {
        while let Some(event) = operation.next().await {
            match event {
                Event::HttpHead(head) => return Ok(Self { operation, head }),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Err(unanswered())
    }

    pub(super) fn new(operation: Operation, head: HttpHead) -> Self {
        Self { operation, head }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The address that answered, after redirects.
    pub fn url(&self) -> &str {
        &self.head.url
    }

    /// The headers, in the order in which they came.
    pub fn headers(&self) -> &[(String, String)] {
        &self.head.headers
    }

    /// The first header with this name, in any case of letters.
    ///
    /// ```no_run
    /// # fn example(answer: wasm_worker_sdk::http::Response) {
    /// let kind = answer.header("content-type").unwrap_or("unknown");
    /// # }
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The pause that the server asks for before the next request, by `Retry-After`.
    ///
    /// ```no_run
    /// # fn example(answer: wasm_worker_sdk::http::Response) {
    /// if let Some(pause) = answer.retry_after() {
    ///     log::warn!("the server is busy for {pause:?}");
    /// }
    /// # }
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        retry::asked(self.header("retry-after-ms"), self.header("retry-after"))
    }

    /// The next part of the body; `None` at its end. Where the parts are cut means nothing.
    ///
    /// ```no_run
    /// # async fn example(mut answer: wasm_worker_sdk::http::Response) -> wasm_worker_sdk::Result {
    /// while let Some(part) = answer.chunk().await? {
    ///     log::info!("{} bytes", part.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure where the body stops before its end.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        while let Some(event) = self.operation.next().await {
            match event {
                Event::HttpBody(body) if !body.bytes.is_empty() => return Ok(Some(body.bytes)),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The whole body, of at most `bytes_max`.
    ///
    /// ```no_run
    /// # async fn example(answer: wasm_worker_sdk::http::Response) -> wasm_worker_sdk::Result {
    /// let picture = answer.bytes(4 << 20).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `too-large` for a larger body; the contract's failure where the body stops before its end.
    pub async fn bytes(mut self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(part) = self.chunk().await? {
            if bytes.len() + part.len() > bytes_max {
                let message = format!("the answer has more than {bytes_max} bytes");
                return Err(self.failure("too-large", message));
            }
            bytes.extend(part);
        }
        Ok(bytes)
    }

    /// The whole body as a text, of at most `bytes_max`. What is not UTF-8 becomes U+FFFD.
    ///
    /// ```no_run
    /// # async fn example(answer: wasm_worker_sdk::http::Response) -> wasm_worker_sdk::Result {
    /// let page = answer.text(64 << 10).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes).
    pub async fn text(self, bytes_max: usize) -> Result<String, Failure> {
        let bytes = self.bytes(bytes_max).await?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The beginning of the body as a text: what there is of it up to `bytes_max`, also where it stops before its end.
    ///
    /// ```no_run
    /// # async fn example(mut answer: wasm_worker_sdk::http::Response) {
    /// log::warn!("{}: {}", answer.status(), answer.beginning(200).await);
    /// # }
    /// ```
    pub async fn beginning(&mut self, bytes_max: usize) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < bytes_max {
            let Ok(Some(part)) = self.chunk().await else { break };
            bytes.extend(part);
        }
        bytes.truncate(bytes_max);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes an answer with a status from 400 on an error, with the code `status` and the beginning of the body.
    ///
    /// ```no_run
    /// # async fn example() -> wasm_worker_sdk::Result {
    /// # use wasm_worker_sdk::http::Request;
    /// let page = Request::get("https://example.com/").send().await?.error_for_status().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The code `status`, with the status.
    pub async fn error_for_status(mut self) -> Result<Self, Failure> {
        if self.status() < 400 {
            return Ok(self);
        }
        let beginning = self.beginning(ERROR_BYTES_MAX).await;
        let message = format!("{} answered {}: {}", self.url(), self.status(), beginning.trim());
        Err(self.failure("status", message))
    }

    fn failure(&self, code: &str, message: String) -> Failure {
        Failure { id: self.operation.id(), code: code.into(), status: self.status(), message }
    }
}

/// The failure of a request whose events ended without a head.
pub(super) fn unanswered() -> Failure {
    let message = "nothing is sent in this phase of a job".into();
    Failure { id: 0, code: "not-supported".into(), status: 0, message }
}
