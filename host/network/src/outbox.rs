//! What an agent has written on one operation and is not sent yet.
//!
//! Bounds, by the contract: a further write while more than [`WAITING_BYTES_MAX`] waits is refused. The charge of a message is its bytes
//! and [`PART_CHARGE`]. All operations of a job together have [`JOB_WAITING_BYTES_MAX`].
//!
//! Where more than [`MUCH_BYTES`] were written since the agent was last told, it is told once less than half of that waits. So a writer
//! that counts what it writes in one step is told, although a part of that may be taken before the step's last write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Most bytes that may wait before a write.
pub(crate) const WAITING_BYTES_MAX: usize = 1 << 20;
/// Most bytes that may wait before a write, on all operations of a job.
pub(crate) const JOB_WAITING_BYTES_MAX: usize = 8 << 20;
/// Bytes beyond which the agent had better wait.
const MUCH_BYTES: usize = 64 << 10;
/// What a message costs beside its bytes.
const PART_CHARGE: usize = 64;
/// Parts of a body are put together up to this size.
const JOINED_BYTES_MAX: usize = 32 << 10;

/// One thing that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A part of a body. Cuts mean nothing.
    Body(Vec<u8>),
    Text(String),
    Binary(Vec<u8>),
}

impl Part {
    pub(crate) const fn bytes(&self) -> usize {
        match self {
            Self::Body(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }
}

/// How the writing ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Body,
    Close { code: u16, reason: String },
}

/// What is sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) next: Next,
    /// Whether the agent is to be told that it may write on.
    pub(crate) is_writable: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Part(Part),
    End(End),
    /// The operation is over.
    Closed,
}

/// Too much waits already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// On this operation.
    Operation,
    /// On all operations of the job.
    Job,
}

/// The queue of one operation.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Bytes that wait on all operations of the job.
    of_job: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    parts: VecDeque<Part>,
    bytes: usize,
    /// Bytes that were written since the agent was last told to write on.
    untold: usize,
    stage: Stage,
    taker: Option<Waker>,
}

/// Whether the agent may write.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The agent has come to its end, which is taken after the parts. What is written after it is dropped.
    Ended(Option<End>),
    /// The operation is over.
    Closed,
}

impl Outbox {
    /// The queue of an operation of the job with this sum.
    pub(crate) fn new(of_job: Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), of_job }
    }

    /// Add something.
    pub(crate) fn put(&self, part: Part) -> Result<(), Full> {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Ok(());
        }
        if state.bytes > WAITING_BYTES_MAX {
            return Err(Full::Operation);
        }
        if self.of_job.load(Ordering::Relaxed) > JOB_WAITING_BYTES_MAX {
            return Err(Full::Job);
        }
        let before = state.bytes;
        state.bytes += part.bytes();
        match (part, state.parts.back_mut()) {
            (Part::Body(more), Some(Part::Body(last))) if last.len() + more.len() <= JOINED_BYTES_MAX => {
                last.extend(more);
            }
            (Part::Body(empty), _) if empty.is_empty() => {}
            (part, _) => {
                state.bytes += PART_CHARGE;
                state.parts.push_back(part);
            }
        }
        let written = state.bytes - before;
        self.of_job.fetch_add(written, Ordering::Relaxed);
        state.untold += written;
        wake(state);
        Ok(())
    }

    /// End the writing.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Ended(Some(end));
        }
        wake(state);
    }

    /// The operation is over: drop what waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        self.of_job.fetch_sub(state.bytes, Ordering::Relaxed);
        (state.stage, state.parts, state.bytes) = (Stage::Closed, VecDeque::new(), 0);
        wake(state);
    }

    /// Take what is sent next. Nothing comes after the end.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Sent> {
        let mut state = self.lock();
        if state.stage == Stage::Closed {
            return Poll::Ready(Sent { next: Next::Closed, is_writable: false });
        }
        let Some(part) = state.parts.pop_front() else {
            if let Stage::Ended(end) = &mut state.stage
                && let Some(end) = end.take()
            {
                return Poll::Ready(Sent { next: Next::End(end), is_writable: false });
            }
            state.taker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let charge = part.bytes() + PART_CHARGE;
        state.bytes -= charge;
        self.of_job.fetch_sub(charge, Ordering::Relaxed);
        let is_writable = state.untold > MUCH_BYTES && state.bytes < MUCH_BYTES / 2 && state.stage == Stage::Open;
        if is_writable {
            state.untold = 0;
        }
        Poll::Ready(Sent { next: Next::Part(part), is_writable })
    }

    /// Whether everything is taken, and the agent may write more.
    pub(crate) fn waits_for_agent(&self) -> bool {
        let state = self.lock();
        state.parts.is_empty() && state.stage == Stage::Open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wake the taker, without the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let taker = state.taker.take();
    drop(state);
    if let Some(taker) = taker {
        taker.wake();
    }
}

