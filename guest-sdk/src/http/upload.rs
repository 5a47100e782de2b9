//! A request whose body is written in parts.

use super::Response;
use super::response::unanswered;
use crate::pacing::{self, Pacing};
use crate::types::{Failure, HttpHead};
use crate::{Event, Operation, calls};

/// A request whose body is written in parts: see [`Request::open`](super::Request::open). Dropping it gives the request
/// up.
#[derive(Debug)]
pub struct Upload {
    operation: Operation,
    pacing: Pacing,
    /// The head of an answer that came before the end of the body.
    head: Option<HttpHead>,
}

impl Upload {
    pub(super) fn new(operation: Operation) -> Self {
        Self { operation, pacing: Pacing::default(), head: None }
    }

    /// Sends a part. Waits first where much of the body is not sent yet, so no part is lost.
    ///
    /// Returns `false`, and sends nothing, where the server answers already. [`end`](Self::end) then gives its answer.
    ///
    /// ```no_run
    /// # async fn example(mut upload: wasm_worker_sdk::http::Upload) -> wasm_worker_sdk::Result {
    /// upload.write(b"a part").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure where the request failed.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        while self.head.is_none() {
            let event = match self.operation.try_next() {
                None if !self.pacing.is_full() => break,
                None => self.operation.next().await.ok_or_else(unanswered)?,
                Some(event) => event,
            };
            match event {
                Event::Writable(_) => self.pacing.note_writable(),
                Event::HttpHead(head) => self.head = Some(head),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        if self.head.is_some() {
            return Ok(false);
        }
        pacing::spread_calls().await;
        calls::http::write(self.operation.id(), bytes);
        self.pacing.count(bytes.len());
        Ok(true)
    }

    /// Ends the body, and waits for the head of the answer.
    ///
    /// ```no_run
    /// # async fn example(upload: wasm_worker_sdk::http::Upload) -> wasm_worker_sdk::Result {
    /// let answer = upload.end().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure where there is no answer.
    pub async fn end(self) -> Result<Response, Failure> {
        calls::http::end(self.operation.id());
        match self.head {
            Some(head) => Ok(Response::new(self.operation, head)),
            None => Response::wait(self.operation).await,
        }
    }
}
