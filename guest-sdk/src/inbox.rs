//! Waiting for events, requests to stop and participants, by any number of waiters at once.
//!
//! No event is stored here: events stay in the host's bounded queue until the reader asks for the next one. Requests to
//! stop and participants have their own pollables, so waiting for them consumes no event.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use crate::bindings::wasi::io::poll::Pollable;
use crate::bindings::wasm_worker::agent::inbox::{self, Receiver};
use crate::executor;
use crate::types::ShutdownRequest;

pub use crate::bindings::wasm_worker::agent::inbox::Event;

pub(crate) struct Inbox {
    receiver: Receiver,
    /// Whether the agent requested its own end. Known here before the host confirms it.
    stopping: Cell<bool>,
    /// Wakers of the waiters, by the waiter's number.
    waiting: RefCell<Vec<(u64, Waker)>>,
    next_number: Cell<u64>,
}

impl Inbox {
    pub(crate) fn open() -> Self {
        Self {
            receiver: inbox::open(),
            stopping: Cell::new(false),
            waiting: RefCell::default(),
            next_number: Cell::new(0),
        }
    }

    /// The next event, if one is queued.
    pub(crate) fn next(&self) -> Option<Event> {
        self.receiver.next(0)
    }

    /// Whether the end of the job was requested, by the agent or by the host.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get() || self.receiver.shutdown_requested().is_some()
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake_all();
    }

    /// Makes every waiter check its condition again.
    pub(crate) fn wake_all(&self) {
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(crate) async fn shutdown_requested(&self) -> ShutdownRequest {
        self.wait_until(|| self.receiver.subscribe_shutdown(), || self.receiver.shutdown_requested()).await
    }

    /// Waits until `check` returns a value. It runs again after every event and every [`wake_all`](Self::wake_all).
    pub(crate) async fn wait_for_event<T>(&self, check: impl FnMut() -> Option<T>) -> T {
        self.wait_until(|| self.receiver.subscribe(), check).await
    }

    /// Waits until `check` returns a value. It runs again whenever the pollable is ready.
    pub(crate) async fn wait_until<T>(
        &self,
        subscribe: impl Fn() -> Pollable,
        mut check: impl FnMut() -> Option<T>,
    ) -> T {
        if let Some(found) = check() {
            return found;
        }
        let number = self.next_number.replace(self.next_number.get() + 1);
        let slot = WaiterSlot { inbox: self, number };
        loop {
            let mut ready = pin!(executor::wait_for(subscribe()));
            let found = poll_fn(|cx| {
                if let Some(found) = check() {
                    return Poll::Ready(Some(found));
                }
                slot.set(cx.waker());
                ready.as_mut().poll(cx).map(|()| None)
            })
            .await;
            if let Some(found) = found {
                return found;
            }
        }
    }
}

/// A waiter's entry in the list that [`Inbox::wake_all`] wakes, removed on drop.
struct WaiterSlot<'a> {
    inbox: &'a Inbox,
    number: u64,
}

impl WaiterSlot<'_> {
    fn set(&self, waker: &Waker) {
        let mut waiting = self.inbox.waiting.borrow_mut();
        match waiting.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, kept)) if kept.will_wake(waker) => {}
            Some((_, kept)) => *kept = waker.clone(),
            None => waiting.push((self.number, waker.clone())),
        }
    }
}

impl Drop for WaiterSlot<'_> {
    fn drop(&mut self) {
        let mut waiting = self.inbox.waiting.borrow_mut();
        let index = waiting.iter().position(|(number, _)| *number == self.number);
        // Dropping a waker can drop another slot, so it is dropped after the borrow.
        let removed = index.map(|index| waiting.swap_remove(index));
        drop(waiting);
        drop(removed);
    }
}
