//! The bounds of answers.
//!
//! Bounds: an answer has at most [`ANSWER_BYTES_MAX`]. At most [`LISTS_AT_ONCE`] lists are made at the same time. Large answers that
//! are not sent yet take at most [`IN_FLIGHT_BYTES_MAX`] together.

use std::io;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::connections::held::hold;

/// Most bytes of an answer.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Most lists that are made at the same time. Further callers wait.
const LISTS_AT_ONCE: usize = 4;
/// Most bytes of all large answers that are not sent yet.
const IN_FLIGHT_BYTES_MAX: usize = 128 << 20;
/// Largest answer that is not counted, in bytes.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// The unit in which answers are counted, in bytes.
const UNIT_BYTES: u64 = 1 << 10;

/// The answer would be larger than [`ANSWER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer would have more than {ANSWER_BYTES_MAX} bytes; ask for less at a time")]
pub(crate) struct AnswerTooLong;

/// The answers that are not sent yet take as much memory as is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answers that other callers have not read yet take {IN_FLIGHT_BYTES_MAX} bytes; try again")]
pub(crate) struct AnswersFull;

/// The memory of answers.
pub(crate) struct Answers {
    lists: Semaphore,
    /// A permit for each [`UNIT_BYTES`].
    in_flight: Arc<Semaphore>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let units = IN_FLIGHT_BYTES_MAX / usize::try_from(UNIT_BYTES).unwrap_or(1);
        Self { lists: Semaphore::new(LISTS_AT_ONCE), in_flight: Arc::new(Semaphore::new(units)) }
    }

    /// Wait for the turn to make a list. The value is held until the answer is encoded.
    pub(crate) async fn list_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.lists.acquire().await.ok()
    }

    /// Count a body until it is sent. A body without a known length, such as a stream, is not counted.
    pub(crate) fn count(&self, body: Body) -> Result<Body, AnswersFull> {
        let Some(bytes) = body.size_hint().exact().filter(|bytes| *bytes > SMALL_BYTES_MAX) else { return Ok(body) };
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(|_| AnswersFull)?;
        let permit = self.in_flight.clone().try_acquire_many_owned(units).map_err(|_| AnswersFull)?;
        Ok(hold(body, permit))
    }
}

/// The JSON of an answer.
pub(crate) fn to_json<T: Serialize>(answer: &T) -> Result<Vec<u8>, AnswerTooLong> {
    let mut bounded = Bounded(Vec::new());
    // The types of answers have no keys that JSON cannot hold, so the bound is the only cause of an error.
    serde_json::to_writer(&mut bounded, answer).map_err(|_| AnswerTooLong)?;
    Ok(bounded.0)
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;

    use super::*;

    #[test]
    fn answer_is_bounded() {
        assert_eq!(to_json(&"x".repeat(ANSWER_BYTES_MAX - 2)).map(|json| json.len()), Ok(ANSWER_BYTES_MAX));
        assert_eq!(to_json(&"x".repeat(ANSWER_BYTES_MAX - 1)), Err(AnswerTooLong));
        // Control characters take six bytes each.
        assert_eq!(to_json(&"\u{1}".repeat(ANSWER_BYTES_MAX / 6 + 1)), Err(AnswerTooLong));
    }

    #[test]
    fn large_answers_in_flight_are_bounded_together() {
        let answers = Answers::new();
        let large = || answers.count(Body::from(vec![0; ANSWER_BYTES_MAX]));
        let mut held: Vec<Body> = (0..IN_FLIGHT_BYTES_MAX / ANSWER_BYTES_MAX).map(|_| large().unwrap()).collect();
        assert_eq!(large().err(), Some(AnswersFull));
        assert!(answers.count(Body::from("small")).is_ok());
        held.pop();
        assert!(large().is_ok(), "one is sent");
    }

    #[tokio::test]
    async fn answer_is_counted_until_its_last_part_is_taken() {
        let answers = Answers::new();
        let free = answers.in_flight.available_permits();
        let mut body = answers.count(Body::from(vec![7; 100 << 10])).unwrap();
        assert_eq!(body.size_hint().exact(), Some(100 << 10));
        let mut lengths = Vec::new();
        while !body.is_end_stream() {
            assert!(answers.in_flight.available_permits() < free);
            let part = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.unwrap().unwrap();
            lengths.push(part.into_data().unwrap().len());
        }
        assert_eq!(lengths, [32 << 10, 32 << 10, 32 << 10, 4 << 10]);
        assert_eq!(body.size_hint().exact(), Some(0));
        drop(body);
        assert_eq!(answers.in_flight.available_permits(), free);
    }
}
