//! A worker's process: the session with the server, and around it the slots, decisions and jobs of a worker, as data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::worker_message::Message as ToServer;
use rand::RngExt;
use tokio::time::Instant;

use super::context::{Context, Event};
use super::network::{ConnectionId, Payload, Towards};
use wasm_worker_core::job::{Acceptance, JobKind};
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::reconnect::Reconnect;
use wasm_worker_protocol::registration::{Registration, ReportLoad};
use wasm_worker_protocol::report::JobEnd;
use wasm_worker_protocol::worker_session::{Answer, Input, Output, Session};

/// Jobs that a process has at once, pending decisions included.
const SLOTS: usize = 3;
/// The time that an offer waits for a slot.
const SLOT_WITHIN: Duration = Duration::from_millis(800);
const ASSIGNMENT_WITHIN: Duration = Duration::from_millis(7_500);

enum Link {
    /// The next attempt to connect.
    Waiting {
        until: Instant,
    },
    Up(ConnectionId),
}

/// A process that runs.
pub(super) struct Process {
    number: usize,
    generation: u32,
    session: Session,
    reconnect: Reconnect,
    link: Link,
    registered_at: Option<Instant>,
    free_slots: usize,
    /// Offers that wait for a slot, and until when.
    waiting: VecDeque<(String, Instant)>,
    accepted: BTreeSet<String>,
    running: BTreeSet<String>,
    /// The dispatch of each job that was offered.
    dispatch_of: BTreeMap<String, String>,
    draining: bool,
}

/// The name of the agent of a process, or of a dispatch.
pub(super) fn agent_of(number: usize) -> String {
    format!("agent{}", number % 2)
}

impl Process {
    pub(super) fn start(cx: &Context, number: usize, generation: u32) -> Self {
        let now = cx.clock.now().at;
        let registration = Registration {
            agent_name: agent_of(number),
            job_kind: JobKind::Room,
            report_load: ReportLoad::Scaled,
            deployment: String::new(),
            permissions: BTreeSet::new(),
            assignment_within: ASSIGNMENT_WITHIN,
            instance: format!("process{number}-{generation}"),
        };
        cx.log(|| format!("{} starts", registration.instance));
        Self {
            number,
            generation,
            session: Session::new(registration, now),
            reconnect: Reconnect::new(usize::MAX),
            link: Link::Waiting { until: now },
            registered_at: None,
            free_slots: SLOTS,
            waiting: VecDeque::new(),
            accepted: BTreeSet::new(),
            running: BTreeSet::new(),
            dispatch_of: BTreeMap::new(),
            draining: false,
        }
    }

    pub(super) fn instance(&self) -> String {
        format!("process{}-{}", self.number, self.generation)
    }

