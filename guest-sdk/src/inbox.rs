//! Waiting for news, by any number of waiters at once.
//!
//! Nothing is kept here: events stay in the host's queue, within its bounds, until the one who reads them asks for the next.
//! A request to stop and the participants have pollables of their own, so that waiting for those takes no event away.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use wasip2::io::poll::Pollable;

use crate::bindings::wasm_worker::agent::inbox::{self, Receiver};
use crate::executor;
use crate::types::ShutdownRequest;

pub use crate::bindings::wasm_worker::agent::inbox::Event;

pub(crate) struct Inbox {
    receiver: Receiver,
    /// The agent has asked for its own end, and need not wait for the host to say so.
    stopping: Cell<bool>,
    /// Waiters, each with a number of its own.
    waiting: RefCell<Vec<(u64, Waker)>>,
    numbers: Cell<u64>,
}

impl Inbox {
    pub(crate) fn open() -> Self {
        Self { receiver: inbox::open(), stopping: Cell::new(false), waiting: RefCell::default(), numbers: Cell::new(0) }
    }

    /// The next event, if there is one.
    pub(crate) fn next(&self) -> Option<Event> {
        self.receiver.next(0)
    }

    /// The end has been asked for, by whomever.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get() || self.receiver.shutdown_requested().is_some()
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake_all();
    }

    /// Have every waiter look again.
    pub(crate) fn wake_all(&self) {
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(crate) async fn shutdown_requested(&self) -> ShutdownRequest {
        self.wait_until(|| self.receiver.subscribe_shutdown(), || self.receiver.shutdown_requested()).await
    }

    /// Wait for an event, or for [`wake_all`](Self::wake_all), until `check` finds what it looks for.
    pub(crate) async fn wait_for_event<T>(&self, check: impl FnMut() -> Option<T>) -> T {
        self.wait_until(|| self.receiver.subscribe(), check).await
    }

    /// Wait until `check` finds what it looks for; it is asked again whenever the pollable is ready.
    pub(crate) async fn wait_until<T>(
        &self,
        subscribe: impl Fn() -> Pollable,
        mut check: impl FnMut() -> Option<T>,
    ) -> T {
        if let Some(found) = check() {
            return found;
        }
        let number = self.numbers.replace(self.numbers.get() + 1);
        let place = Place { inbox: self, number };
        loop {
            let mut news = pin!(executor::wait_for(subscribe()));
            let found = poll_fn(|cx| {
                if let Some(found) = check() {
                    return Poll::Ready(Some(found));
                }
                place.take(cx.waker());
                news.as_mut().poll(cx).map(|()| None)
            })
            .await;
            if let Some(found) = found {
                return found;
            }
        }
    }
}

/// One waiter's place among those that [`Inbox::wake_all`] wakes; given up by dropping it.
struct Place<'a> {
    inbox: &'a Inbox,
    number: u64,
}

impl Place<'_> {
    fn take(&self, waker: &Waker) {
        let mut waiting = self.inbox.waiting.borrow_mut();
        match waiting.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, kept)) if kept.will_wake(waker) => {}
            Some((_, kept)) => *kept = waker.clone(),
            None => waiting.push((self.number, waker.clone())),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.inbox.waiting.borrow_mut();
        let place = waiting.iter().position(|(number, _)| *number == self.number);
        // The waker may own what drops another place, so it goes after the borrow.
        let left = place.map(|at| waiting.swap_remove(at));
        drop(waiting);
        drop(left);
    }
}
