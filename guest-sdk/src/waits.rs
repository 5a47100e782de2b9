//! The waits of all tasks, each with its name, so that a task can be woken and an operator can be told what it waits for.
//!
//! Everything here is ordered by numbers that count up, so the same events always take the same fuel.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::executor;

thread_local! {
    /// The waits, sorted by their cause and then by their number.
    static WAITS: RefCell<Vec<Wait>> = const { RefCell::new(Vec::new()) };
    static NUMBERS: Cell<u64> = const { Cell::new(0) };
}

/// The cause that ends a wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum On {
    /// An event of the inbox, or a change that the agent made itself.
    Inbox,
    /// A request to stop.
    Stop,
    /// An event of this id.
    Id(u32),
    /// The end of this task.
    Task(u32),
}

struct Wait {
    on: On,
    number: u64,
    /// The task that waits.
    task: u32,
    name: &'static str,
    waker: Waker,
}

impl Wait {
    fn key(&self) -> (On, u64) {
        (self.on, self.number)
    }
}

/// Waits until `check` returns a value. It runs again after each [`wake`] of `on`.
///
/// `name` is what an operator sees. Waits of the SDK itself have none.
pub(crate) async fn until<T>(on: On, name: &'static str, mut check: impl FnMut() -> Option<T>) -> T {
    let mut slot = WaitSlot::new(on, name);
    poll_fn(|cx| {
        let found = check();
        if found.is_none() {
            slot.set(cx.waker());
        }
        found.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Wakes every wait for `on`, oldest first.
pub(crate) fn wake(on: On) {
    while let Some(waker) = take_first(on) {
        waker.wake();
    }
}

fn take_first(on: On) -> Option<Waker> {
    WAITS.with_borrow_mut(|waits| {
        let at = waits.partition_point(|wait| wait.on < on);
        waits.get(at).is_some_and(|wait| wait.on == on).then(|| waits.remove(at).waker)
    })
}

/// The names of this task's waits, oldest cause first.
pub(crate) fn names(task: u32, names: &mut Vec<&'static str>) {
    WAITS.with_borrow(|waits| {
        names.extend(waits.iter().filter(|wait| wait.task == task && !wait.name.is_empty()).map(|wait| wait.name));
    });
}

/// A number that no wait had before.
pub(crate) fn next_number() -> u64 {
    NUMBERS.replace(NUMBERS.get() + 1)
}

/// One wait, removed on drop.
pub(crate) struct WaitSlot {
    on: On,
    name: &'static str,
    number: u64,
    used: bool,
}

impl WaitSlot {
    pub(crate) fn new(on: On, name: &'static str) -> Self {
        Self { on, name, number: next_number(), used: false }
    }

    /// Has `waker` woken at the next [`wake`].
    pub(crate) fn set(&mut self, waker: &Waker) {
        self.used = true;
        let key = (self.on, self.number);
        let old = WAITS.with_borrow_mut(|waits| match waits.binary_search_by_key(&key, Wait::key) {
            Ok(at) => {
                let wait = waits.get_mut(at).filter(|wait| !wait.waker.will_wake(waker))?;
                Some(std::mem::replace(&mut wait.waker, waker.clone()))
            }
            Err(at) => {
                let (task, waker) = (executor::current(), waker.clone());
                waits.insert(at, Wait { on: self.on, number: self.number, task, name: self.name, waker });
                None
            }
        });
        // Dropping a waker can drop another wait, so it is dropped after the borrow.
        drop(old);
    }
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        if !self.used {
            return;
        }
        let key = (self.on, self.number);
        // When a thread of a test ends, the waits may go before the tasks.
        let removed = WAITS.try_with(|waits| {
            let mut waits = waits.borrow_mut();
            let at = waits.binary_search_by_key(&key, Wait::key).ok()?;
            Some(waits.remove(at))
        });
        drop(removed);
    }
}
