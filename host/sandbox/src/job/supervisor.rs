//! The shell around [`Life`]: runs the calls into the guest, receives control events and timers, and carries out the outputs.
//!
//! Not here: the steps of a job and the waits between them (`steps`).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::job::JobInfo;
use wasm_worker_core::observer::Events;
use wasm_worker_core::usage::micros;
use wasm_worker_core::verdict::Verdict;

use super::instance::{Instance, Template};
use super::life::Life;
use super::run::{Crash, KILL_GRACE};
use super::step::{Input, Notice, Output};
use super::time::JobTime;
use crate::engine::Engine;
use crate::guest::control::{Control, ControlEvent};
use crate::guest::kill::{Budget, Warning};

/// Something that happens while the guest runs.
enum Other {
    /// Control events are there.
    Control,
    /// The time of the life's next wake-up has come.
    Time,
}

/// Runs one job.
pub(super) struct Supervisor {
    pub(super) life: Life,
    pub(super) control: Arc<Control>,
    /// The clock of the job.
    pub(super) time: JobTime,
    events: Arc<Events>,
    agent: String,
    room: String,
    attempt: u32,
    /// Has the runtime of timers, and ends the epoch after a kill.
    engine: Engine,
    /// Set once, when the life has closed.
    verdict: Option<Verdict>,
}

impl Supervisor {
    /// The supervisor of a job that is admitted.
    pub(super) fn new(
        info: &JobInfo,
        template: &Template,
        control: Arc<Control>,
        time: JobTime,
        created: Instant,
        events: Arc<Events>,
    ) -> Self {
        let (life, first) = Life::begin(info.id.clone(), template.limits.clone(), created);
        let mut supervisor = Self {
            life,
            control,
            time,
            events,
            agent: info.agent_name.clone(),
            room: info.room.name.clone(),
            attempt: info.attempt,
            engine: template.engine.clone(),
            verdict: None,
        };
        supervisor.perform(vec![first]);
        supervisor
    }

    /// Take the verdict, once the life has closed.
    pub(super) fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// From the admission, which has made and prewarmed the instance, to the launch. `None` once the life has closed early.
    pub(super) fn begin(&mut self, instance: &mut Instance) -> Option<()> {
        self.take_events();
        self.handle_input(Input::InstanceMade);
        self.handle_input(Input::StateReady);
        self.is_open()?;
        if let Err(crash) = instance.reset_use() {
            self.handle_input(Input::Crashed(crash));
            return None;
        }
        self.handle_input(Input::Launched);
        Some(())
    }

    /// Run one call into the guest, and handle control events and timers meanwhile. `None` once the life has closed.
    pub(super) async fn drive<T>(
        &mut self,
        mut guest: Pin<&mut impl Future<Output = Result<T, Crash>>>,
        returned: impl FnOnce(T) -> Input,
    ) -> Option<()> {
        // Most steps return within their first time slice.
        let result = match poll_fn(|cx| Poll::Ready(guest.as_mut().poll(cx))).await {
            Poll::Ready(result) => result,
            Poll::Pending => self.drive_on(guest).await?,
        };
        // A warning from the last time slice comes before the end.
        self.take_events();
        let input = match result {
            Ok(value) => returned(value),
            Err(crash) => Input::Crashed(crash),
        };
        self.handle_input(input);
        self.is_open()
    }

    /// Run a call that has used up its first time slice.
    async fn drive_on<T>(&mut self, mut guest: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut guest_ran = true;
        loop {
            let control = self.control.clone();
            let wake = self.sleep_while_guest_runs();
            let mut other = pin!(async {
                // Control events first: a kill or a stop before the deadline decides the verdict.
                tokio::select! {
                    biased;
                    () = control.wait_for_events() => Other::Control,
                    () = wake => Other::Time,
                }
            });
            let happened = poll_fn(|cx| {
                // A finished run beats a late deadline.
                if !std::mem::take(&mut guest_ran)
                    && let Poll::Ready(result) = guest.as_mut().poll(cx)
                {
                    return Poll::Ready(Ok(result));
                }
                other.as_mut().poll(cx).map(Err)
            });
            match happened.await {
                Ok(result) => return Some(result),
                Err(Other::Control) => self.take_events(),
                Err(Other::Time) => {
                    if let Some(due) = self.life.wake_at() {
                        self.time.jump(due);
                    }
                    self.handle_input(Input::TimeUp);
                }
            }
            self.is_open()?;
            // While many guests run, a second time slice for each guest with a warning would delay the next kill. A guest that
            // is to be killed runs on, to notice it.
            guest_ran = control.check_kill().is_ok();
            if !guest_ran {
                self.engine.end_epoch();
            }
        }
    }

    /// Handle the control events that are there.
    pub(super) fn take_events(&mut self) {
        for event in self.control.take_events() {
            self.handle_input(match event {
                ControlEvent::Stop { by, reason } => Input::StopAsked { by, reason },
                ControlEvent::Kill => Input::KillAsked,
                ControlEvent::Warning(warning) => Input::Warned(warning),
            });
        }
    }

    /// `None` once the life has closed.
    pub(super) fn is_open(&self) -> Option<()> {
        self.verdict.is_none().then_some(())
    }

    /// Sleep on the runtime of timers; without a time for ever.
    pub(super) fn sleep_until(&self, time: Option<Instant>) -> impl Future<Output = ()> + use<> {
        let _timers = self.engine.timers().enter();
        let sleep = time.map(tokio::time::sleep_until);
        async {
            match sleep {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Sleep until the next time of the life while a guest runs. Virtual time stands still then, but a guest that is to be
    /// killed has no more of the machine's time than any other.
    fn sleep_while_guest_runs(&self) -> impl Future<Output = ()> + use<> {
        self.sleep_until(match self.time.is_virtual() {
            false => self.life.wake_at(),
            true => self.life.is_killing().then(|| Instant::now() + KILL_GRACE),
        })
    }

    /// Have the life handle an input, and carry out its outputs.
    pub(super) fn handle_input(&mut self, input: Input) {
        let outputs = self.life.advance(self.time.now(), input);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Publish(notice) => self.events.publish(&self.event_of(notice)),
                Output::AskGuestToStop { by, reason, grace } => {
                    self.control.inbox.stop(by.as_str(), reason, self.time.now() + grace);
                }
                Output::WarnOfTime { used, limit } => {
                    let (used, limit) = (micros(used) / 1_000, micros(limit) / 1_000);
                    self.control.warn(Warning::Budget { budget: Budget::Time, used, limit });
                }
                Output::KillGuest(kill) => self.control.kill(kill),
                Output::Close(verdict) => self.verdict = Some(verdict),
            }
        }
    }

    fn event_of(&self, notice: Notice) -> Event {
        let (agent, job) = (self.agent.clone(), self.life.job().to_owned());
        match notice {
            Notice::Created => Event::JobCreated { agent, job, room: self.room.clone(), attempt: self.attempt },
            Notice::Started => Event::JobStarted { agent, job },
            Notice::Ready => Event::JobReady { agent, job },
            Notice::Launched => Event::JobLaunched { agent, job },
            Notice::Warning { about, detail } => Event::JobWarning { agent, job, about, detail },
            Notice::Killed { code, detail } => Event::JobKilled { agent, job, code, detail },
        }
    }
}
