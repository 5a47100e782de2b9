//! A single-threaded async executor on `wasi:io/poll`.
//!
//! It contains no randomness: waits are polled in the order in which they began, so that the same job always takes the
//! same fuel. The executor of crate `wstd` keeps its waits in a hash map, whose order differs from run to run.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::bindings::wasi::io::poll::{Pollable, poll};

thread_local! {
    /// The waits of the running [`block_on`], oldest first.
    static WAITS: RefCell<Vec<Wait>> = const { RefCell::new(Vec::new()) };
}

struct Wait {
    pollable: Rc<Pollable>,
    waker: Waker,
}

/// Runs a future to its end. While the future is pending, the wait happens in the host.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    loop {
        // The poll below serves all earlier wakes.
        woken.take();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        if woken.take() {
            wake_ready();
        } else {
            wait_and_wake();
        }
    }
}

/// Waits until a pollable is ready.
///
/// A pollable that is ready at once still yields first: other futures are polled, and the host counts the wait.
pub(crate) async fn wait_for(pollable: Pollable) {
    let registration = Registration(Rc::new(pollable));
    let mut began = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut began, true) && registration.0.ready() {
            return Poll::Ready(());
        }
        registration.renew(cx.waker());
        Poll::Pending
    })
    .await;
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An entry in [`WAITS`], removed on drop.
struct Registration(Rc<Pollable>);

impl Registration {
    fn is_of(&self, wait: &Wait) -> bool {
        Rc::ptr_eq(&wait.pollable, &self.0)
    }

    fn renew(&self, waker: &Waker) {
        // Dropping a waker can drop another registration, so the old waker is dropped after the borrow.
        let old = WAITS.with_borrow_mut(|waits| match waits.iter_mut().find(|wait| self.is_of(wait)) {
            Some(wait) if wait.waker.will_wake(waker) => None,
            Some(wait) => Some(std::mem::replace(&mut wait.waker, waker.clone())),
            None => {
                waits.push(Wait { pollable: self.0.clone(), waker: waker.clone() });
                None
            }
        });
        drop(old);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let wait = WAITS.with_borrow_mut(|waits| {
            let at = waits.iter().position(|wait| self.is_of(wait))?;
            Some(waits.remove(at))
        });
        drop(wait);
    }
}

/// Wakes the waits that are ready, without waiting: the future was woken from elsewhere already.
fn wake_ready() {
    let ready: Vec<Waker> = WAITS.with_borrow(|waits| {
        waits.iter().filter(|wait| wait.pollable.ready()).map(|wait| wait.waker.clone()).collect()
    });
    ready.into_iter().for_each(Waker::wake);
}

/// Waits in the host until at least one wait is ready, and wakes the ready ones.
fn wait_and_wake() {
    let ready: Vec<Waker> = WAITS.with_borrow(|waits| {
        assert!(
            !waits.is_empty(),
            "the agent can never continue: it waits, and no timer or event is left that could wake it"
        );
        let pollables: Vec<&Pollable> = waits.iter().map(|wait| &*wait.pollable).collect();
        let ready = poll(&pollables);
        ready.into_iter().filter_map(|at| Some(waits.get(at as usize)?.waker.clone())).collect()
    });
    ready.into_iter().for_each(Waker::wake);
}
