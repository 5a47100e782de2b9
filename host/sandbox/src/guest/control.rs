//! The state that one job's task shares with its host calls and with its handles: requests to stop, kills, warnings, the
//! inbox, the log, and the clock of its runs.
//!
//! One allocation for each job. No lock is held across an await.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use wasm_worker_core::job::{RoomState, RoomStatus, Task, TaskReport, WaitsFor};
use wasm_worker_core::usage::{RoomUse, millis};

use super::bindings::wasm_worker::agent::events::{Event, LimitWarning};
use super::convert::exact;
use super::inbox_queue::InboxQueue;
use super::job_log::JobLog;
use super::kill::{Kill, Warning};
use super::lock;
use super::participants::Participants;
use super::room_view::{RoomCounter, RoomView};
use super::run_clock::RunClock;
use crate::engine::timeslice::CoreDemand;

/// The time between two questions to a guest for its tasks.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The origin of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBy {
    /// The agent itself.
    Guest,
    /// The server that gave the job.
    Dispatcher,
    /// A drain of the worker.
    Drain,
    /// The loss of the job's room.
    RoomLost,
    /// The server, which ended the room.
    RoomEnded,
    /// The server, which put the agent out of the room.
    PutOut,
}

impl StopBy {
    /// The word of the contract for the origin.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "requested",
            Self::Dispatcher => "cancelled",
            Self::Drain => "drain",
            Self::RoomLost | Self::RoomEnded | Self::PutOut => "room-ended",
        }
    }
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

