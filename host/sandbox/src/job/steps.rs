//! The steps of a job: a wait, a step, the calls of the step, and so on until the life closes.
//!
//! While the job waits no guest runs. A stop or a kill of a waiting job touches no guest.
//!
//! Bounds: a job whose steps follow each other without a wait yields its core after each time slice.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Store;

use super::instance::Instance;
use super::run::{Crash, call};
use super::stall;
use super::step::Input;
use super::step_end;
use super::supervisor::Supervisor;
use super::time::JobTime;
use super::world::{JobAccess, World, perform_all};
use crate::guest::HostState;
use crate::guest::bindings::Agent;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::contract::JobInfo;
use crate::guest::kill::Kill;
use crate::guest::tape::Tape;
use crate::recording::recorder::Recorder;

/// Events for which a waiting job keeps memory: most steps are given one.
const EVENTS_KEPT: usize = 1;

/// The steps of one job.
pub(super) struct Steps<'a> {
    supervisor: &'a mut Supervisor,
    world: &'a mut dyn World,
    /// The job's one timer.
    timer: Option<Instant>,
    /// The events of the next step.
    batch: Vec<Event>,
    /// Memory of these events.
    batch_bytes: usize,
    /// Whether the last step was asked for its tasks, because nothing could wake the job.
    asked_for_tasks: bool,
    /// The time since which the job has not given up its core.
    slice_began: Instant,
    /// Records the job.
    recorder: Option<&'a mut Recorder>,
}

impl<'a> Steps<'a> {
    /// The steps of a job that is launched.
    pub(super) fn new(supervisor: &'a mut Supervisor, world: &'a mut dyn World) -> Self {
        Self {
            supervisor,
            world,
            timer: None,
            batch: Vec::with_capacity(EVENTS_KEPT),
            batch_bytes: 0,
            asked_for_tasks: false,
            slice_began: Instant::now(),
            recorder: None,
        }
    }

    /// The same, observed by a recorder.
    pub(super) fn recorded_by(self, recorder: Option<&'a mut Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// Run the steps. `None` once the life has closed.
    pub(super) async fn run(mut self, instance: &mut Instance, info: JobInfo) -> Option<()> {
        let Instance { store, agent: Some(agent), .. } = instance else { return None };
        let mut now = self.supervisor.life.launched()?;
        store.data_mut().launch(now, self.supervisor.time.since_1970());
        self.world.launched(now);
        if self.supervisor.time.is_virtual() {
            store.data_mut().tape = Tape::Still;
        }
        if let Some(recorder) = &mut self.recorder {
            store.data_mut().tape = Tape::recording();
            recorder.launched(store.data().clock.now());
        }
        self.batch.push(Event::Started(info));
        loop {
            self.step(store, agent, now).await?;
            now = self.wait(store.data_mut()).await?;
        }
    }

    /// Run one step, and carry out what it asks for.
    async fn step(&mut self, store: &mut Store<HostState>, agent: &Agent, now: Instant) -> Option<()> {
        let state = store.data_mut();
        state.clock.advance(now);
        state.meter.calls.inbox.add(self.batch_bytes);
        state.meter.begin_step(None);
        self.batch.iter().for_each(|event| self.world.is_given(event, now));
        let now_ms = state.clock.now().as_ms();
        let control = self.supervisor.control.clone();
        control.clock.call_begins();
        let mut outcome = None;
        let returned = {
            let mut resume = pin!(async {
                let result = call(&control, agent.call_resume(&mut *store, now_ms, &self.batch)).await;
                outcome = Some(result.clone());
                result
            });
            self.supervisor.drive(resume.as_mut(), |()| Input::StepReturned).await
        };
        if let Some(recorder) = &mut self.recorder {
            step_end::record(recorder, &self.batch, store, outcome.as_ref());
        }
        self.batch.clear();
        control.inbox.release(std::mem::take(&mut self.batch_bytes));
        returned?;
        self.supervisor.time.step_ends();
        store.data_mut().fuel_left = store.get_fuel().unwrap_or(0);
        self.carry_out(store.data_mut(), now)
    }

    /// Perform the calls of a step that has returned, set the timer, and end the job where the step did.
    fn carry_out(&mut self, state: &mut HostState, now: Instant) -> Option<()> {
        let mut calls = state.calls.take_calls();
        let performed = perform_all(self.world, calls.drain(..), &mut JobAccess::new(state, now));
        let (wishes, charged) = state.calls.end_step(calls);
        state.meter.release(charged);
        self.check(performed)?;
        if let Some(after_ms) = wishes.wake {
            self.timer = after_ms.map(|after_ms| now + Duration::from_millis(after_ms.into()));
        }
        if let Some(result) = wishes.finish {
            self.timer = None;
            self.supervisor.handle_input(Input::Finished(result));
            let finished = self.world.finish(&mut JobAccess::new(state, now));
            self.check(finished)?;
        }
        self.supervisor.is_open()
    }

    /// Wait until the next step is due, and return its time.
    async fn wait(&mut self, state: &mut HostState) -> Option<Instant> {
        loop {
            let now = self.share_core().await;
            let advanced = self.world.advance(&mut JobAccess::new(state, now));
            self.check(advanced)?;
            state.meter.set_outside(self.world.bytes_waiting());
            self.attend(now)?;
            if !self.supervisor.life.is_delivering() {
                let delivered = state.deliver(now, &mut self.batch);
                self.batch_bytes = self.check(delivered)?;
                if self.is_due(now) {
                    return Some(now);
                }
                if !self.supervisor.control.inbox.is_empty() {
                    continue;
                }
                if let Some(why) = self.stalled() {
                    return self.ask_or_end(state, why).then_some(now);
                }
            }
            self.park(state, now).await;
        }
    }

    /// Handle what does not concern the guest: control events, and the timers of the life. `None` once the life has closed.
    fn attend(&mut self, now: Instant) -> Option<()> {
        let supervisor = &mut *self.supervisor;
        supervisor.take_events();
        if supervisor.life.wake_at().is_some_and(|due| due <= now) {
            supervisor.handle_input(Input::TimeUp);
        }
        if supervisor.life.is_delivering() && self.world.is_delivered() {
            supervisor.handle_input(Input::Delivered);
        }
        let killed = supervisor.control.check_kill();
        self.check(killed)
    }

    /// Close the life after a kill while no guest runs.
    fn check<T>(&mut self, result: Result<T, Kill>) -> Option<T> {
        match result {
            Ok(value) => self.supervisor.is_open().map(|()| value),
            Err(kill) => {
                self.supervisor.handle_input(Input::Crashed(Crash::Killed { kill, backtrace: Vec::new() }));
                None
            }
        }
    }

    /// Whether there are events, or the timer has come. Each step that is not earlier uses the timer up.
    fn is_due(&mut self, now: Instant) -> bool {
        let timer_due = self.timer.is_some_and(|due| due <= now);
        if timer_due {
            self.timer = None;
        }
        let due = timer_due || !self.batch.is_empty();
        if due {
            self.asked_for_tasks = false;
        }
        due
    }

    /// The reason why nothing can wake the job. A job that is asked to stop has its grace.
    fn stalled(&self) -> Option<&'static str> {
        let waits = self.timer.is_some() || self.supervisor.life.is_stopping();
        if waits { None } else { self.world.nothing_to_come() }
    }

