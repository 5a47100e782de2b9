//! One agent of a worker process, as the server knows it: its own connection and registration. The session decides; here are
//! the agent and its jobs.
//!
//! Bounds: those of the [`Room`]; a drain takes `drain-timeout`, the grace of the jobs that are left then, and [`FLUSH_WITHIN`]
//! for the last reports.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use proto::worker_message::Message as ToServer;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use wasm_worker_core::event::Event;
use wasm_worker_core::job::JobInfo;
use wasm_worker_core::load::Resource;
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::registration::Registration;
use wasm_worker_protocol::report::{self, JobEnd};
use wasm_worker_protocol::wire::job_info;
use wasm_worker_protocol::worker_session::{Answer, Input, Output, Session};
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::launch::{Accepted, JobHandle};
use wasm_worker_sandbox::job::offer::Offer;

use super::Order;
use super::health::{Health, State};
use super::link::{Link, News, Server};
use super::loading::{LoadError, Loading, Stamp};
use super::room::{Permit, Room};
use super::roster::{self, Roster};
use crate::config::{Config, DrainPolicy};
use crate::load::predict::{Cost, Costs};

/// For reports that a lost connection holds up: the longest pause between two attempts, and the attempt.
const FLUSH_WITHIN: Duration = Duration::from_secs(20);
/// Decisions and ends that wait for their turn; more of them wait where they are.
const QUEUE: usize = 1_024;

/// What serving came to.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Jobs that were asked to stop or killed.
    pub(crate) cut_short: usize,
    /// Why the connection was given up, if it was.
    pub(crate) gave_up: Option<String>,
}

/// An agent behind a server.
pub(crate) struct Member {
    loading: Arc<Loading>,
    /// None where it could not be loaded yet.
    agent: Option<Arc<Agent>>,
    /// Loads it again.
    reloading: Option<AbortHandle>,
    /// Whether it is to be loaded once more after that: it may have changed after it was read.
    reload_again: bool,
    /// Its file, as it was when it was loaded, and as it was last seen.
    file: (Option<Stamp>, Option<Stamp>),
    health: Health,
    costs: Costs,
    events: Arc<Events>,
    session: Session,
    link: Link,
    control: Handle,
    room: Arc<Room>,
    samples: watch::Receiver<()>,
    roster: Arc<Roster>,
    /// Its place in the roster.
    place: usize,
    /// Accepted, and not assigned yet.
    accepted: HashMap<String, Held>,
    running: HashMap<String, (Instant, JobHandle)>,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    fullness: Told,
    drain: (DrainPolicy, Duration),
    draining: Option<Drain>,
    gave_up: Option<String>,
}

/// What an accepted job holds.
struct Held {
    info: JobInfo,
    accepted: Accepted,
    permit: Permit,
}

/// What is reported from elsewhere.
enum Report {
    Decided { job: String, outcome: Result<Box<Held>, Refusal> },
    Ended { job: String, closed: Option<Arc<JobRecord>> },
    Loaded { loaded: Result<Box<Agent>, LoadError>, stamp: Option<Stamp> },
}

/// What the agents of one process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) events: Arc<Events>,
    pub(crate) room: Arc<Room>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) control: Handle,
}

/// Whether the worker is full, as it was last published. A worker with room for a few jobs changes that with each of them, and
/// the server is told each time; whoever reads events is told once in [`Told::EVERY`].
#[derive(Default)]
struct Told {
    full: bool,
    at: Option<Instant>,
}

impl Told {
    const EVERY: Duration = Duration::from_secs(1);

    fn is_news(&mut self, full: bool, now: Instant) -> bool {
        let news = full != self.full && self.at.is_none_or(|at| at + Self::EVERY <= now);
        if news {
            (self.full, self.at) = (full, Some(now));
        }
        news
    }
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

impl Member {
    /// An agent that has been loaded, or that may be another time; with what its file was before it was read.
    pub(crate) fn new(
        loading: Loading,
        (loaded, stamp): (Result<Agent, LoadError>, Option<Stamp>),
        server: Server,
        registration: Registration,
        config: &Config,
        shared: Shared,
    ) -> Self {
        let (sender, reports) = mpsc::channel(QUEUE);
        let Shared { events, room, roster, control } = shared;
        let now = Instant::now();
        let place = roster.join(&loading.name);
        let mut member = Self {
            agent: None,
            reloading: None,
            reload_again: false,
            file: (stamp, stamp),
            health: Health::new(loading.config.failures_max),
            costs: Costs::default(),
            events,
            session: Session::new(registration, now),
            link: Link::new(server, config.max_retry),
            control,
            samples: room.samples(),
            room,
            roster,
            place,
            accepted: HashMap::new(),
            running: HashMap::new(),
            sender,
            reports,
            fullness: Told::default(),
            drain: (config.drain, config.drain_timeout),
            draining: None,
            gave_up: None,
            loading: Arc::new(loading),
        };
        member.loaded(loaded, stamp);
        member
    }