/// What a job waits for.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// The time of the job's timer.
    pub(crate) timer: Option<Instant>,
    /// Open ids.
    pub(crate) operations: usize,
    /// Whether the job is in its room.
    pub(crate) joined: bool,
    /// The tasks that the guest reported last.
    pub(crate) tasks: Vec<Task>,
    /// The time of that report.
    pub(crate) reported: Option<Instant>,
    /// The last time that an operator asked for the tasks.
    pub(crate) asked: Option<Instant>,
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
    /// What the job waits for, as of its last wait.
    waits: Mutex<Waits>,
    /// Whether the job waits between two steps.
    is_waiting: AtomicBool,
    log: Mutex<JobLog>,
    /// The room, once the job has asked for it.
    room: Mutex<Option<Box<RoomView>>>,
    /// The message of a panic, which the guest reports before it traps.
    panic_message: Mutex<Option<String>>,
    /// The time for which the guest ran and waited.
    pub(crate) clock: RunClock,
    /// Tokens of models, as the agent has reported them.
    pub(crate) tokens: AtomicU64,
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
            waits: Mutex::default(),
            is_waiting: AtomicBool::new(false),
            clock: RunClock::default(),
            tokens: AtomicU64::new(0),
            core_demand,
            inbox,
            room: Mutex::default(),
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
        *lock(&self.waits) = Waits::default();
        lock(&self.room).take();
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
        if let Warning::Budget { budget, used, limit } = &warning {
            let (used, limit) = (exact(*used), exact(*limit));
            self.inbox.push(Event::LimitWarning(LimitWarning { budget: budget.as_str().into(), used, limit }));
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

    /// End the guest: at its next epoch check if it runs; a job between two steps is ended by its supervisor. The first reason
    /// counts.
    pub(crate) fn kill(&self, reason: Kill) {
        lock(&self.kill).get_or_insert(reason);
        self.killed.store(true, Ordering::Release);
    }

    /// Fail once the guest is to be killed. Cheap until then.
    pub(crate) fn check_kill(&self) -> Result<(), Kill> {
        if self.killed.load(Ordering::Acquire) {
            return Err(self.kill_reason());
        }
        Ok(())
    }

    /// Keep the tasks that the guest reports.
    pub(crate) fn set_tasks(&self, tasks: Vec<Task>) {
        let mut waits = lock(&self.waits);
        (waits.tasks, waits.reported) = (tasks, Some(Instant::now()));
    }

    /// The tasks that the guest reported last.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        lock(&self.waits).tasks.clone()
    }

    /// The tasks that the guest reported last, and the age of the report.
    pub(crate) fn task_report(&self) -> Option<TaskReport> {
        let waits = lock(&self.waits);
        let age = Instant::now().saturating_duration_since(waits.reported?);
        Some(TaskReport { age_ms: millis(age), tasks: waits.tasks.clone() })
    }

    /// Ask the guest for its tasks, at most once in [`ASK_EVERY`]. Returns whether it was asked.
    pub(crate) fn ask_for_tasks(&self) -> bool {
        let now = Instant::now();
        let mut waits = lock(&self.waits);
        if waits.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_EVERY) {
            return false;
        }
        waits.asked = Some(now);
        drop(waits);
        self.inbox.want_tasks()
    }

    /// Whether the guest has reported its tasks since it was asked last.
    pub(crate) fn has_answered(&self) -> bool {
        let waits = lock(&self.waits);
        waits.reported >= waits.asked
    }

    /// The job begins to wait.
    pub(crate) fn begin_wait(&self, timer: Option<Instant>, operations: usize, joined: bool) {
        let mut waits = lock(&self.waits);
        (waits.timer, waits.operations, waits.joined) = (timer, operations, joined);
        self.is_waiting.store(true, Ordering::Relaxed);
    }

    /// The wait is over.
    pub(crate) fn end_wait(&self) {
        self.is_waiting.store(false, Ordering::Relaxed);
    }

    /// What the job waits for, as of its last wait.
    pub(crate) fn waits_for(&self) -> WaitsFor {
        let waits = lock(&self.waits);
        let now = Instant::now();
        WaitsFor {
            running: !self.is_waiting.load(Ordering::Relaxed),
            timer_ms: waits.timer.map(|due| millis(due.saturating_duration_since(now))),
            operations: waits.operations,
            joined: waits.joined,
        }
    }

    /// The agent is given an event about its room.
    pub(crate) fn show_room(&self, event: &Event, participants: &Participants) {
        lock(&self.room).get_or_insert_default().apply(event, participants, Instant::now());
    }

    /// The agent asks for its room, or does not get into it.
    pub(crate) fn set_room_state(&self, state: RoomState) {
        lock(&self.room).get_or_insert_default().set_state(state, Instant::now());
    }

    /// The connection to the room is opened, or given up.
    pub(crate) fn set_room_counter(&self, counter: Option<Arc<RoomCounter>>) {
        lock(&self.room).get_or_insert_default().set_counter(counter);
    }

    /// The room with at most so many of its participants; none where the job has not asked for it.
    pub(crate) fn room(&self, present_max: usize) -> Option<RoomStatus> {
        lock(&self.room).as_ref().map(|room| room.status(present_max, Instant::now()))
    }

    /// Whether the job opened a room on a server, now or before.
    pub(crate) fn opened_a_room(&self) -> bool {
        lock(&self.room).as_ref().is_some_and(|room| room.was_opened())
    }

    /// The use of the connection to the room that nobody has counted.
    pub(crate) fn take_room_use(&self) -> RoomUse {
        let counter = lock(&self.room).as_ref().and_then(|room| room.counter().cloned());
        counter.map(|counter| counter.take()).unwrap_or_default()
    }

    /// CPU time that the sound of the open room took so far.
    pub(crate) fn sound_cpu(&self) -> Duration {
        let counter = lock(&self.room).as_ref().and_then(|room| room.counter().cloned());
        counter.map(|counter| counter.statistics().audio.busy).unwrap_or_default()
    }

    fn kill_reason(&self) -> Kill {
        lock(&self.kill).clone().unwrap_or(Kill::Operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_stop_and_first_kill_count() {
        let control = Control::new(InboxQueue::new(1, 1), JobLog::new("a".into(), 1), Arc::default());
        control.ask_to_stop(StopBy::Drain, "first");
        control.ask_to_stop(StopBy::Guest, "second");
        assert!(matches!(control.take_events().as_slice(), [ControlEvent::Stop { by: StopBy::Drain, .. }]));
        assert_eq!(control.check_kill(), Ok(()));
        control.kill(Kill::Operator);
        control.kill(Kill::Deadline { limit: Duration::ZERO });
        assert_eq!(control.check_kill(), Err(Kill::Operator));
    }
    #[test]
    fn tasks_are_asked_for_once_a_second_and_the_answer_is_known() {
        let control = Control::new(InboxQueue::new(8, 1 << 10), JobLog::new("a".into(), 1), Arc::default());
        assert_eq!(control.task_report(), None);
        assert!(control.ask_for_tasks() && !control.ask_for_tasks());
        assert!(!control.has_answered());
        let task = Task { name: "entrypoint".into(), waits_for: "next_event".into() };
        control.set_tasks(vec![task.clone()]);
        assert!(control.has_answered());
        assert_eq!(control.task_report().map(|report| report.tasks), Some(vec![task]));
    }

    #[test]
    fn a_job_runs_until_it_waits_and_then_names_what_it_waits_for() {
        let control = Control::new(InboxQueue::new(1, 1), JobLog::new("a".into(), 1), Arc::default());
        assert!(control.waits_for().running);
        control.begin_wait(Some(Instant::now() + Duration::from_secs(9)), 2, true);
        let waits = control.waits_for();
        assert!(waits.timer_ms.is_some_and(|millis| (8_000..=9_000).contains(&millis)), "{waits:?}");
        assert_eq!((waits.running, waits.operations, waits.joined), (false, 2, true));
        control.end_wait();
        assert!(control.waits_for().running);
    }
}
