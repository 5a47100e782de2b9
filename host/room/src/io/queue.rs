//! A queue between the task of a room and its handle, bounded in items and bytes. The last item that it takes may be beyond its bytes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Why an item is not taken. It is given back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// The queue. One side puts, the other takes, from one place at a time; either may close it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Items that were ever taken.
    taken: u64,
    is_closed: bool,
    /// Wakes the taker that waits.
    taker: Option<Waker>,
    /// Wakes the one who waits for space.
    putter: Option<Waker>,
}

impl<T> Queue<T> {
    pub(super) fn new(items_max: usize, bytes_max: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, taken: 0, is_closed: false, taker: None, putter: None };
        Self { state: Mutex::new(state), items_max, bytes_max }
    }

    /// Put an item of this size.
    pub(super) fn try_put(&self, item: T, bytes: usize) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refused::Closed(item));
        }
        if self.is_full(&state) {
            return Err(Refused::Full(item));
        }
        state.items.push_back((item, bytes));
        state.bytes = state.bytes.saturating_add(bytes);
        wake(state);
        Ok(())
    }

    /// Whether an item would be taken, or given back because nobody takes any.
    pub(super) fn has_space(&self) -> bool {
        let state = self.lock();
        state.is_closed || !self.is_full(&state)
    }

    /// Wait until [`Self::has_space`]. Nothing is lost where this is dropped.
    pub(super) async fn space(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.is_closed || !self.is_full(&state) {
                return Poll::Ready(());
            }
            keep(&mut state.putter, context);
            Poll::Pending
        })
        .await;
    }

    fn is_full(&self, state: &State<T>) -> bool {
        state.items.len() >= self.items_max || state.bytes >= self.bytes_max
    }

    /// Put an item that must be taken, beyond the bounds, and take no more.
    pub(super) fn put_last(&self, item: T) {
        let mut state = self.lock();
        if !state.is_closed {
            state.items.push_back((item, 0));
            state.is_closed = true;
        }
        wake(state);
    }

    /// Take the next item, if there is one.
    pub(super) fn try_next(&self) -> Option<T> {
        let mut state = self.lock();
        let (item, bytes) = state.items.pop_front()?;
        state.bytes = state.bytes.saturating_sub(bytes);
        state.taken += 1;
        if state.items.is_empty() {
            // A burst does not keep its memory.
            state.items.shrink_to(16);
        }
        if !self.is_full(&state)
            && let Some(putter) = state.putter.take()
        {
            drop(state);
            putter.wake();
        }
        Some(item)
    }

    /// Take the next item; none where the queue is closed and empty. Nothing is lost where this is dropped.
    pub(super) async fn next(&self) -> Option<T> {
        poll_fn(|context| self.poll_ready(context)).await;
        self.try_next()
    }

    /// Ready once there is an item, or the queue is closed.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.items.is_empty() || state.is_closed {
            return Poll::Ready(());
        }
        keep(&mut state.taker, context);
        Poll::Pending
    }

    /// Wait until the queue takes no more items, whether some are there or not. Nothing is lost where this is dropped.
    pub(super) async fn closed(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.is_closed {
                return Poll::Ready(());
            }
            keep(&mut state.taker, context);
            Poll::Pending
        })
        .await;
    }

    /// Take no more items. Those that are there can be taken.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        wake(state);
    }

    /// Whether it is closed and empty.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.is_closed && state.items.is_empty()
    }

    /// Items that were ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wake those who wait for what was put, or for the end, without the lock.
fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let putter = if state.is_closed { state.putter.take() } else { None };
    let taker = state.taker.take();
    drop(state);
    taker.into_iter().chain(putter).for_each(Waker::wake);
}

fn keep(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_come_in_order_within_the_bounds_until_the_end() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.try_put(1, 50), Ok(()));
        assert_eq!(queue.try_put(2, 1), Err(Refused::Full(2)));
        assert_eq!(queue.try_next(), Some(1));
        assert_eq!((queue.try_put(3, 5), queue.try_put(4, 5)), (Ok(()), Ok(())));
        assert_eq!((queue.try_put(5, 0), queue.has_space()), (Err(Refused::Full(5)), false));
        queue.close();
        assert_eq!(queue.try_put(6, 0), Err(Refused::Closed(6)));
        assert_eq!((queue.next().await, queue.next().await, queue.next().await), (Some(3), Some(4), None));
        assert_eq!((queue.taken(), queue.has_space()), (3, true));
    }

    #[tokio::test]
    async fn a_taker_that_waits_is_woken_by_an_item_and_by_the_end() {
        let queue = Queue::new(2, 10);
        let taking = async { (queue.next().await, queue.next().await) };
        let putting = async {
            tokio::task::yield_now().await;
            queue.try_put("a", 1).unwrap();
            tokio::task::yield_now().await;
            queue.close();
        };
        assert_eq!(tokio::join!(taking, putting).0, (Some("a"), None));
    }

    #[tokio::test]
    async fn who_waits_for_space_or_the_end_is_woken_by_them_alone() {
        let queue = Queue::new(1, 10);
        queue.try_put("a", 1).unwrap();
        let putting = async {
            queue.space().await;
            queue.try_put("b", 1).unwrap();
            queue.space().await;
            queue.try_put("c", 1)
        };
        let taking = async {
            tokio::task::yield_now().await;
            assert_eq!(queue.try_next(), Some("a"));
            tokio::task::yield_now().await;
            queue.close();
        };
        assert_eq!(tokio::join!(putting, taking).0, Err(Refused::Closed("c")));

        let queue = Queue::new(9, 10);
        let waiting = async {
            queue.closed().await;
            queue.taken()
        };
        let closing = async {
            queue.try_put("a", 1).unwrap();
            tokio::task::yield_now().await;
            queue.close();
        };
        assert_eq!(tokio::join!(waiting, closing).0, 0, "what is there is not taken");
        assert_eq!(queue.try_next(), Some("a"));
    }

    #[tokio::test]
    async fn the_last_item_has_its_place_beyond_the_bounds() {
        let queue = Queue::new(2, 1_000);
        queue.try_put(1, 1).unwrap();
        queue.try_put(2, 1).unwrap();
        assert!(queue.try_put(3, 1).is_err());
        queue.put_last(4);
        assert_eq!((queue.next().await, queue.next().await), (Some(1), Some(2)));
        assert_eq!((queue.next().await, queue.next().await), (Some(4), None));
    }
}
