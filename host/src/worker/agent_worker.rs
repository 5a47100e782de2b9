//! The worker of one agent: its connection to the server, and the shell around the pure protocol session.
//!
//! Events from the link, the jobs, the agent and the clock become inputs of the [`Session`], and its outputs are executed here.
//! The jobs themselves are in [`super::jobs`], the agent and its health in [`super::reload`], the drain in [`super::drain`].

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use wasm_worker_core::event::Event;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::usage::millis;
use wasm_worker_protocol::registration::Registration;
use wasm_worker_protocol::worker_session::{Answer, Input, Output, Session};

use super::agent_source::AgentSource;
use super::context::WorkerContext;
use super::control_signal::ControlSignal;
use super::drain::{CutShort, Drain, DrainStage};
use super::jobs::{Jobs, RoomsOfAgent};
use super::link::{Link, LinkEvent, Server};
use super::moderator::ServerModerator;
use super::offers::JobEvent;
use super::reload::{LoadedAgent, ReloadableAgent};
use super::status::AgentEntry;
use crate::config::Config;

/// The outcome of a worker, or of one of its agents.
#[derive(Debug, Default)]
pub(crate) struct WorkerOutcome {
    pub(crate) cut_short: CutShort,
    /// The reason why the server was given up, if it was.
    pub(crate) gave_up: Option<String>,
}

/// One agent with its connection and its jobs.
pub(crate) struct AgentWorker {
    session: Session,
    link: Link,
    agent: ReloadableAgent,
    jobs: Jobs,
    drain: Drain,
    context: WorkerContext,
    entry: AgentEntry,
    /// Notifies of each new measurement of the load.
    samples: watch::Receiver<()>,
    /// The reason why the server was given up.
    gave_up: Option<String>,
}

impl AgentWorker {
    /// A worker for an agent whose first load ended. A load that failed is tried again later.
    pub(crate) fn new(
        source: AgentSource,
        loaded: LoadedAgent,
        server: Server,
        registration: Registration,
        config: &Config,
        context: WorkerContext,
    ) -> Self {
        let WorkerContext { events, admission, status, control, guests, rooms, .. } = context.clone();
        let entry = status.enter(&source.name);
        let samples = admission.samples();
        let moderator = source.config.moderate.then(|| ServerModerator::shared(server.clone(), control.clone()));
        let rooms = RoomsOfAgent { opener: rooms, server_url: server.url(), moderator };
        let named = (source.name.clone(), source.config.quotas);
        let jobs = Jobs::new(named, events.clone(), admission, status, (control.clone(), guests), rooms);
        Self {
            session: Session::new(registration, Instant::now()),
            link: Link::new(server, config.max_retry),
            agent: ReloadableAgent::new(source, loaded, events, entry.clone(), control),
            jobs,
            drain: Drain::new(config.drain, config.drain_timeout),
            context,
            entry,
            samples,
            gave_up: None,
        }
    }

    fn name(&self) -> &String {
        self.agent.name()
    }

    fn publish(&self, event: &Event) {
        self.context.events.publish(event);
    }

    /// Serve until a drain is over.
    pub(crate) async fn serve(mut self, mut signals: mpsc::Receiver<ControlSignal>) -> WorkerOutcome {
        let mut alarm = std::pin::pin!(sleep(Duration::ZERO));
        let mut events = Vec::new();
        while !self.is_over() {
            let wake_at = self.wake_at();
            if let Some(at) = wake_at.filter(|at| *at != alarm.deadline()) {
                alarm.as_mut().reset(at);
            }
            tokio::select! {
                // A signal must not wait behind a thousand offers, nor the end of a job behind the next offer. A load is rare.
                biased;
                Some(signal) = signals.recv() => self.on_signal(signal).await,
                loaded = self.agent.next_loaded() => self.on_loaded(loaded).await,
                () = self.jobs.next_events(&mut events) => for event in events.drain(..) {
                    self.on_job_event(event).await;
                },
                event = self.link.next_event() => {
                    let outputs = self.on_link_event(event);
                    self.execute(outputs).await;
                }
                () = &mut alarm, if wake_at.is_some() => self.on_wake().await,
                Ok(()) = self.samples.changed() => self.on_sample().await,
            }
            self.flush().await;
        }
        for job in self.session.unread() {
            tracing::error!(target: "host", agent = self.name(), job, "the server may not know the end of this job");
        }
        self.agent.abort();
        let cut_short = self.drain.cut_short();
        self.link.close().await;
        let agent = self.agent.name().clone();
        self.context.events.publish(&Event::WorkerDrained { agent, cut_short: cut_short.jobs });
        WorkerOutcome { cut_short, gave_up: self.gave_up }
    }