    pub(super) fn is(&self, generation: u32) -> bool {
        self.generation == generation
    }

    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self.link {
            Link::Up(connection) => Some(connection),
            Link::Waiting { .. } => None,
        }
    }

    /// Whether the process has no job, no open offer and no report to deliver, and all of its slots.
    pub(super) fn is_idle(&self) -> bool {
        self.session.is_done() && self.free_slots == SLOTS && self.waiting.is_empty()
    }

    /// Whether a drain is over.
    pub(super) fn is_over(&self) -> bool {
        self.draining && self.session.is_done() && self.running.is_empty()
    }

    /// Whether the process wants to connect now.
    pub(super) fn wants_to_connect(&self, now: Instant) -> bool {
        matches!(self.link, Link::Waiting { until } if until <= now)
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        let link = match self.link {
            Link::Waiting { until } => Some(until),
            Link::Up(_) => None,
        };
        let waiting = self.waiting.front().map(|(_, until)| *until);
        self.session.wake_at().into_iter().chain(link).chain(waiting).min()
    }

    pub(super) fn connected(&mut self, cx: &mut Context, connection: ConnectionId) {
        cx.log(|| format!("{} connects as {connection}", self.instance()));
        self.link = Link::Up(connection);
        self.handle(cx, Input::Connected);
    }

    /// The attempt to connect failed.
    pub(super) fn not_connected(&mut self, cx: &mut Context) {
        let pause = self.reconnect.failed(Duration::ZERO, cx.rng.random()).unwrap();
        self.link = Link::Waiting { until: cx.clock.now().at + pause };
    }

    pub(super) fn drain(&mut self, cx: &mut Context) {
        self.draining = true;
        self.handle(cx, Input::Drain);
    }

    /// Handle everything that is due.
    pub(super) fn on_time(&mut self, cx: &mut Context) {
        let now = cx.clock.now().at;
        while self.waiting.front().is_some_and(|(_, until)| *until <= now) {
            let (job, _) = self.waiting.pop_front().unwrap();
            self.handle(cx, Input::Answered { job, answer: Answer::Refused { terminate: false } });
        }
        if self.session.wake_at().is_some_and(|at| at <= now) {
            self.handle(cx, Input::TimeUp);
        }
    }

    pub(super) fn receive(&mut self, cx: &mut Context, connection: ConnectionId, payload: Payload) {
        if self.connection() != Some(connection) {
            return;
        }
        match payload {
            Payload::Frame(bytes) => self.receive_frame(cx, connection, &bytes),
            Payload::Ping => {
                cx.send(connection, Towards::Server, Payload::Pong);
                self.handle(cx, Input::Heartbeat);
            }
            Payload::Pong => self.handle(cx, Input::Heartbeat),
            Payload::Closed => {
                let outputs = self.lose_link(cx);
                self.execute(cx, outputs);
            }
        }
    }

    fn receive_frame(&mut self, cx: &mut Context, connection: ConnectionId, bytes: &[u8]) {
        let frame = proto::ServerMessage::decode(bytes).unwrap();
        let offered = match &frame.message {
            Some(proto::server_message::Message::Availability(offer)) => offer.job.clone(),
            _ => None,
        };
        let outputs = self.session.advance(cx.clock.now().at, Input::Frame(frame));
        if let Some(job) = offered {
            // The session ignores a second offer of a job that it has.
            let taken = outputs.iter().any(|output| matches!(output, Output::Offer(_) | Output::Send(_)));
            if taken {
                cx.checks.offered(cx.clock.now().at, connection, &job.id);
            }
            self.dispatch_of.insert(job.id, job.dispatch_id);
        }
        self.execute(cx, outputs);
    }

    pub(super) fn decided(&mut self, cx: &mut Context, job: String) {
        let accepts = cx.chance(0.9);
        if accepts && self.session.is_deciding(&job) {
            self.accepted.insert(job.clone());
            let acceptance =
                Acceptance { identity: None, name: String::new(), metadata: String::new(), attributes: Vec::new() };
            self.handle(cx, Input::Answered { job, answer: Answer::Accepted(Box::new(acceptance)) });
            return;
        }
        self.release_slot(cx);
        if !accepts {
            let terminate = cx.chance(0.05);
            self.handle(cx, Input::Answered { job, answer: Answer::Refused { terminate } });
        }
    }

    pub(super) fn job_ends(&mut self, cx: &mut Context, job: String, code: Code) {
        if self.running.remove(&job) {
            cx.log(|| format!("{job} ends in {}: {code}", self.instance()));
            cx.checks.job_ended(&job);
            self.release_slot(cx);
            self.handle(cx, Input::Ended { job, end: Box::new(JobEnd::new(code, "")) });
        }
    }

    fn handle(&mut self, cx: &mut Context, input: Input) {
        let outputs = self.session.advance(cx.clock.now().at, input);
        self.execute(cx, outputs);
    }

    fn execute(&mut self, cx: &mut Context, outputs: Vec<Output>) {
        let mut pending = VecDeque::from(outputs);
        loop {
            while let Some(output) = pending.pop_front() {
                pending.extend(self.execute_one(cx, output));
            }
            let utilisation = (SLOTS - self.free_slots) as f32 / SLOTS as f32;
            pending
                .extend(self.session.advance(cx.clock.now().at, Input::Load { utilisation, load: utilisation / 2.0 }));
            if pending.is_empty() {
                return;
            }
        }
    }

    fn execute_one(&mut self, cx: &mut Context, output: Output) -> Vec<Output> {
        let now = cx.clock.now().at;
        match output {
            Output::Send(message) => {
                if let (Some(connection), ToServer::Availability(answer)) = (self.connection(), &message) {
                    cx.checks.answered(connection, &answer.job_id);
                }
                self.send(cx, proto::WorkerMessage { message: Some(message) }.encode_to_vec());
            }
            Output::Report(report) => self.send(cx, report.frame()),
            Output::Status(status) => self.send(cx, status.frame()),
            Output::Ping => {
                if let Some(connection) = self.connection() {
                    cx.send(connection, Towards::Server, Payload::Ping);
                }
            }
            Output::Offer(job) if self.free_slots > 0 => self.decide(cx, job.id),
            Output::Offer(job) => self.waiting.push_back((job.id, now + SLOT_WITHIN)),
            Output::Launch { job, .. } => self.launch(cx, job),
            Output::Withdraw { job, why } => {
                if self.accepted.remove(&job) {
                    cx.log(|| format!("{} releases {job}: {why}", self.instance()));
                    cx.checks.counts.withdrawn += 1;
                    self.release_slot(cx);
                }
            }
            Output::Stop { job } if self.running.contains(&job) => {
                let grace = cx.up_to(10_000);
                let code = if cx.chance(0.8) { Code::Terminated } else { Code::ShutdownTimeout };
                let (process, generation) = (self.number, self.generation);
                cx.after(grace, Event::JobEnds { process, generation, job, code });
            }
            Output::Registered { .. } => self.registered_at = Some(now),
            Output::Close { why } => {
                cx.log(|| format!("{} closes its connection: {why}", self.instance()));
                return self.lose_link(cx);
            }
            Output::Stop { .. } | Output::Refused { .. } | Output::Warn(_) => {}
        }
        Vec::new()
    }

    fn send(&self, cx: &mut Context, frame: Vec<u8>) {
        if let Some(connection) = self.connection() {
            cx.send(connection, Towards::Server, Payload::Frame(frame));
        }
    }

    fn decide(&mut self, cx: &mut Context, job: String) {
        self.free_slots -= 1;
        let time = if cx.chance(0.95) { cx.up_to(50) } else { cx.up_to(4_000) };
        cx.after(time, Event::Decided { process: self.number, generation: self.generation, job });
    }

    fn launch(&mut self, cx: &mut Context, job: String) {
        assert!(self.accepted.remove(&job), "{job} is launched without a slot");
        cx.log(|| format!("{job} runs in {}", self.instance()));
        cx.checks.launched(cx.store, &job, &self.dispatch_of[&job], &self.instance());
        self.running.insert(job.clone());
        let time = if cx.chance(0.7) { cx.up_to(3_000) } else { cx.up_to(40_000) };
        let code = if cx.chance(0.8) { Code::Completed } else { Code::Trapped };
        cx.after(time, Event::JobEnds { process: self.number, generation: self.generation, job, code });
    }

    /// A slot is free: the oldest offer that waits has it.
    fn release_slot(&mut self, cx: &mut Context) {
        self.free_slots += 1;
        assert!(self.free_slots <= SLOTS, "a slot was released twice");
        if let Some((job, _)) = self.waiting.pop_front() {
            self.decide(cx, job);
        }
    }

    fn lose_link(&mut self, cx: &mut Context) -> Vec<Output> {
        let Some(connection) = self.connection() else { return Vec::new() };
        cx.log(|| format!("{} loses connection {connection}", self.instance()));
        cx.send(connection, Towards::Server, Payload::Closed);
        cx.checks.disconnected(connection);
        let now = cx.clock.now().at;
        let held = self.registered_at.take().map_or(Duration::ZERO, |since| now - since);
        let pause = self.reconnect.failed(held, cx.rng.random()).unwrap();
        self.link = Link::Waiting { until: now + pause };
        self.session.advance(now, Input::Disconnected)
    }
}