    fn name(&self) -> &String {
        &self.loading.name
    }

    /// Serve until a drain is over. The first [`Order::Stop`] begins it, the second kills what still runs.
    pub(crate) async fn serve(mut self, mut orders: mpsc::Receiver<Order>) -> Served {
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
                Some(order) = orders.recv() => self.obey(order).await,
                Some(report) = self.reports.recv() => self.hear(report).await,
                news = self.link.news() => self.take(news).await,
                () = wake => self.time_up().await,
                Ok(()) = self.samples.changed() => self.sampled().await,
            }
        }
        let cut_short = self.draining.as_ref().map_or(0, |drain| drain.cut_short);
        for job in self.session.unread() {
            tracing::error!(target: "host", agent = self.name(), job, "the server may not know that this job has ended");
        }
        if let Some(reloading) = self.reloading {
            reloading.abort();
        }
        self.link.close().await;
        self.events.publish(&Event::WorkerDrained { agent: self.loading.name.clone(), cut_short });
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
        self.session.wake_at().into_iter().chain(drain).chain(self.health.wake_at()).min()
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Reload => self.reload(),
            Order::Stop if self.draining.is_some() => self.cut_short(Stage::Kill),
            Order::Drain if self.draining.is_some() => {}
            Order::Stop | Order::Drain => {
                let outputs = self.start_drain();
                self.perform(outputs).await;
            }
        }
    }

    fn start_drain(&mut self) -> Vec<Output> {
        let now = Instant::now();
        let (policy, patience) = self.drain;
        self.draining = Some(Drain { until: now + patience, stage: Stage::Wait, cut_short: 0, idle: None });
        self.roster.drain();
        self.events.publish(&Event::WorkerDraining { agent: self.name().clone(), jobs: self.running.len() });
        let outputs = self.session.advance(now, Input::Drain);
        if policy == DrainPolicy::Ask {
            self.cut_short(Stage::Ask);
        }
        outputs
    }

    fn cut_short(&mut self, stage: Stage) {
        if let Some(drain) = self.draining.as_mut().filter(|drain| drain.stage < stage) {
            drain.stage = stage;
            drain.cut_short = drain.cut_short.max(self.running.len());
            self.running.values().for_each(|(_, job)| stage.apply(job));
        }
    }

    async fn time_up(&mut self) {
        let now = Instant::now();
        if self.draining.as_ref().is_some_and(|drain| drain.until <= now) {
            self.cut_short(Stage::Ask);
        }
        if self.health.time_up(now) {
            match self.agent {
                Some(_) => self.available(),
                None => self.reload(),
            }
        }
        self.feed(Input::TimeUp).await;
    }

    /// Load the agent again. What runs runs on; what loads worse than what is there is not taken.
    fn reload(&mut self) {
        if self.draining.is_some() {
            return;
        }
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        let (loading, sender) = (self.loading.clone(), self.sender.clone());
        let reloading = self.control.spawn(async move {
            let stamp = loading.stamp();
            let loaded = loading.load().await.map(Box::new);
            drop(sender.send(Report::Loaded { loaded, stamp }).await);
        });
        self.reloading = Some(reloading.abort_handle());
    }

    fn loaded(&mut self, loaded: Result<Agent, LoadError>, stamp: Option<Stamp>) {
        self.reloading = None;
        self.file = (stamp, stamp);
        let agent = self.name().clone();
        match loaded {
            Ok(new) => {
                let again = self.agent.replace(Arc::new(new)).is_some();
                let unavailable = self.health.state() != State::Available;
                self.health.loaded();
                if again {
                    self.events.publish(&Event::AgentReloaded { agent });
                }
                if unavailable {
                    self.available();
                }
            }
            Err(error) if self.agent.is_some() => {
                let error = error.to_string();
                tracing::error!(target: "host", agent, error, "the new version is not taken, the old one goes on");
            }
            Err(error) => {
                self.health.not_loaded(Instant::now());
                self.unavailable(error.to_string());
            }
        }
    }

    fn available(&self) {
        self.roster.state(self.place, State::Available);
        self.events.publish(&Event::AgentAvailable { agent: self.name().clone() });
    }

    fn unavailable(&self, why: String) {
        self.roster.state(self.place, self.health.state());
        let retry_ms = self.health.pause().map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self.events.publish(&Event::AgentUnavailable { agent: self.name().clone(), why, retry_ms });
    }

    /// The load may have changed, and the file.
    async fn sampled(&mut self) {
        let seen = self.loading.stamp();
        let (loaded, last) = self.file;
        // Whoever writes it may not be done: it is read when it has stayed the same for one sample.
        if seen.is_some() && seen != loaded && seen == last && self.reloading.is_none() {
            self.reload();
        }
        self.file.1 = seen;
        let now = Instant::now();
        let used = |job: &JobHandle| Duration::from_micros(job.used().0);
        self.costs.observe(self.running.values().map(|(since, job)| (used(job), now - *since)));
        self.perform(Vec::new()).await;
    }

    async fn hear(&mut self, report: Report) {
        match report {
            Report::Decided { job, outcome: Ok(_) } if !self.session.is_deciding(&job) => {
                self.withdrawn(job, "it was accepted too late");
            }
            Report::Decided { job, outcome: Ok(held) } => {
                // That it is full now is to be known before there is a reason to offer it more.
                self.perform(Vec::new()).await;
                let answer = Answer::Accepted(Box::new(held.accepted.acceptance.clone()));
                self.accepted.insert(job.clone(), *held);
                self.feed(Input::Answered { job, answer }).await;
            }
            Report::Decided { job, outcome: Err(Refusal { terminate, verdict, .. }) } => {
                if let Some(verdict) = verdict {
                    self.judge(verdict.code);
                }
                self.feed(Input::Answered { job, answer: Answer::Refused { terminate } }).await;
            }
            Report::Ended { job, closed } => {
                self.running.remove(&job);
                self.roster.ended(&job, closed.clone());
                let end = end_of(closed.as_deref());
                if let Some(closed) = closed {
                    self.costs.learn(Cost::of_job(&closed));
                    self.judge(closed.verdict.code);
                }
                self.feed(Input::Ended { job, end }).await;
            }
            Report::Loaded { loaded, stamp } => {
                self.loaded(loaded.map(|agent| *agent), stamp);
                if std::mem::take(&mut self.reload_again) {
                    self.reload();
                }
                self.perform(Vec::new()).await;
            }
        }
    }

    fn judge(&mut self, code: Code) {
        if let Some(why) = self.health.ended(Instant::now(), code) {
            self.unavailable(why);
        }
    }

    async fn take(&mut self, news: News) {
        let outputs = self.news(news);
        self.perform(outputs).await;
    }

    fn news(&mut self, news: News) -> Vec<Output> {
        let agent = self.name().clone();
        let now = Instant::now();
        match news {
            News::Connected => self.session.advance(now, Input::Connected),
            News::Frame(frame) => self.session.advance(now, Input::Frame(frame)),
            News::Heard => self.session.advance(now, Input::Heard),
            News::Lost { why, retry } => {
                let retry_ms = Some(u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
                self.roster.linked(self.place, None);
                self.events.publish(&Event::LinkLost { agent, why, retry_ms });
                self.session.advance(now, Input::Disconnected)
            }
            News::GaveUp { why } => {
                self.roster.linked(self.place, None);
                self.roster.gave_up(self.place);
                self.events.publish(&Event::LinkLost { agent, why: why.clone(), retry_ms: None });
                self.gave_up = Some(why);
                let mut outputs = self.session.advance(now, Input::Disconnected);
                if self.draining.is_none() {
                    outputs.extend(self.start_drain());
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
            Output::Report(report) => return self.report(report).await,
            Output::Ping => return self.link.ping().await,
            // It may be gone meanwhile, and one loss is not to count twice.
            Output::Close { why } if self.link.is_up() => return Err(self.link.lost(why)),
            Output::Close { .. } => {}
            Output::Offer(job) => self.offer(&job),
            Output::Launch { job } => self.launch(job),
            Output::Withdraw { job, why } => self.withdraw(job, why),
            Output::Refused { job, reason, why } => {
                let refusal = Refusal::new(reason, why);
                self.events.publish(&Event::offer_refused(self.name().clone(), job, &refusal));
            }
            Output::Stop { job } => {
                if let Some((_, job)) = self.running.get(&job) {
                    job.stop(StopBy::Dispatcher, "the server ended the job");
                }
            }
            Output::Registered { worker, server } => {
                let again = self.link.registered();
                self.roster.linked(self.place, Some(worker.clone()));
                let agent = self.name().clone();
                self.events.publish(&Event::WorkerRegistered { agent: agent.clone(), worker, server });
                if again {
                    self.events.publish(&Event::LinkRestored { agent });
                }
            }
            Output::Odd(what) => tracing::warn!(target: "host", agent = self.name(), "{what}"),
        }
        Ok(())
    }

    /// What was to be sent with a frame that failed finds no connection.
    async fn send(&mut self, message: ToServer) -> Result<(), News> {
        if self.link.is_up() { self.link.send(message).await } else { Ok(()) }
    }

    /// The end of a job is kept for the next connection when this one does not take it.
    async fn report(&mut self, report: report::Report) -> Result<(), News> {
        let sent = if self.link.is_up() { Some(self.link.report(&report).await) } else { None };
        if let None | Some(Err(_)) = &sent {
            self.session.not_delivered(report);
        }
        sent.unwrap_or(Ok(()))
    }

    fn load_changed(&mut self) -> Vec<Output> {
        let mut fullness = self.room.fullness();
        if self.agent.is_none() || self.health.state() != State::Available {
            (fullness.part, fullness.scarce) = (fullness.part.max(1.0), Resource::Agent);
        }
        let full = fullness.part >= 1.0;
        // In a drain the room that jobs leave is for none.
        if self.draining.is_none() && self.fullness.is_news(full, Instant::now()) {
            let (agent, jobs, load) = (self.name().clone(), self.room.jobs(), fullness.load);
            self.events.publish(&match full {
                true => Event::WorkerFull { agent, jobs, load, scarce: fullness.scarce },
                false => Event::WorkerAvailable { agent, jobs, load },
            });
        }
        #[expect(clippy::cast_possible_truncation, reason = "shares for the server")]
        let load = Input::Load { part: fullness.part as f32, load: fullness.load as f32 };
        self.session.advance(Instant::now(), load)
    }

    /// Ask the agent, once there is room, and tell this member.
    fn offer(&self, job: &proto::Job) {
        let (events, room, sender) = (self.events.clone(), self.room.clone(), self.sender.clone());
        let info = JobInfo { agent_name: self.name().clone(), ..job_info(job) };
        let agent = self.agent.clone().filter(|_| self.health.state() == State::Available);
        let cost = self.costs.predict();
        // Here, so that offers keep their order.
        let place = room.line_up();
        self.control.spawn(async move {
            let job = info.id.clone();
            let outcome = match agent {
                Some(agent) => ask(&agent, info, room.acquire(place, cost).await, &events).await,
                None => {
                    let refusal =
                        Refusal::new(Reason::Unavailable, "the agent keeps failing, and gets no jobs for now");
                    Err(refuse(info, refusal, &events))
                }
            };
            drop(sender.send(Report::Decided { job, outcome }).await);
        });
    }

    fn launch(&mut self, job: String) {
        let Some(Held { info, accepted, permit }) = self.accepted.remove(&job) else { return };
        let running = accepted.launch();
        if let Some(drain) = self.draining.as_mut().filter(|drain| drain.stage > Stage::Wait) {
            drain.cut_short += 1;
            drain.stage.apply(&running.handle());
        }
        self.roster.began(&info, running.handle());
        self.running.insert(job.clone(), (Instant::now(), running.handle()));
        let sender = self.sender.clone();
        self.control.spawn(async move {
            let closed = running.closed().await.map(roster::remembered);
            match &closed {
                Some(closed) => permit.ended(Cost::of_job(closed)),
                None => drop(permit),
            }
            drop(sender.send(Report::Ended { job, closed }).await);
        });
    }

    fn withdraw(&mut self, job: String, why: &str) {
        // While the agent decides there is nothing yet to let go of.
        if self.accepted.remove(&job).is_some() {
            self.withdrawn(job, why);
        }
    }

    fn withdrawn(&self, job: String, why: &str) {
        let refusal = Refusal::new(Reason::Withdrawn, why);
        self.events.publish(&Event::offer_refused(self.name().clone(), job, &refusal));
    }
}

async fn ask(
    agent: &Agent,
    info: JobInfo,
    permit: Result<Permit, Refusal>,
    events: &Arc<Events>,
) -> Result<Box<Held>, Refusal> {
    match permit {
        Err(refusal) => Err(refuse(info, refusal, events)),
        Ok(permit) => {
            let offer = Offer { info: info.clone(), participants: Vec::new(), script: Arc::default() };
            let accepted = agent.decide(offer, events).await?;
            Ok(Box::new(Held { info, accepted, permit }))
        }
    }
}

fn refuse(job: JobInfo, refusal: Refusal, events: &Events) -> Refusal {
    events.publish(&Event::offer_refused(job.agent_name, job.id, &refusal));
    refusal
}

fn end_of(closed: Option<&JobRecord>) -> Box<JobEnd> {
    Box::new(match closed {
        None => JobEnd::new(Code::HostFault, "the runtime of the guests is gone"),
        Some(JobRecord { verdict, usage, .. }) => {
            JobEnd { verdict: verdict.clone(), usage: serde_json::to_string(usage).ok() }
        }
    })
}