    /// Ask a stalled job for its tasks, or end it once it has been asked. Whether there is one more step.
    fn ask_or_end(&mut self, state: &HostState, why: &str) -> bool {
        if self.asked_for_tasks {
            let detail = stall::detail(why, state.ids.open_count(), &self.supervisor.control.tasks());
            self.supervisor.handle_input(Input::Stalled { detail });
            return false;
        }
        self.asked_for_tasks = true;
        self.batch.push(Event::TasksWanted);
        true
    }

    /// Wait for whatever comes first. Control events first: a kill or a stop decides the verdict.
    async fn park(&mut self, state: &mut HostState, now: Instant) {
        let times = [self.timer, self.supervisor.life.wake_at(), self.world.wake_at()];
        let next = times.into_iter().flatten().min();
        if let Some(next) = next.filter(|_| self.supervisor.time.is_virtual()) {
            self.supervisor.control.clock.add_wait(next.saturating_duration_since(now));
            return self.supervisor.time.jump(next);
        }
        let sleep = self.supervisor.sleep_until(next);
        let control = self.supervisor.control.clone();
        self.batch.shrink_to(EVENTS_KEPT);
        state.calls.rest();
        control.begin_wait(self.timer, state.ids.open_count(), self.world.is_joined());
        let world = &mut *self.world;
        tokio::select! {
            biased;
            () = control.wait_for_events() => {}
            () = control.inbox.wait_for_event() => {}
            () = poll_fn(|context| world.poll_ready(context)) => {}
            () = sleep => {}
        }
        control.end_wait();
        self.slice_began = Instant::now();
        control.clock.add_wait(self.slice_began.saturating_duration_since(now));
    }

    /// Give up the core once the time slice is over. Returns the time of the job.
    async fn share_core(&mut self) -> Instant {
        let now = Instant::now();
        let is_over = now.saturating_duration_since(self.slice_began) >= self.supervisor.control.core_demand.slice();
        if is_over {
            tokio::task::yield_now().await;
            self.slice_began = Instant::now();
        }
        match self.supervisor.time {
            JobTime::Real if is_over => self.slice_began,
            JobTime::Real => now,
            JobTime::Virtual(_) => self.supervisor.time.now(),
        }
    }
}