    fn is_over(&mut self) -> bool {
        let jobs = self.session.jobs() + self.jobs.running_count();
        let reports_read = self.session.is_done() || self.gave_up.is_some();
        let now = Instant::now();
        self.entry.begin_round(now, self.drain.is_over(now, jobs, reports_read))
    }

    fn wake_at(&self) -> Option<Instant> {
        self.session.wake_at().into_iter().chain(self.drain.wake_at()).chain(self.agent.wake_at()).min()
    }

    async fn on_signal(&mut self, signal: ControlSignal) {
        match (signal, self.drain.has_begun()) {
            (ControlSignal::Reload, _) => self.agent.reload(),
            (ControlSignal::Stop, true) => self.escalate(DrainStage::Kill),
            (ControlSignal::Drain, true) => {}
            (ControlSignal::Stop | ControlSignal::Drain, false) => {
                let outputs = self.start_drain();
                self.execute(outputs).await;
            }
        }
    }

    fn start_drain(&mut self) -> Vec<Output> {
        let now = Instant::now();
        let stage = self.drain.begin(now);
        self.agent.refuse_reloads();
        self.context.status.start_drain();
        self.publish(&Event::WorkerDraining { agent: self.name().clone(), jobs: self.jobs.running_count() });
        let outputs = self.session.advance(now, Input::Drain);
        self.escalate(stage);
        outputs
    }

    fn escalate(&mut self, stage: DrainStage) {
        if self.drain.escalate(stage, self.jobs.running_count()) {
            self.jobs.apply_to_all(stage);
        }
    }

    async fn on_wake(&mut self) {
        let now = Instant::now();
        if self.drain.is_timeout_over(now) {
            self.escalate(DrainStage::Ask);
        }
        self.agent.end_pause(now);
        self.handle_input(Input::TimeUp).await;
    }

    async fn on_sample(&mut self) {
        self.agent.check_file();
        self.jobs.observe_costs(Instant::now());
        // The load may have changed.
        self.execute(Vec::new()).await;
    }

    async fn on_loaded(&mut self, loaded: LoadedAgent) {
        self.agent.on_loaded(loaded);
        // The capacity may have changed.
        self.execute(Vec::new()).await;
    }

    async fn on_job_event(&mut self, event: JobEvent) {
        match event {
            JobEvent::Decided { job, outcome: Ok(_) } if !self.session.is_deciding(&job) => {
                self.jobs.publish_withdrawn(job, "the job was accepted too late");
            }
            JobEvent::Decided { job, outcome: Ok(accepted) } => {
                // A worker that is full now reports it before the server has a reason to offer more.
                self.execute(Vec::new()).await;
                let acceptance = self.jobs.accept(job.clone(), *accepted);
                let answer = Answer::Accepted(Box::new(acceptance));
                self.handle_input(Input::Answered { job, answer }).await;
            }
            JobEvent::Decided { job, outcome: Err(Refusal { terminate, verdict, .. }) } => {
                if let Some(verdict) = verdict {
                    self.agent.record(verdict.code);
                }
                self.handle_input(Input::Answered { job, answer: Answer::Refused { terminate } }).await;
            }
            JobEvent::Ended { job, ended } => {
                let end = self.jobs.ended(&job, ended.as_ref());
                if let Some((record, _)) = ended {
                    self.agent.record(record.verdict.code);
                    self.drain.job_ended(record.verdict.code);
                }
                self.handle_input(Input::Ended { job, end }).await;
            }
        }
    }

    fn on_link_event(&mut self, event: LinkEvent) -> Vec<Output> {
        let now = Instant::now();
        match event {
            LinkEvent::Connected => self.session.advance(now, Input::Connected),
            LinkEvent::Frame(frame) => self.session.advance(now, Input::Frame(*frame)),
            LinkEvent::Heartbeat => self.session.advance(now, Input::Heartbeat),
            LinkEvent::Lost { why, retry } => self.link_lost(why, Some(millis(retry))),
            LinkEvent::GaveUp { why } => {
                self.entry.set_given_up();
                let mut outputs = self.link_lost(why.clone(), None);
                self.gave_up = Some(why);
                if !self.drain.has_begun() {
                    outputs.extend(self.start_drain());
                }
                outputs
            }
        }
    }

