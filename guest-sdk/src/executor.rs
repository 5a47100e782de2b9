//! The executor: tasks that run within a step, and wait between steps.
//!
//! A step hands its events to those who wait for them, then runs the tasks that were woken, in the order in which they
//! were, until none is left. There is no thread, no clock and no chance in here, so the same events always take the same
//! fuel.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use crate::bindings::wasm_worker::agent::job;
use crate::types::JobInfo;
use crate::waits::{self, On};
use crate::{Event, operation, time};

/// Number of tasks that a report contains. The host keeps no more.
const REPORTED_MAX: usize = 64;

pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// The tasks, by number, which is the order in which they began.
    static TASKS: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    /// The tasks that were woken, first woken first.
    static READY: RefCell<VecDeque<u32>> = const { RefCell::new(VecDeque::new()) };
    static LAST_TASK: Cell<u32> = const { Cell::new(0) };
    /// The task that runs now; 0 between tasks.
    static CURRENT: Cell<u32> = const { Cell::new(0) };
    static STEP: Cell<Step> = const { Cell::new(Step { number: 0, now_ms: 0.0, calls: 0 }) };
    static FINISHED: Cell<bool> = const { Cell::new(false) };
}

/// Facts of the step that runs now.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// Its number in this job, from 1.
    pub(crate) number: u64,
    /// Its time, in milliseconds since 1970.
    pub(crate) now_ms: f64,
    /// Number of texts and parts of texts that were sent in it.
    pub(crate) calls: u32,
}

struct Task {
    number: u32,
    name: Cow<'static, str>,
    waker: Arc<TaskWaker>,
    /// Absent while it runs.
    future: Option<TaskFuture>,
}

struct TaskWaker {
    number: u32,
    /// Whether the task is in [`READY`].
    ready: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.ready.swap(true, Ordering::Relaxed) {
            READY.with_borrow_mut(|ready| ready.push_back(self.number));
        }
    }
}

/// Runs one step. `start` begins the job, at its first event.
pub(crate) fn step(now_ms: f64, batch: Vec<Event>, start: fn(JobInfo)) {
    let report = run_step(now_ms, batch, start);
    if FINISHED.get() {
        return;
    }
    if report {
        report_tasks();
    }
    time::set_alarm(now_ms);
}

/// Runs one step but for its last calls. Returns whether the host wants to know the tasks.
pub(crate) fn run_step(now_ms: f64, batch: Vec<Event>, start: fn(JobInfo)) -> bool {
    if FINISHED.get() {
        return false;
    }
    STEP.set(Step { number: STEP.get().number + 1, now_ms, calls: 0 });
    let mut report = false;
    for event in batch {
        match event {
            Event::Started(job) => start(job),
            Event::TasksWanted => report = true,
            event => operation::deliver(event),
        }
    }
    time::fire(now_ms);
    run_ready();
    report
}

/// Ends the job. No task runs after it, and none is dropped: the whole memory goes.
pub(crate) fn finish(result: Result<(), String>) {
    job::finish(result.as_ref().map(|&()| ()).map_err(String::as_str));
    FINISHED.set(true);
}

/// Facts of the step that runs now.
pub(crate) fn this_step() -> Step {
    STEP.get()
}

/// Counts a call of this step.
pub(crate) fn count_call() {
    let step = STEP.get();
    STEP.set(Step { calls: step.calls.saturating_add(1), ..step });
}

/// Number of the task that runs now.
pub(crate) fn current() -> u32 {
    CURRENT.get()
}

/// Begins a task. It runs later in this step.
pub(crate) fn spawn(name: Cow<'static, str>, future: TaskFuture) -> u32 {
    let number = LAST_TASK.get() + 1;
    LAST_TASK.set(number);
    let waker = Arc::new(TaskWaker { number, ready: AtomicBool::new(false) });
    waker.wake_by_ref();
    TASKS.with_borrow_mut(|tasks| tasks.push(Task { number, name, waker, future: Some(future) }));
    number
}

/// Drops a task. The task that runs now is dropped when it waits next.
pub(crate) fn abort(number: u32) {
    // Dropping a task can end others, so it is dropped after the borrow.
    let task = TASKS.with_borrow_mut(|tasks| find(tasks, number).map(|at| tasks.remove(at)));
    let ended = task.is_some();
    drop(task);
    if ended {
        waits::wake(On::Task(number));
    }
}

/// Whether the task has not ended.
pub(crate) fn is_alive(number: u32) -> bool {
    TASKS.with_borrow(|tasks| find(tasks, number).is_some())
}

fn find(tasks: &[Task], number: u32) -> Option<usize> {
    tasks.binary_search_by_key(&number, |task| task.number).ok()
}

fn run_ready() {
    while !FINISHED.get() {
        let Some(number) = READY.with_borrow_mut(VecDeque::pop_front) else { return };
        run(number);
    }
}

fn run(number: u32) {
    let taken = TASKS.with_borrow_mut(|tasks| {
        let at = find(tasks, number)?;
        let task = tasks.get_mut(at)?;
        task.waker.ready.store(false, Ordering::Relaxed);
        Some((task.future.take()?, task.waker.clone()))
    });
    let Some((mut future, waker)) = taken else { return };
    let waker = Waker::from(waker);
    CURRENT.set(number);
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    CURRENT.set(0);
    if polled.is_ready() {
        drop(future);
        abort(number);
        return;
    }
    // The task may have been aborted by itself.
    let left = TASKS.with_borrow_mut(|tasks| match find(tasks, number).and_then(|at| tasks.get_mut(at)) {
        Some(task) => task.future.replace(future),
        None => Some(future),
    });
    drop(left);
}

fn report_tasks() {
    let tasks: Vec<job::Task> = TASKS.with_borrow(|tasks| {
        let reported = tasks.iter().take(REPORTED_MAX);
        reported.map(|task| job::Task { name: task.name.to_string(), waits_for: waits_of(task.number) }).collect()
    });
    job::report_tasks(&tasks);
}

/// The names of the task's waits.
pub(crate) fn waits_of(task: u32) -> String {
    let mut names = Vec::new();
    time::name(task, &mut names);
    waits::names(task, &mut names);
    if names.is_empty() { "nothing".to_owned() } else { names.join(" or ") }
}
