//! A worker of a LiveKit server, for one agent: start → serve → drain → stop. The session decides; here are the agent, the jobs
//! and the signals.
//!
//! Bounds: `max-jobs` jobs, offers that are being decided on included; an offer waits [`ROOM_WITHIN`] for room; a drain takes
//! `drain-timeout`, the grace of the jobs that are left then, and [`FLUSH_WITHIN`] for the last reports.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use proto::worker_message::Message as ToServer;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};

use crate::agent::{Accepted, Agent, JobHandle};
use crate::config::Config;
use crate::events::{Event, Events};
use crate::hostcalls::contract::JobInfo;
use crate::hostcalls::control::StopBy;
use crate::job::admission::{Offer, Refusal};
use crate::job::teardown::Closed;
use crate::job::verdict::Class;
use crate::livekit::link::{Link, News, Server};
use crate::livekit::session::{Answer, End, Input, Output, Registration, Session};
use crate::livekit::wire::job_info;
use crate::load::cpu::{CpuMonitor, SAMPLE_EVERY};
use crate::load::{Load, Sample};

/// Of the 2 s that an offer may take; the rest is the agent's.
const ROOM_WITHIN: Duration = Duration::from_millis(800);
/// For reports that a lost connection holds up: the longest pause between two attempts, and the attempt.
const FLUSH_WITHIN: Duration = Duration::from_secs(20);
/// Decisions and ends that wait for their turn; more of them wait where they are.
const QUEUE: usize = 1_024;

/// What a worker came to.
#[derive(Debug)]
pub(crate) struct Served {
    /// Jobs that were asked to stop or killed.
    pub(crate) cut_short: usize,
    /// Why the connection was given up, if it was.
    pub(crate) gave_up: Option<String>,
}

/// A worker that serves.
pub(crate) struct Worker {
    agent: Arc<Agent>,
    /// What it is registered under; the agent's own name where that is nothing.
    name: String,
    events: Arc<Events>,
    session: Session,
    link: Link,
    control: Handle,
    room: Arc<Semaphore>,
    load: Load,
    monitor: CpuMonitor,
    /// As it was last sampled.
    cpu: f64,
    load_log: Option<Duration>,
    logged: Instant,
    /// Accepted, and not assigned yet.
    accepted: HashMap<String, (Accepted, OwnedSemaphorePermit)>,
    running: HashMap<String, JobHandle>,
    sender: mpsc::Sender<FromJob>,
    full: bool,
    drain_timeout: Duration,
    draining: Option<Drain>,
    gave_up: Option<String>,
}

/// What a task of a job reports.
enum FromJob {
    Decided { job: String, outcome: Result<(Accepted, OwnedSemaphorePermit), Refusal> },
    Ended { job: String, closed: Option<Box<Closed>> },
}

struct Drain {
    /// When jobs are asked to stop.
    until: Instant,
    stage: Stage,
    cut_short: usize,
    /// When nothing ran any more.
    idle: Option<Instant>,
}

/// What a drain does with the jobs that run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Wait,
    Ask,
    Kill,
}

impl Stage {
    /// Also for a job that was assigned just before.
    fn apply(self, job: &JobHandle) {
        match self {
            Self::Wait => {}
            Self::Ask => job.stop(StopBy::Drain, "the worker is being stopped"),
            Self::Kill => job.kill(),
        }
    }
}

impl Worker {
    pub(crate) fn new(
        agent: Agent,
        events: Arc<Events>,
        server: Server,
        registration: Registration,
        config: &Config,
        cores: Option<f64>,
        control: Handle,
    ) -> (Self, Queue) {
        let (sender, from_jobs) = mpsc::channel(QUEUE);
        let name = match registration.agent_name.as_str() {
            "" => agent.name(),
            name => name,
        };
        let name = name.to_owned();
        let worker = Self {
            agent: Arc::new(agent),
            name,
            events,
            session: Session::new(registration, Instant::now()),
            link: Link::new(server, config.max_retry),
            control,
            room: Arc::new(Semaphore::new(config.max_jobs)),
            load: Load::new(config.max_jobs, config.load_threshold),
            monitor: CpuMonitor::new(cores),
            cpu: 0.0,
            load_log: config.load_log,
            logged: Instant::now(),
            accepted: HashMap::new(),
            running: HashMap::new(),
            sender,
            full: false,
            drain_timeout: config.drain_timeout,
            draining: None,
            gave_up: None,
        };
        (worker, Queue(from_jobs))
    }

