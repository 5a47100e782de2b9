//! The state that one job's task shares with its host calls and with its handles: requests to stop, kills, warnings, the
//! inbox, the log, and the clock of its runs.
//!
//! One allocation for each job. No lock is held across an await.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::bindings::wasm_worker::agent::inbox::Event;
use super::inbox_queue::InboxQueue;
use super::job_log::JobLog;
use super::kill::{Kill, Warning};
use super::lock;
use super::run_clock::RunClock;
use crate::engine::timeslice::CoreDemand;

/// The origin of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBy {
    /// The agent itself.
    Guest,
    /// The server that gave the job.
    Dispatcher,
    /// A drain of the worker.
    Drain,
}

/// An event for the job's supervisor.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// The job is asked to stop.
    Stop { by: StopBy, reason: String },
    /// An operator kills the job.
    Kill,
    /// The job came close to a limit.
    Warning(Warning),
}

/// The shared state of one job.
pub(crate) struct Control {
    /// Events that the supervisor has not taken. Bounded: one stop, kills by operators, one warning of each kind.
    events: Mutex<Vec<ControlEvent>>,
    /// Wakes the supervisor after a new event.
    events_added: Notify,
    /// The reason of the kill, once there is one.
    kill: Mutex<Option<Kill>>,
    /// Set with `kill`, and cheap to read for the epoch check.
    killed: AtomicBool,
    /// Wakes a guest that waits after a kill.
    kill_set: Notify,
    log: Mutex<JobLog>,
    /// The message of a panic, which the guest reports before it traps.
    panic_message: Mutex<Option<String>>,
    /// The time for which the guest ran and waited.
    pub(crate) clock: RunClock,
    /// The guests of the engine that want a core.
    pub(crate) core_demand: Arc<CoreDemand>,
    /// The events that wait for the guest.
    pub(crate) inbox: InboxQueue,
}

impl Control {
    /// The state of an instance that has no job yet.
    pub(crate) fn new(inbox: InboxQueue, log: JobLog, core_demand: Arc<CoreDemand>) -> Self {
        Self {
            log: Mutex::new(log),
            events: Mutex::default(),
            events_added: Notify::new(),
            kill: Mutex::default(),
            killed: AtomicBool::new(false),
            kill_set: Notify::new(),
            clock: RunClock::default(),
            core_demand,
            inbox,
            panic_message: Mutex::default(),
        }
    }

    /// The log of the job, locked.
    pub(crate) fn log(&self) -> MutexGuard<'_, JobLog> {
        lock(&self.log)
    }

    /// Keep the message of a panic for the verdict.
    pub(crate) fn set_panic_message(&self, message: String) {
        *lock(&self.panic_message) = Some(message);
    }

    /// Take the message of a panic, if the guest reported one.
    pub(crate) fn take_panic_message(&self) -> Option<String> {
        lock(&self.panic_message).take()
    }

    /// Discard what prewarm and `decide` left, before the job begins.
    pub(crate) fn reset(&self) {
        lock(&self.events).clear();
        lock(&self.panic_message).take();
        self.inbox.reset();
        self.clock.reset();
    }

    /// Ask the job to stop. The first request counts.
    pub(crate) fn ask_to_stop(&self, by: StopBy, reason: impl Into<String>) {
        let mut events = lock(&self.events);
        if !events.iter().any(|item| matches!(item, ControlEvent::Stop { .. })) {
            events.push(ControlEvent::Stop { by, reason: reason.into() });
            self.events_added.notify_one();
        }
    }

    /// Have the supervisor kill the job for an operator.
    pub(crate) fn kill_by_operator(&self) {
        lock(&self.events).push(ControlEvent::Kill);
        self.events_added.notify_one();
    }

    /// Warn the operator, and the guest too when the warning is about a budget.
    pub(crate) fn warn(&self, warning: Warning) {
        if let Warning::Budget(of) = &warning {
            self.inbox.push(Event::LimitWarning(*of));
        }
        lock(&self.events).push(ControlEvent::Warning(warning));
        self.events_added.notify_one();
    }

    /// Take all events, in order.
    pub(crate) fn take_events(&self) -> Vec<ControlEvent> {
        std::mem::take(&mut *lock(&self.events))
    }

    /// Wait until there are events.
    pub(crate) async fn wait_for_events(&self) {
        self.events_added.notified().await;
    }

    /// End the guest: at its next epoch check if it runs, at once if it waits. The first reason counts.
    pub(crate) fn kill(&self, reason: Kill) {
        lock(&self.kill).get_or_insert(reason);
        self.killed.store(true, Ordering::Release);
        self.kill_set.notify_one();
    }

    /// Fail once the guest is to be killed. Cheap until then.
    pub(crate) fn check_kill(&self) -> Result<(), Kill> {
        if self.killed.load(Ordering::Acquire) {
            return Err(self.kill_reason());
        }
        Ok(())
    }

    /// Wait until the guest is to be killed.
    pub(crate) async fn killed(&self) -> Kill {
        while !self.killed.load(Ordering::Acquire) {
            self.kill_set.notified().await;
        }
        self.kill_reason()
    }

    fn kill_reason(&self) -> Kill {
        lock(&self.kill).clone().unwrap_or(Kill::Operator)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test]
    async fn first_stop_and_first_kill_count() {
        let control =
            Control::new(InboxQueue::new(1, 1, Handle::current()), JobLog::new("a".into(), 1), Arc::default());
        control.ask_to_stop(StopBy::Drain, "first");
        control.ask_to_stop(StopBy::Guest, "second");
        assert!(matches!(control.take_events().as_slice(), [ControlEvent::Stop { by: StopBy::Drain, .. }]));
        assert_eq!(control.check_kill(), Ok(()));
        control.kill(Kill::Operator);
        control.kill(Kill::Deadline { limit: Duration::ZERO });
        assert_eq!(control.killed().await, Kill::Operator);
        assert_eq!(control.check_kill(), Err(Kill::Operator));
    }
}