/// Closes an outbox with the task of its operation, however that ends.
pub(crate) struct ClosesOutbox(pub(crate) Arc<Outbox>);

impl Drop for ClosesOutbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(outbox: &Outbox) -> Option<Sent> {
        match outbox.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(sent) => Some(sent),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_write_is_taken_whole_and_the_next_waits_or_is_too_much() {
        let outbox = Outbox::default();
        outbox.put(Part::Body(vec![1; 3 << 20])).unwrap();
        assert_eq!(outbox.put(Part::Body(vec![2])), Err(Full::Operation));
        let sent = take(&outbox).unwrap();
        assert!(sent.is_writable && sent.next == Next::Part(Part::Body(vec![1; 3 << 20])));
        assert!(outbox.waits_for_agent());
        outbox.put(Part::Body(vec![2])).unwrap();
        outbox.end(End::Body);
        outbox.put(Part::Body(vec![3])).unwrap();
        assert_eq!(take(&outbox).unwrap().next, Next::Part(Part::Body(vec![2])));
        assert_eq!(take(&outbox).unwrap().next, Next::End(End::Body));
        assert_eq!((take(&outbox), outbox.waits_for_agent()), (None, false));
        outbox.close();
        assert_eq!(take(&outbox).unwrap().next, Next::Closed);
    }

    #[test]
    fn the_operations_of_a_job_share_a_bound() {
        let sum = Arc::new(AtomicUsize::new(0));
        let outboxes: Vec<Outbox> = (0..12).map(|_| Outbox::new(sum.clone())).collect();
        let put: Vec<_> = outboxes.iter().map(|outbox| outbox.put(Part::Binary(vec![0; 1 << 20]))).collect();
        assert_eq!(put.iter().filter(|put| **put == Err(Full::Job)).count(), 4);
        assert!(take(&outboxes[0]).is_some());
        outboxes[1..].iter().for_each(Outbox::close);
        assert_eq!((outboxes[11].put(Part::Text("x".into())), sum.load(Ordering::Relaxed)), (Ok(()), 0));
    }

    #[test]
    fn writable_comes_once_when_little_waits() {
        let outbox = Outbox::default();
        for _ in 0..5 {
            outbox.put(Part::Binary(vec![0; 20 << 10])).unwrap();
        }
        let told: Vec<bool> = std::iter::from_fn(|| take(&outbox)).map(|sent| sent.is_writable).collect();
        assert_eq!(told, [false, false, false, true, false]);
    }

    #[test]
    fn writer_of_much_is_told_also_where_some_is_taken_before_its_last_write() {
        let outbox = Outbox::default();
        let mut told = Vec::new();
        for _ in 0..4 {
            outbox.put(Part::Binary(vec![0; 40 << 10])).unwrap();
            told.push(take(&outbox).unwrap().is_writable);
        }
        assert_eq!(told, [false, true, false, true]);
    }

    #[test]
    fn small_parts_of_a_body_are_put_together_and_messages_are_not() {
        let outbox = Outbox::default();
        for _ in 0..3 {
            outbox.put(Part::Body(b"ab".to_vec())).unwrap();
        }
        outbox.put(Part::Text("x".into())).unwrap();
        outbox.put(Part::Text(String::new())).unwrap();
        let sent: Vec<Next> = std::iter::from_fn(|| take(&outbox)).map(|sent| sent.next).collect();
        let wanted = [Part::Body(b"ababab".to_vec()), Part::Text("x".into()), Part::Text(String::new())];
        assert_eq!(sent, wanted.map(Next::Part));
        // Empty messages are bounded too.
        let count = (0..).take_while(|_| outbox.put(Part::Text(String::new())).is_ok()).count();
        assert!(count <= WAITING_BYTES_MAX / PART_CHARGE + 2, "{count}");
    }
}
