//! The job's events, for any number of waiters at once.
//!
//! The host keeps one queue. Whoever waits here first moves what has come from there into `State`, and wakes the others,
//! because their own pollables fall silent the moment the host's queue is empty.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use wstd::runtime::AsyncPollable;

use crate::bindings::wasm_worker::agent::inbox::{self, Receiver};
use crate::types::ShutdownRequest;

pub use crate::bindings::wasm_worker::agent::inbox::Event;

pub(crate) struct Inbox {
    receiver: Receiver,
    state: RefCell<State>,
}

#[derive(Default)]
pub(crate) struct State {
    events: VecDeque<Event>,
    /// Kept apart from `events`, so that it is seen by those who do not read them.
    shutdown: Option<ShutdownRequest>,
    waiting: Vec<Waker>,
}

impl Inbox {
    pub(crate) fn open() -> Self {
        Self { receiver: inbox::open(), state: RefCell::default() }
    }

    pub(crate) async fn next(&self) -> Event {
        self.wait_until(|state| state.events.pop_front()).await
    }

    pub(crate) async fn shutdown_requested(&self) -> ShutdownRequest {
        self.wait_until(|state| state.shutdown.clone()).await
    }

    /// Wait until `check` finds what it looks for; it is asked again whenever something has come.
    pub(crate) async fn wait_until<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        if let Some(found) = self.take_in(&mut check) {
            return found;
        }
        let pollable = AsyncPollable::new(self.receiver.subscribe());
        loop {
            let mut arrival = pin!(pollable.wait_for());
            let found = poll_fn(|cx| {
                if let Some(found) = self.take_in(&mut check) {
                    return Poll::Ready(Some(found));
                }
                self.state.borrow_mut().waiting.push(cx.waker().clone());
                arrival.as_mut().poll(cx).map(|()| None)
            })
            .await;
            if let Some(found) = found {
                return found;
            }
        }
    }

    fn take_in<T>(&self, check: &mut impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let mut news = false;
        while let Some(event) = self.receiver.next(0) {
            if let Event::ShutdownRequested(request) = &event {
                state.shutdown = Some(request.clone());
            }
            state.events.push_back(event);
            news = true;
        }
        if news {
            std::mem::take(&mut state.waiting).into_iter().for_each(Waker::wake);
        }
        check(&mut state)
    }
}
