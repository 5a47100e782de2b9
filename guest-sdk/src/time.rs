//! Timers.
//!
//! Time stands still during a step: two reads of a clock without a wait between them give the same time.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bindings::wasm_worker::agent::job;
use crate::{Either, executor, select, waits};

thread_local! {
    /// The timers, the next one last; of those due at the same time, the oldest last.
    static TIMERS: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
    /// The timer of the host, if one is set.
    static ALARM: Cell<Option<Alarm>> = const { Cell::new(None) };
}

struct Timer {
    due_ms: f64,
    number: u64,
    /// The task that waits.
    task: u32,
    waker: Waker,
}

#[derive(Clone, Copy)]
struct Alarm {
    /// When the timer for which it was set is due.
    for_ms: f64,
    /// When the host's timer expires.
    at_ms: f64,
}

/// The time of this step. It is what `SystemTime::now` gives too, without a call of the host.
///
/// ```no_run
/// # async fn example() {
/// let begun = wasm_worker_sdk::time::now();
/// # }
/// ```
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(executor::this_step().now_ms.max(0.0) / 1000.0)
}

/// Waits for `duration`. A wait of zero ends the step and goes on in the next one, which shows the host that the agent
/// is responsive.
///
/// ```no_run
/// # async fn example() {
/// wasm_worker_sdk::time::sleep(std::time::Duration::from_millis(20)).await;
/// # }
/// ```
pub async fn sleep(duration: Duration) {
    let due_ms = executor::this_step().now_ms + duration.as_secs_f64() * 1000.0;
    let mut slot = TimerSlot { due_ms, number: waits::next_number(), set: false };
    poll_fn(|cx| if slot.is_over(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Waits for `future`, at most for `limit`. When the limit expires, the future is dropped and the result is `None`.
///
/// ```no_run
/// # async fn example(ctx: &wasm_worker_sdk::JobContext) {
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
/// let caller = wasm_worker_sdk::time::timeout(Duration::from_secs(30), ctx.wait_for_participant(None)).await;
/// # }
/// ```
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    match select(future, sleep(limit)).await {
        Either::Left(output) => Some(output),
        Either::Right(()) => None,
    }
}

/// A timer, removed on drop.
struct TimerSlot {
    due_ms: f64,
    number: u64,
    set: bool,
}

impl TimerSlot {
    /// Whether the timer has fired. If not, `waker` is woken when it does.
    fn is_over(&mut self, waker: &Waker) -> bool {
        let found = TIMERS.with_borrow_mut(|timers| match self.find(timers) {
            Ok(at) => {
                let timer = timers.get_mut(at).filter(|timer| !timer.waker.will_wake(waker));
                Ok(timer.map(|timer| std::mem::replace(&mut timer.waker, waker.clone())))
            }
            Err(_) if self.set => Err(()),
            Err(at) => {
                let (due_ms, number, task) = (self.due_ms, self.number, executor::current());
                timers.insert(at, Timer { due_ms, number, task, waker: waker.clone() });
                Ok(None)
            }
        });
        self.set = true;
        // The old waker is dropped here, after the borrow.
        found.is_err()
    }

    fn find(&self, timers: &[Timer]) -> Result<usize, usize> {
        timers.binary_search_by(|timer| match self.due_ms.total_cmp(&timer.due_ms) {
            Ordering::Equal => self.number.cmp(&timer.number),
            unequal => unequal,
        })
    }
}

impl Drop for TimerSlot {
    fn drop(&mut self) {
        if self.set {
            // When a thread of a test ends, the timers may go before the tasks.
            let removed = TIMERS.try_with(|timers| {
                let mut timers = timers.borrow_mut();
                self.find(&timers).ok().map(|at| timers.remove(at))
            });
            drop(removed);
        }
    }
}

/// Fires the timers that are due, in the order in which they are.
pub(crate) fn fire(now_ms: f64) {
    while let Some(timer) = TIMERS.with_borrow_mut(|timers| timers.pop_if(|timer| timer.due_ms <= now_ms)) {
        timer.waker.wake();
    }
}

/// Sets the host's timer to the next timer of the agent, if that is another one now.
pub(crate) fn set_alarm(now_ms: f64) {
    // This step used the alarm up if it is not earlier. To set it again is harmless, so a millisecond of doubt counts as
    // used.
    let alarm = ALARM.get().filter(|alarm| alarm.at_ms > now_ms + 1.0);
    let next = TIMERS.with_borrow(|timers| timers.last().map(|timer| timer.due_ms));
    if alarm.map(|alarm| alarm.for_ms) == next {
        return;
    }
    let after_ms = next.map(|due_ms| millis(due_ms - now_ms));
    job::wake(after_ms);
    ALARM.set(next.map(|for_ms| Alarm { for_ms, at_ms: now_ms + after_ms.map_or(0.0, f64::from) }));
}

/// Whole milliseconds, rounded up. A longer wait than the host's timer can express takes several steps.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast is bounded by its target")]
fn millis(wait_ms: f64) -> u32 {
    wait_ms.ceil() as u32
}

/// When the next timer is due.
#[cfg(test)]
pub(crate) fn next_due() -> Option<f64> {
    TIMERS.with_borrow(|timers| timers.last().map(|timer| timer.due_ms))
}

/// Adds the name of this task's timer, if it waits for one.
pub(crate) fn name(task: u32, names: &mut Vec<&'static str>) {
    if TIMERS.with_borrow(|timers| timers.iter().any(|timer| timer.task == task)) {
        names.push("time::sleep");
    }
}
