//! The job's events, for any number of waiters at once.
//!
//! The host keeps one queue. Whoever waits here first moves what has come from there into [`State`], and wakes the others,
//! because their own pollables fall silent the moment the host's queue is empty.
//!
//! Bound: [`EVENTS_MAX`] events that nobody has read; the oldest go first. A request to stop is never lost.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use crate::bindings::wasm_worker::agent::inbox::{self, Receiver};
use crate::executor;
use crate::types::ShutdownRequest;

pub use crate::bindings::wasm_worker::agent::inbox::Event;

const EVENTS_MAX: usize = 256;

pub(crate) struct Inbox {
    receiver: Receiver,
    state: RefCell<State>,
}

#[derive(Default)]
pub(crate) struct State {
    events: VecDeque<Event>,
    /// Kept apart from `events`, so that it is seen by those who do not read them.
    pub(crate) shutdown: Option<ShutdownRequest>,
    /// The end has been asked for, by whomever.
    pub(crate) stopping: bool,
    /// Events that were lost; the first is told of.
    lost: u64,
    /// One for each task that waits.
    waiting: Vec<Waker>,
}

impl State {
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn take_in(&mut self, event: Event) {
        if let Event::ShutdownRequested(request) = &event {
            self.shutdown = Some(request.clone());
            self.stopping = true;
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
            self.lost += 1;
            if self.lost == 1 {
                log::warn!("nobody reads this job's events: the oldest of {EVENTS_MAX} are dropped");
            }
        }
        self.events.push_back(event);
    }

    fn wake_all(&mut self) {
        std::mem::take(&mut self.waiting).into_iter().for_each(Waker::wake);
    }
}

impl Inbox {
    pub(crate) fn open() -> Self {
        Self { receiver: inbox::open(), state: RefCell::default() }
    }

    /// Have every waiter look again.
    pub(crate) fn wake_all(&self) {
        self.state.borrow_mut().wake_all();
    }

    /// Wait until `check` finds what it looks for; it is asked again whenever something has come.
    pub(crate) async fn wait_until<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        if let Some(found) = self.look(&mut check) {
            return found;
        }
        loop {
            let mut arrival = pin!(executor::wait_for(self.receiver.subscribe()));
            let found = poll_fn(|cx| {
                if let Some(found) = self.look(&mut check) {
                    return Poll::Ready(Some(found));
                }
                let waiting = &mut self.state.borrow_mut().waiting;
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                arrival.as_mut().poll(cx).map(|()| None)
            })
            .await;
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// The agent has asked for its own end, and need not wait for the host to say so.
    pub(crate) fn stop(&self) {
        let mut state = self.state.borrow_mut();
        state.stopping = true;
        state.wake_all();
    }

    fn look<T>(&self, check: &mut impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let mut news = false;
        while let Some(event) = self.receiver.next(0) {
            state.take_in(event);
            news = true;
        }
        if news {
            state.wake_all();
        }
        check(&mut state)
    }
}
