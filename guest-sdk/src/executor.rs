//! Async on one thread, over `wasi:io/poll`.
//!
//! Its own, small and without any randomness: the order in which waits are looked at is the order in which they began, so
//! the same job takes the same fuel each time. (Crate `wstd` keeps its waits in a hash map, whose order differs each time.)

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use wasip2::io::poll::{Pollable, poll};

thread_local! {
    /// What the running [`block_on`] waits for, the oldest first.
    static WAITS: RefCell<Vec<Wait>> = const { RefCell::new(Vec::new()) };
}

struct Wait {
    pollable: Rc<Pollable>,
    waker: Waker,
}

/// Run a future to its end, and wait in the host whenever it waits for something.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    loop {
        // Whatever woke it before is served by the poll that comes now.
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

/// Wait until a pollable is ready. Even one that is ready at once lets everything else be looked at first, and has the host
/// see that the agent waits.
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

/// An entry in [`WAITS`], for as long as somebody waits.
struct Registration(Rc<Pollable>);

impl Registration {
    fn is_of(&self, wait: &Wait) -> bool {
        Rc::ptr_eq(&wait.pollable, &self.0)
    }

    fn renew(&self, waker: &Waker) {
        // A waker may own what drops another registration, so the old one goes after the borrow.
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

/// Wake those whose wait is over, without waiting for others: something else has woken already.
fn wake_ready() {
    let ready: Vec<Waker> = WAITS.with_borrow(|waits| {
        waits.iter().filter(|wait| wait.pollable.ready()).map(|wait| wait.waker.clone()).collect()
    });
    ready.into_iter().for_each(Waker::wake);
}

/// Wait in the host, and wake those whose wait is over.
fn wait_and_wake() {
    let ready: Vec<Waker> = WAITS.with_borrow(|waits| {
        assert!(
            !waits.is_empty(),
            "the agent waits for something that can never come: nothing is left that could wake it"
        );
        let pollables: Vec<&Pollable> = waits.iter().map(|wait| &*wait.pollable).collect();
        let ready = poll(&pollables);
        ready.into_iter().filter_map(|at| Some(waits.get(at as usize)?.waker.clone())).collect()
    });
    ready.into_iter().for_each(Waker::wake);
}
