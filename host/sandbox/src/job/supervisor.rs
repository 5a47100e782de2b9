//! The shell around [`Life`]: runs the calls into the guest, receives control events and timers, and carries out the outputs.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::usage::micros;

use super::instance::{Instance, Template};
use super::life::Life;
use super::offer::Admitted;
use super::run::{Crash, call, panic_text};
use super::script::{Scripted, play_during};
use super::step::{Input, Notice, Output};
use super::teardown::{self, Ended};
use crate::engine::Engine;
use crate::guest::bindings::wasm_worker::agent::inbox::BudgetKind;
use crate::guest::control::{Control, ControlEvent};
use crate::guest::meter;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::verdict::{Code, Verdict};

/// Run one job to its end. A panic of the supervisor ends this job and nothing else.
pub(super) async fn supervise(admitted: Admitted, created: Instant, events: Arc<Events>) -> JobRecord {
    let Admitted { offer, acceptance, template, mut instance } = admitted;
    let (life, first) = Life::begin(offer.info.id.clone(), template.limits.clone(), created);
    let mut supervisor = Supervisor {
        life,
        control: instance.control(),
        events,
        agent: offer.info.agent_name.clone(),
        room: offer.info.room.name.clone(),
        attempt: offer.info.attempt,
        engine: template.engine.clone(),
        shutdown_reason: None,
        verdict: None,
    };
    let lived = AssertUnwindSafe(async {
        supervisor.perform(vec![first]);
        supervisor.live(&mut instance, &template, &offer.script).await;
    });
    let fault = lived.catch_unwind().await.err();
    let verdict = match (fault, supervisor.verdict.take()) {
        (Some(panic), _) => Verdict::new(Code::HostFault, format!("the supervisor panicked: {}", panic_text(&*panic))),
        (None, Some(verdict)) => verdict,
        (None, None) => Verdict::new(Code::HostFault, "the supervisor ended without a verdict"),
    };
    let start_us = supervisor.life.launched().map(|at| micros(at - created));
    let ended = Ended { info: offer.info, acceptance, instance, verdict, created, start_us };
    teardown::close(ended, &supervisor.events)
}

/// Something that happens while the guest runs.
enum Other {
    /// Control events are there.
    Control,
    /// The time of the life's next wake-up has come.
    Time,
}

struct Supervisor {
    life: Life,
    control: Arc<Control>,
    events: Arc<Events>,
    agent: String,
    room: String,
    attempt: u32,
    /// Has the runtime of timers, and ends the epoch after a kill.
    engine: Engine,
    /// Set when the life asks for a call to `shutdown`.
    shutdown_reason: Option<String>,
    /// Set once, when the life has closed.
    verdict: Option<Verdict>,
}

impl Supervisor {
    /// From the admission to the verdict. `None` once the life has closed early.
    async fn live(&mut self, instance: &mut Instance, template: &Template, script: &[Scripted]) -> Option<()> {
        self.step(instance.instantiate(template), |()| Input::InstanceMade).await?;
        self.step(instance.prewarm(template), |()| Input::StateReady).await?;
        if let Err(crash) = instance.reset_use() {
            self.handle_input(Input::Crashed(crash));
            return None;
        }
        self.handle_input(Input::Launched);
        instance.store.data_mut().meter.launched = self.life.launched();

        let control = self.control.clone();
        let Instance { store, agent: Some(agent), .. } = instance else { return None };
        let entrypoint = async {
            let run = call(&control, agent.call_entrypoint(&mut *store));
            play_during(script, &control, run).await
        };
        self.step(entrypoint, Input::EntrypointReturned).await?;
        if let Some(reason) = self.shutdown_reason.take() {
            self.control.clock.call_begins();
            let shutdown = call(&control, agent.call_shutdown(&mut *store, &reason));
            self.step(shutdown, |()| Input::ShutdownReturned).await?;
        }
        Some(())
    }

    /// Run one call into the guest, and handle control events and timers meanwhile. `None` once the life has closed.
    async fn step<T>(
        &mut self,
        guest: impl Future<Output = Result<T, Crash>>,
        returned: impl FnOnce(T) -> Input,
    ) -> Option<()> {
        let mut guest = pin!(guest);
        let mut guest_ran = false;
        let result = loop {
            let control = self.control.clone();
            let wake = self.wake();
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
                Ok(result) => break result,
                Err(Other::Control) => self.take_events(),
                Err(Other::Time) => self.handle_input(Input::TimeUp),
            }
            if self.verdict.is_some() {
                return None;
            }
            // While many guests run, a second time slice for each guest with a warning would delay the next kill. A guest that
            // is to be killed runs on, to notice it.
            guest_ran = control.check_kill().is_ok();
        };
        // A warning from the last time slice comes before the end.
        self.take_events();
        let input = match result {
            Ok(value) => returned(value),
            Err(crash) => Input::Crashed(crash),
        };
        self.handle_input(input);
        self.verdict.is_none().then_some(())
    }

    fn take_events(&mut self) {
        for event in self.control.take_events() {
            self.handle_input(match event {
                ControlEvent::Stop { by, reason } => Input::StopAsked { by, reason },
                ControlEvent::Kill => Input::KillAsked,
                ControlEvent::Warning(warning) => Input::Warned(warning),
            });
        }
    }

    fn wake(&self) -> impl Future<Output = ()> + use<> {
        let _timers = self.engine.timers().enter();
        let sleep = self.life.wake_at().map(tokio::time::sleep_until);
        async {
            match sleep {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Have the life handle an input, and carry out its outputs.
    fn handle_input(&mut self, input: Input) {
        let outputs = self.life.advance(Instant::now(), input);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Publish(notice) => self.events.publish(&self.event_of(notice)),
                Output::AskGuestToStop { reason, grace } => {
                    self.control.inbox.stop(reason, Instant::now() + grace);
                }
                Output::WarnOfTime { used, limit } => {
                    let millis = |time: Duration| micros(time) / 1_000;
                    self.control.warn(meter::budget_warning(BudgetKind::Time, millis(used), millis(limit)));
                }
                Output::CallShutdown { reason } => self.shutdown_reason = Some(reason),
                Output::KillGuest(kill) => {
                    self.control.kill(kill);
                    self.engine.end_epoch();
                }
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
