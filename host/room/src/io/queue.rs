//! A queue between the task of a room and its handle, bounded in items and bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Why an item is not taken. It is given back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// The queue. One side puts, the other takes; either may close it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Wakes the taker.
    changed: Notify,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Items that were ever put.
    put: u64,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(items_max: usize, bytes_max: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, put: 0, is_closed: false };
        Self { state: Mutex::new(state), changed: Notify::new(), items_max, bytes_max }
    }

    /// Put an item of this size. An empty queue has space for one of any size.
    pub(super) fn try_put(&self, item: T, bytes: usize) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refused::Closed(item));
        }
        let is_full = state.items.len() >= self.items_max || state.bytes.saturating_add(bytes) > self.bytes_max;
        if is_full && !state.items.is_empty() {
            return Err(Refused::Full(item));
        }
        state.items.push_back((item, bytes));
        state.bytes = state.bytes.saturating_add(bytes);
        state.put += 1;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Take the next item, if there is one.
    pub(super) fn try_next(&self) -> Option<T> {
        let mut state = self.lock();
        let (item, bytes) = state.items.pop_front()?;
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.items.is_empty() {
            // A burst does not keep its memory.
            state.items.shrink_to(16);
        }
        Some(item)
    }

    /// Take the next item; none where the queue is closed and empty. Nothing is lost where this is dropped.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            if let Some(item) = self.try_next() {
                return Some(item);
            }
            if self.lock().is_closed {
                // Another taker may wait for the same.
                self.changed.notify_one();
                return None;
            }
            changed.await;
        }
    }

    /// Take no more items. Those that are there can be taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Items that were ever put.
    pub(super) fn put_count(&self) -> u64 {
        self.lock().put
    }

    /// Items and bytes that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.items.len(), state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!((queue.try_put(5, 0), queue.waiting()), (Err(Refused::Full(5)), (2, 10)));
        queue.close();
        assert_eq!(queue.try_put(6, 0), Err(Refused::Closed(6)));
        assert_eq!((queue.next().await, queue.next().await, queue.next().await), (Some(3), Some(4), None));
        assert_eq!(queue.put_count(), 3);
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
}