    fn link_lost(&mut self, why: String, retry_ms: Option<u64>) -> Vec<Output> {
        self.entry.set_worker_id(None);
        self.publish(&Event::LinkLost { agent: self.name().clone(), why, retry_ms });
        self.session.advance(Instant::now(), Input::Disconnected)
    }

    async fn handle_input(&mut self, input: Input) {
        let outputs = self.session.advance(Instant::now(), input);
        self.execute(outputs).await;
    }

    /// Execute outputs and those that follow from them.
    async fn execute(&mut self, outputs: Vec<Output>) {
        let mut pending = VecDeque::from(outputs);
        loop {
            while let Some(output) = pending.pop_front() {
                match self.execute_one(output).await {
                    Ok(outputs) => pending.extend(outputs),
                    Err(event) => pending.extend(self.on_link_event(event)),
                }
            }
            pending.extend(self.report_capacity());
            if pending.is_empty() {
                return;
            }
        }
    }

    /// Flush the messages that were sent. Those of several events share one flush.
    async fn flush(&mut self) {
        if let Err(event) = self.link.flush().await {
            let outputs = self.on_link_event(event);
            self.execute(outputs).await;
        }
    }

    async fn execute_one(&mut self, output: Output) -> Result<Vec<Output>, LinkEvent> {
        match output {
            // A message for a connection that failed in the meantime has no receiver.
            Output::Send(message) if self.link.is_up() => self.link.send(message).await?,
            // The session keeps the report of an end until the server has confirmed it.
            Output::Report(report) if self.link.is_up() => self.link.report(&report).await?,
            Output::Status(status) if self.link.is_up() => self.link.status(&status).await?,
            Output::Ping => self.link.ping().await?,
            // A connection that is down already is not lost a second time.
            Output::Close { why } if self.link.is_up() => return Err(self.link.lost(why)),
            Output::Send(_) | Output::Report(_) | Output::Status(_) | Output::Close { .. } => {}
            Output::Offer(job) => {
                let agent = self.agent.available().cloned();
                if let Err(Refusal { terminate, .. }) = self.jobs.offer(agent, &job, self.session.jobs()) {
                    let answer = Answer::Refused { terminate };
                    return Ok(self.session.advance(Instant::now(), Input::Answered { job: job.id, answer }));
                }
            }
            Output::Launch { job, access } => self.jobs.launch(job, access, || self.drain.late_job()),
            Output::Withdraw { job, why } => {
                // An agent that still decides holds nothing to release.
                if self.jobs.take_accepted(&job).is_some() {
                    self.jobs.publish_withdrawn(job, why);
                }
            }
            Output::Refused { job, reason, why } => self.jobs.publish_refusal(job, &Refusal::new(reason, why)),
            Output::Stop { job } => self.jobs.stop(&job),
            Output::Registered { worker, server } => self.registered(worker, server),
            Output::Warn(what) => tracing::warn!(target: "host", agent = self.name(), "{what}"),
        }
        Ok(Vec::new())
    }

    fn registered(&mut self, worker: String, server: String) {
        let again = self.link.registered();
        self.entry.set_worker_id(Some(worker.clone()));
        let agent = self.name().clone();
        self.publish(&Event::WorkerRegistered { agent: agent.clone(), worker, server });
        if again {
            self.publish(&Event::LinkRestored { agent });
        }
    }

    fn report_capacity(&mut self) -> Vec<Output> {
        let own = self.jobs.scarcity_of_agent(self.agent.available().is_some(), self.session.jobs());
        let fullness = self.context.admission.fullness().of_agent(own);
        self.session.set_scarcity(Some(fullness.scarcity()));
        // The slots that are released in a drain take no new job.
        if !self.drain.has_begun() {
            self.jobs.publish_fullness(fullness);
        }
        let (utilisation, load) = fullness.shares();
        self.session.advance(Instant::now(), Input::Load { utilisation, load })
    }
}