    /// Serve until a drain is over. The first `stop` begins it, the second kills what still runs.
    pub(crate) async fn serve(mut self, queue: Queue, mut stop: mpsc::Receiver<()>) -> Served {
        let Queue(mut from_jobs) = queue;
        let mut samples = tokio::time::interval(SAMPLE_EVERY);
        // One that comes late is not made up for: it would compare with a moment ago.
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over() {
            let wake = self.wake_at();
            let wake = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A signal is not to wait behind a thousand offers, nor the end of a job behind the next offer.
                biased;
                Some(()) = stop.recv() => self.stop().await,
                Some(report) = from_jobs.recv() => self.hear(report).await,
                news = self.link.news() => self.take(news).await,
                () = wake => self.time_up().await,
                _ = samples.tick() => self.sample().await,
            }
        }
        let cut_short = self.draining.as_ref().map_or(0, |drain| drain.cut_short);
        for job in self.session.undelivered() {
            tracing::error!(target: "host", agent = self.name, job, "the server does not know that this job has ended");
        }
        self.link.close().await;
        self.events.publish(&Event::WorkerDrained { agent: self.name.clone(), cut_short });
        Served { cut_short, gave_up: self.gave_up }
    }

    fn is_over(&mut self) -> bool {
        let Some(drain) = &mut self.draining else { return false };
        if self.session.jobs() > 0 || !self.running.is_empty() {
            return false;
        }
        let idle = *drain.idle.get_or_insert_with(Instant::now);
        self.session.is_done() || self.gave_up.is_some() || idle + FLUSH_WITHIN <= Instant::now()
    }

    fn wake_at(&self) -> Option<Instant> {
        let drain = self.draining.as_ref().and_then(|drain| match drain.idle {
            Some(idle) => Some(idle + FLUSH_WITHIN),
            None => (drain.stage == Stage::Wait).then_some(drain.until),
        });
        self.session.wake_at().into_iter().chain(drain).min()
    }

    async fn stop(&mut self) {
        if self.draining.is_some() {
            self.cut_short(Stage::Kill);
            return;
        }
        let outputs = self.drain();
        self.perform(outputs).await;
    }

    fn drain(&mut self) -> Vec<Output> {
        let now = Instant::now();
        self.draining = Some(Drain { until: now + self.drain_timeout, stage: Stage::Wait, cut_short: 0, idle: None });
        self.events.publish(&Event::WorkerDraining { agent: self.name.clone(), jobs: self.running.len() });
        self.session.advance(now, Input::Drain)
    }

    fn cut_short(&mut self, stage: Stage) {
        if let Some(drain) = self.draining.as_mut().filter(|drain| drain.stage < stage) {
            drain.stage = stage;
            drain.cut_short = drain.cut_short.max(self.running.len());
            self.running.values().for_each(|job| stage.apply(job));
        }
    }

    async fn time_up(&mut self) {
        if self.draining.as_ref().is_some_and(|drain| drain.until <= Instant::now()) {
            self.cut_short(Stage::Ask);
        }
        self.feed(Input::TimeUp).await;
    }

    async fn hear(&mut self, report: FromJob) {
        match report {
            FromJob::Decided { job, outcome: Ok(_) } if !self.session.is_deciding(&job) => {
                self.withdrawn(job, "it was accepted too late");
            }
            FromJob::Decided { job, outcome: Ok((accepted, permit)) } => {
                let answer = Answer::Accepted(Box::new(accepted.acceptance.clone()));
                self.accepted.insert(job.clone(), (accepted, permit));
                self.feed(Input::Answered { job, answer }).await;
            }
            FromJob::Decided { job, outcome: Err(Refusal { terminate, .. }) } => {
                self.feed(Input::Answered { job, answer: Answer::Refused { terminate } }).await;
            }
            FromJob::Ended { job, closed } => {
                self.running.remove(&job);
                self.feed(Input::Ended { job, end: end_of(closed.as_deref()) }).await;
            }
        }
    }

    async fn take(&mut self, news: News) {
        let outputs = self.news(news);
        self.perform(outputs).await;
    }

    fn news(&mut self, news: News) -> Vec<Output> {
        let agent = self.name.clone();
        let now = Instant::now();
        match news {
            News::Connected => self.session.advance(now, Input::Connected),
            News::Frame(frame) => self.session.advance(now, Input::Frame(frame)),
            News::Heard => self.session.advance(now, Input::Heard),
            News::Lost { why, retry } => {
                let retry_ms = Some(u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
                self.events.publish(&Event::LinkLost { agent, why, retry_ms });
                self.session.advance(now, Input::Disconnected)
            }
            News::GaveUp { why } => {
                self.events.publish(&Event::LinkLost { agent, why: why.clone(), retry_ms: None });
                self.gave_up = Some(why);
                let mut outputs = self.session.advance(now, Input::Disconnected);
                if self.draining.is_none() {
                    outputs.extend(self.drain());
                }
                outputs
            }
        }
    }

    async fn feed(&mut self, input: Input) {
        let outputs = self.session.advance(Instant::now(), input);
        self.perform(outputs).await;
    }

    async fn perform(&mut self, outputs: Vec<Output>) {
        let mut left = VecDeque::from(outputs);
        loop {
            while let Some(output) = left.pop_front() {
                if let Err(news) = self.act(output).await {
                    left.extend(self.news(news));
                }
            }
            left.extend(self.load_changed());
            if left.is_empty() {
                return;
            }
        }
    }

    async fn act(&mut self, output: Output) -> Result<(), News> {
        match output {
            Output::Send(message) => return self.send(message).await,
            Output::Ping => return self.link.ping().await,
            // It may be gone meanwhile, and one loss is not to count twice.
            Output::Close { why } if self.link.is_up() => return Err(self.link.lost(why)),
            Output::Close { .. } => {}
            Output::Offer(job) => self.offer(&job),
            Output::Launch { job } => self.launch(job),
            Output::Withdraw { job, why } => self.withdraw(job, why),
            Output::Stop { job } => {
                if let Some(job) = self.running.get(&job) {
                    job.stop(StopBy::Dispatcher, "the server ended the job");
                }
            }
            Output::Registered { worker, server } => {
                self.link.registered();
                self.events.publish(&Event::WorkerRegistered { agent: self.name.clone(), worker, server });
            }
            Output::Odd(what) => tracing::warn!(target: "host", agent = self.name, "{what}"),
        }
        Ok(())
    }

    /// The end of a job is kept for the next connection when this one does not take it.
    async fn send(&mut self, message: ToServer) -> Result<(), News> {
        let report = match &message {
            ToServer::UpdateJob(report) => Some(report.clone()),
            _ => None,
        };
        // What was to be sent with the frame that failed finds no connection.
        let sent = if self.link.is_up() { Some(self.link.send(message).await) } else { None };
        if let (None | Some(Err(_)), Some(report)) = (&sent, report) {
            self.session.not_delivered(report);
        }
        sent.unwrap_or(Ok(()))
    }

    async fn sample(&mut self) {
        let now = Instant::now();
        self.cpu = self.monitor.sample(now);
        self.perform(Vec::new()).await;
        if self.load_log.is_some_and(|every| self.logged + every <= now) {
            self.logged = now;
            let sample = Sample { cpu: self.cpu, jobs: self.session.jobs() };
            let (load, cores) = (self.load.of(sample), self.monitor.cores());
            let (cpu, cores, load) = (format!("{:.2}", self.cpu), format!("{cores:.1}"), format!("{load:.2}"));
            tracing::info!(target: "host", agent = self.name, cpu, cores, jobs = sample.jobs, load, "worker.load");
        }
    }

    fn load_changed(&mut self) -> Vec<Output> {
        let jobs = self.session.jobs();
        let load = self.load.of(Sample { cpu: self.cpu, jobs });
        let full = load >= 1.0;
        if full != self.full {
            self.full = full;
            let (agent, cpu) = (self.name.clone(), self.cpu);
            self.events.publish(&match full {
                true => Event::WorkerFull { agent, jobs, cpu },
                false => Event::WorkerAvailable { agent, jobs, cpu },
            });
        }
        #[expect(clippy::cast_possible_truncation, reason = "a share for the server")]
        self.session.advance(Instant::now(), Input::Load(load as f32))
    }

    /// Ask the agent, once there is room, and tell this worker.
    fn offer(&self, job: &proto::Job) {
        let (agent, events, room, sender) =
            (self.agent.clone(), self.events.clone(), self.room.clone(), self.sender.clone());
        let info = JobInfo { agent_name: self.name.clone(), ..job_info(job) };
        let offer = Offer { info, participants: Vec::new(), script: Arc::default() };
        let busy = self.load.is_busy().then_some(self.cpu);
        self.control.spawn(async move {
            let job = offer.info.id.clone();
            let outcome = if let Some(cpu) = busy {
                let detail = format!("{:.0} % of the cores are in use, past `load-threshold`", cpu * 100.0);
                Err(refuse(offer.info, Refusal::LOAD, detail, &events))
            } else if let Ok(Ok(permit)) = timeout(ROOM_WITHIN, room.acquire_owned()).await {
                agent.decide(offer, &events).await.map(|accepted| (accepted, permit))
            } else {
                let detail = format!("as many jobs as `max-jobs` allows, and no end of one within {ROOM_WITHIN:?}");
                Err(refuse(offer.info, Refusal::FULL, detail, &events))
            };
            drop(sender.send(FromJob::Decided { job, outcome }).await);
        });
    }

    fn launch(&mut self, job: String) {
        let Some((accepted, permit)) = self.accepted.remove(&job) else { return };
        let running = accepted.launch();
        if let Some(drain) = self.draining.as_mut().filter(|drain| drain.stage > Stage::Wait) {
            drain.cut_short += 1;
            drain.stage.apply(&running.handle());
        }
        self.running.insert(job.clone(), running.handle());
        let sender = self.sender.clone();
        self.control.spawn(async move {
            let closed = running.closed().await.map(Box::new);
            drop(permit);
            drop(sender.send(FromJob::Ended { job, closed }).await);
        });
    }

    fn withdraw(&mut self, job: String, why: &str) {
        // While the agent decides there is nothing yet to let go of.
        if self.accepted.remove(&job).is_some() {
            self.withdrawn(job, why);
        }
    }

    fn withdrawn(&self, job: String, why: &str) {
        self.events.publish(&Event::OfferRefused {
            agent: self.name.clone(),
            job,
            reason: Refusal::WITHDRAWN,
            detail: why.to_owned(),
            terminate: false,
        });
    }
}

/// What the tasks of jobs report to.
pub(crate) struct Queue(mpsc::Receiver<FromJob>);

fn refuse(job: JobInfo, reason: &'static str, detail: String, events: &Events) -> Refusal {
    let refusal = Refusal { reason, detail: detail.clone(), terminate: false, verdict: None };
    events.publish(&Event::OfferRefused { agent: job.agent_name, job: job.id, reason, detail, terminate: false });
    refusal
}

fn end_of(closed: Option<&Closed>) -> End {
    match closed {
        None => End::Failed("host-fault: the runtime of the guests is gone".into()),
        Some(Closed { verdict, .. }) if verdict.code.class() == Class::Ok => End::Success,
        Some(Closed { verdict, .. }) => End::Failed(format!("{}: {}", verdict.code, verdict.detail)),
    }
}
