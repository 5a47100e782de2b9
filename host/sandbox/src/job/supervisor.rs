//! The shell round [`Life`]: runs the guest's calls, hears the news and the clock, and does what the life says.

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

use super::admission::Admitted;
use super::instance::{Instance, Template};
use super::run::{Crash, call, panic_text};
use super::script::{Scripted, play_during};
use super::teardown::Ended;
use super::{Input, Life, Notice, Output};
use crate::engine::Engine;
use crate::hostcalls::bindings::wasm_worker::agent::inbox::BudgetKind;
use crate::hostcalls::control::{Control, News};
use crate::hostcalls::meter;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::verdict::{Code, Verdict};

/// Run one job, admitted or assigned just now, to its end. A panic of the supervisor's own is the end of this job and of nothing else.
pub(crate) async fn supervise(admitted: Admitted, created: Instant, events: Arc<Events>) -> JobRecord {
    let Admitted { offer, acceptance, template, mut instance } = admitted;
    let (life, first) = Life::begin(template.limits.clone(), created);
    let mut supervisor = Supervisor {
        life,
        control: instance.control(),
        events,
        agent: offer.info.agent_name.clone(),
        job: offer.info.id.clone(),
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
    super::teardown::close(ended, &supervisor.events)
}

/// What happens to a job beside its guest.
enum Other {
    News,
    Time,
}

struct Supervisor {
    life: Life,
    control: Arc<Control>,
    events: Arc<Events>,
    agent: String,
    job: String,
    room: String,
    attempt: u32,
    /// For the runtime on which this job's deadlines fire, and the end of the epoch in which it is killed.
    engine: Engine,
    /// Set when the life wants `shutdown` called.
    shutdown_reason: Option<String>,
    /// Set once, when the life has closed.
    verdict: Option<Verdict>,
}

impl Supervisor {
    /// From the admission to the verdict. `None` once the life has closed early.
    async fn live(&mut self, instance: &mut Instance, template: &Template, script: &[Scripted]) -> Option<()> {
        self.step(instance.instantiate(template), |()| Input::InstanceMade).await?;
        self.step(instance.prewarm(template), |()| Input::StateReady).await?;
        if let Err(crash) = instance.reset_bill() {
            self.feed(Input::Crashed(crash));
            return None;
        }
        self.feed(Input::Launched);
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

    /// Run one call into the guest, and meanwhile whatever else the job needs. `None` once the life has closed.
    async fn step<T>(
        &mut self,
        guest: impl Future<Output = Result<T, Crash>>,
        returned: impl FnOnce(T) -> Input,
    ) -> Option<()> {
        let mut guest = pin!(guest);
        let mut had_its_turn = false;
        let result = loop {
            let control = self.control.clone();
            let wake = self.wake();
            let mut other = pin!(async {
                // A kill or a stop that was asked for before the deadline came first.
                tokio::select! {
                    biased;
                    () = control.news() => Other::News,
                    () = wake => Other::Time,
                }
            });
            let happened = poll_fn(|cx| {
                // A run that has finished beats a deadline that has passed.
                if !std::mem::take(&mut had_its_turn)
                    && let Poll::Ready(result) = guest.as_mut().poll(cx)
                {
                    return Poll::Ready(Ok(result));
                }
                other.as_mut().poll(cx).map(Err)
            });
            match happened.await {
                Ok(result) => break result,
                Err(Other::News) => self.take_news(),
                Err(Other::Time) => self.feed(Input::TimeUp),
            }
            if self.verdict.is_some() {
                return None;
            }
            // With many that run, a second turn for each that is warned would hold up the next kill. One that is to die goes on.
            had_its_turn = control.check_kill().is_ok();
        };
        // A warning that the guest caused on its last stretch comes before its end.
        self.take_news();
        let input = match result {
            Ok(value) => returned(value),
            Err(crash) => Input::Crashed(crash),
        };
        self.feed(input);
        self.verdict.is_none().then_some(())
    }

    fn take_news(&mut self) {
        for news in self.control.take_news() {
            self.feed(match news {
                News::Stop { by, reason } => Input::StopAsked { by, reason },
                News::Kill => Input::KillAsked,
                News::Warning(warning) => Input::Warned(warning),
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

    fn feed(&mut self, input: Input) {
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
        let (agent, job) = (self.agent.clone(), self.job.clone());
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
