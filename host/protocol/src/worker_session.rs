//! One worker's conversation with a LiveKit server: registration, offers, assignments, reports. Pure: no socket, no agent, and
//! `now` is an argument.
//!
//! Whatever the order in which things happen, each job that the agent accepts is launched once or withdrawn once, and the end
//! of each job that was launched is handed to a connection, and to the next one, until the server has read it. The protocol has
//! no receipt for that; but a server that answers a ping has read what was sent before it.
//!
//! Bounds: [`JOBS_MAX`] jobs known at once; an offer is answered within [`ANSWER_WITHIN`], an assignment awaited for
//! `assignment-timeout`, a silent server for [`SILENCE_MAX`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use tokio::time::Instant;

use wasm_worker_core::job::{Acceptance, RoomAccess};
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::secret::Secret;
use wasm_worker_core::verdict::Code;

use crate::registration::{Permission, Registration, ReportLoad};
use crate::report::{JobEnd, Report};
use crate::wire;

/// The server closes a worker that has not registered by then; it is to answer in the same time.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// LiveKit's server gives the whole of an offer 3 s and asks nobody else afterwards.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// As LiveKit's own workers report.
const STATUS_EVERY: Duration = Duration::from_millis(2_500);
/// A change of load that is reported at once.
const LOAD_STEP: f32 = 0.05;
const PING_EVERY: Duration = Duration::from_secs(15);
/// The server pings every 10 s, and answers our own pings.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Jobs in any state, and reports that wait for a connection.
const JOBS_MAX: usize = 20_000;
/// Jobs that ended lately, whose second assignment is ignored.
const RECENT_ENDS_MAX: usize = 1_024;
/// The load at which LiveKit's server gives a node nothing more (`agents.target_load`).
const SERVER_FULL: f32 = 0.7;
/// The node of our own dispatcher, which reads more of a report than LiveKit's server.
pub const OUR_NODE: &str = "wasm-worker";

/// What can happen to a session.
#[expect(clippy::large_enum_variant, reason = "a few at a time, each taken apart at once")]
#[derive(Debug)]
pub enum Input {
    Connected,
    Frame(proto::ServerMessage),
    /// Any sign of life of the server.
    Heard,
    Disconnected,
    /// The agent has decided.
    Answered {
        job: String,
        answer: Answer,
    },
    /// A job that was launched is over.
    Ended {
        job: String,
        end: Box<JobEnd>,
    },
    /// How much of what the worker takes it has, from 0, and full at 1; and the load itself, 0 to 1.
    Load {
        part: f32,
        load: f32,
    },
    Drain,
    /// The time of [`Session::wake_at`] has come.
    TimeUp,
}

/// An agent's answer to an offer.
#[derive(Debug)]
pub enum Answer {
    Accepted(Box<Acceptance>),
    Refused { terminate: bool },
}

/// What is to be done about it.
#[expect(clippy::large_enum_variant, reason = "a few at a time, each taken apart at once")]
#[derive(Debug, PartialEq)]
pub enum Output {
    Send(ToServer),
    Report(Report),
    Ping,
    /// Ask the agent.
    Offer(Box<proto::Job>),
    /// Run a job that was accepted.
    Launch {
        job: String,
        access: RoomAccess,
    },
    /// An offer was refused without asking anybody.
    Refused {
        job: String,
        reason: Reason,
        why: &'static str,
    },
    /// Let go of a job that was accepted, or will be.
    Withdraw {
        job: String,
        why: &'static str,
    },
    /// Ask a job that runs to stop.
    Stop {
        job: String,
    },
    Registered {
        worker: String,
        server: String,
    },
    /// Close this connection.
    Close {
        why: String,
    },
    /// Something odd that concerns nobody else.
    Odd(String),
}

enum Link {
    Down,
    Registering {
        until: Instant,
    },
    /// Whether it is our own dispatcher, which reads all of a report.
    Up {
        ours: bool,
    },
}

enum Phase {
    Deciding { until: Instant },
    Accepted { until: Instant },
    Running,
}

/// The state of the conversation.
pub struct Session {
    registration: Registration,
    link: Link,
    jobs: HashMap<String, Phase>,
    /// Jobs that ended lately, the oldest first: an end is reported once, whatever the server sends afterwards.
    recent_ends: VecDeque<String>,
    /// Reports from when there was no connection.
    undelivered: VecDeque<Report>,
    /// Ends that this connection has taken, each with the count of them all, until the server is known to have read it.
    unconfirmed: VecDeque<(i64, Report)>,
    /// Ends that were sent so far.
    sent: i64,
    /// The ping that the server has not answered.
    receipt_due: Option<i64>,
    part: f32,
    load: f32,
    /// Part and status as the server has them, and when it hears of them next.
    reported: (f32, bool),
    report_due: Instant,
    heard: Instant,
    ping_due: Instant,
    draining: bool,
}

impl Session {
    pub fn new(registration: Registration, now: Instant) -> Self {
        Self {
            registration,
            link: Link::Down,
            jobs: HashMap::new(),
            recent_ends: VecDeque::new(),
            undelivered: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            sent: 0,
            receipt_due: None,
            part: 0.0,
            load: 0.0,
            reported: (0.0, false),
            report_due: now,
            heard: now,
            ping_due: now,
            draining: false,
        }
    }

    /// Jobs in any state.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Nothing runs, and the server knows all ends.
    pub fn is_done(&self) -> bool {
        self.jobs.is_empty() && self.undelivered.is_empty() && self.unconfirmed.is_empty()
    }

    /// Somebody waits for the agent's answer. An answer to an older offer of the same job will do.
    pub fn is_deciding(&self, job: &str) -> bool {
        matches!(self.jobs.get(job), Some(Phase::Deciding { .. }))
    }

    /// Ends that the server is not known to have read.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        let sent = self.unconfirmed.iter().map(|(_, report)| report);
        sent.chain(&self.undelivered).map(|report| report.job_id.as_str())
    }

    /// The connection did not take this report.
    pub fn not_delivered(&mut self, report: Report) {
        // It is unconfirmed while the connection is not known to be gone, and undelivered since.
        let mut kept = self.unconfirmed.iter().map(|(_, report)| report).chain(&self.undelivered);
        if report.is_end() && !kept.any(|other| other.job_id == report.job_id) {
            self.undelivered.push_back(report);
        }
    }

    /// When [`Input::TimeUp`] is due, whatever else happens.
    pub fn wake_at(&self) -> Option<Instant> {
        let link = match self.link {
            Link::Down => None,
            Link::Registering { until } => Some(until),
            Link::Up { .. } => Some(self.report_due.min(self.ping_due).min(self.heard + SILENCE_MAX)),
        };
        let jobs = self.jobs.values().filter_map(|phase| match phase {
            Phase::Deciding { until } | Phase::Accepted { until } => Some(*until),
            Phase::Running => None,
        });
        link.into_iter().chain(jobs).min()
    }

    /// The one place where the session's state changes.
    pub fn advance(&mut self, now: Instant, input: Input) -> Vec<Output> {
        match input {
            Input::Connected => self.connected(now),
            Input::Heard => {
                self.heard = now;
                Vec::new()
            }
            Input::Frame(frame) => {
                self.heard = now;
                self.frame(now, frame)
            }
            Input::Disconnected => self.disconnected(),
            Input::Answered { job, answer } => self.answered(now, job, answer),
            Input::Ended { job, end } => self.ended(job, *end),
            Input::Load { part, load } => {
                self.part = part;
                self.load = load;
                self.report(now)
            }
            Input::Drain => {
                self.draining = true;
                self.report(now)
            }
            Input::TimeUp => self.time_up(now),
        }
    }

    fn connected(&mut self, now: Instant) -> Vec<Output> {
        self.link = Link::Registering { until: now + REGISTER_WITHIN };
        self.heard = now;
        self.ping_due = now + PING_EVERY;
        let Registration { agent_name, job_kind, deployment, permissions, instance, .. } = self.registration.clone();
        let may = |permission| permissions.contains(&permission);
        vec![Output::Send(ToServer::Register(proto::RegisterWorkerRequest {
            r#type: wire::job_type(job_kind),
            agent_name,
            version: env!("CARGO_PKG_VERSION").into(),
            deployment,
            instance_id: instance,
            allowed_permissions: Some(proto::ParticipantPermission {
                can_subscribe: may(Permission::Subscribe),
                can_publish: may(Permission::Publish),
                can_publish_data: may(Permission::Data),
                can_update_metadata: may(Permission::Metadata),
                hidden: may(Permission::Hidden),
                #[expect(deprecated, reason = "servers of before 2026 read it")]
                agent: true,
                ..Default::default()
            }),
            ..Default::default()
        }))]
    }

    fn frame(&mut self, now: Instant, frame: proto::ServerMessage) -> Vec<Output> {
        match (&self.link, frame.message) {
            (Link::Registering { .. }, Some(FromServer::Register(response))) => self.registered(now, response),
            (Link::Registering { .. }, other) => {
                vec![Output::Close {
                    why: format!("want the reply to the registration first, got {}", name_of(&other)),
                }]
            }
            (Link::Down, _) => Vec::new(),
            (Link::Up { .. }, Some(FromServer::Availability(request))) => self.offered(now, request),
            (Link::Up { .. }, Some(FromServer::Assignment(assignment))) => self.assigned(assignment),
            (Link::Up { .. }, Some(FromServer::Termination(termination))) => self.terminated(termination.job_id),
            (Link::Up { .. }, Some(FromServer::Pong(pong))) => self.confirmed(pong.last_timestamp),
            // Newer servers may say more than this version knows.
            (Link::Up { .. }, other) => vec![Output::Odd(format!("ignored: {}", name_of(&other)))],
        }
    }

    fn registered(&mut self, now: Instant, response: proto::RegisterWorkerResponse) -> Vec<Output> {
        let info = response.server_info.unwrap_or_default();
        self.link = Link::Up { ours: info.node_id == OUR_NODE };
        let server = info.version;
        let mut outputs = vec![Output::Registered { worker: response.worker_id, server }];
        let mut job_ids: Vec<String> =
            self.jobs.iter().filter(|(_, phase)| matches!(phase, Phase::Running)).map(|(id, _)| id.clone()).collect();
        job_ids.sort_unstable();
        if !job_ids.is_empty() {
            outputs.push(Output::Send(ToServer::MigrateJob(proto::MigrateJobRequest { job_ids })));
        }
        for report in std::mem::take(&mut self.undelivered) {
            outputs.extend(self.send_end(report));
        }
        outputs.push(self.status(now));
        outputs
    }

    /// The server forgets offers and assignments with the connection; what runs runs on.
    fn disconnected(&mut self) -> Vec<Output> {
        self.link = Link::Down;
        self.receipt_due = None;
        let unread = std::mem::take(&mut self.unconfirmed).into_iter().map(|(_, report)| report);
        let never_sent = std::mem::take(&mut self.undelivered);
        self.undelivered = unread.chain(never_sent).collect();
        let gone = self.jobs.extract_if(|_, phase| !matches!(phase, Phase::Running));
        gone.map(|(job, _)| Output::Withdraw { job, why: "the connection was lost before its assignment" }).collect()
    }

    fn offered(&mut self, now: Instant, request: proto::AvailabilityRequest) -> Vec<Output> {
        let Some(job) = request.job.filter(|job| !job.id.is_empty()) else {
            return vec![Output::Odd("ignored: an offer without a job".into())];
        };
        if self.jobs.contains_key(&job.id) {
            return vec![Output::Odd(format!("ignored: a second offer of {}", job.id))];
        }
        if self.draining {
            return self::refused(job.id, Reason::Draining, "the worker is being stopped");
        }
        if self.jobs.len() >= JOBS_MAX {
            return self::refused(job.id, Reason::Full, "as many jobs as one connection may have");
        }
        self.jobs.insert(job.id.clone(), Phase::Deciding { until: now + ANSWER_WITHIN });
        vec![Output::Offer(Box::new(job))]
    }

    fn answered(&mut self, now: Instant, job: String, answer: Answer) -> Vec<Output> {
        match (self.jobs.get_mut(&job), answer) {
            (Some(Phase::Deciding { .. }), Answer::Accepted(_)) if self.draining => {
                self.jobs.remove(&job);
                vec![refuse(&job, false), Output::Withdraw { job, why: "the worker is being stopped" }]
            }
            (Some(phase @ Phase::Deciding { .. }), Answer::Accepted(acceptance)) => {
                *phase = Phase::Accepted { until: now + self.registration.assignment_within };
                vec![accept(job, &self.registration.agent_name, *acceptance)]
            }
            (Some(Phase::Deciding { .. }), Answer::Refused { terminate }) => {
                self.jobs.remove(&job);
                vec![refuse(&job, terminate)]
            }
            // The server has been told otherwise meanwhile, or is gone.
            (_, Answer::Accepted(_)) => vec![Output::Withdraw { job, why: "it was accepted too late" }],
            (_, Answer::Refused { .. }) => Vec::new(),
        }
    }

    fn assigned(&mut self, assignment: proto::JobAssignment) -> Vec<Output> {
        let proto::JobAssignment { job, url, token } = assignment;
        let job = job.unwrap_or_default().id;
        match self.jobs.get_mut(&job) {
            Some(phase @ Phase::Accepted { .. }) => {
                *phase = Phase::Running;
                let running = Report::running(&job);
                let url = url.filter(|url| !url.is_empty());
                let access = RoomAccess { url, token: Secret(token) };
                vec![Output::Launch { job, access }, Output::Report(running)]
            }
            Some(Phase::Running) => vec![Output::Odd(format!("ignored: a second assignment of {job}"))],
            None if self.recent_ends.contains(&job) => {
                vec![Output::Odd(format!("ignored: an assignment of {job}, which has ended"))]
            }
            // The server counts the job as running from here; it is not.
            Some(Phase::Deciding { .. }) | None => {
                let error = "the assignment came when nobody waited for it";
                let odd = Output::Odd(format!("{error}: {job}"));
                let report = Report::ended(job, JobEnd::new(Code::Lost, error));
                let report = if matches!(self.link, Link::Up { ours: true }) { report } else { report.for_livekit() };
                vec![odd, Output::Report(report)]
            }
        }
    }

    fn terminated(&mut self, job: String) -> Vec<Output> {
        match self.jobs.get(&job) {
            Some(Phase::Running) => vec![Output::Stop { job }],
            Some(Phase::Deciding { .. } | Phase::Accepted { .. }) => {
                self.jobs.remove(&job);
                vec![Output::Withdraw { job, why: "the server ended it before its assignment" }]
            }
            // It may just have ended.
            None => Vec::new(),
        }
    }

    fn ended(&mut self, job: String, end: JobEnd) -> Vec<Output> {
        if self.jobs.remove(&job).is_none() {
            return Vec::new();
        }
        if self.recent_ends.len() == RECENT_ENDS_MAX {
            self.recent_ends.pop_front();
        }
        self.recent_ends.push_back(job.clone());
        let report = Report::ended(job, end);
        if matches!(self.link, Link::Up { .. }) {
            return self.send_end(report);
        }
        self.undelivered.push_back(report);
        let lost = self.undelivered.len().saturating_sub(JOBS_MAX);
        self.undelivered.drain(..lost).map(|report| Output::Odd(format!("not reported: {}", report.job_id))).collect()
    }

    /// Send an end, and ask for a sign that it was read.
    fn send_end(&mut self, mut report: Report) -> Vec<Output> {
        self.sent += 1;
        // A server that answers no ping is taken to have read the oldest.
        if self.unconfirmed.len() == JOBS_MAX {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back((self.sent, report.clone()));
        if !matches!(self.link, Link::Up { ours: true }) {
            report = report.for_livekit();
        }
        std::iter::once(Output::Report(report)).chain(self.ask_for_receipt()).collect()
    }

    /// One ping at a time: its answer is for all that was sent before it.
    fn ask_for_receipt(&mut self) -> Option<Output> {
        if self.unconfirmed.is_empty() || self.receipt_due.is_some() {
            return None;
        }
        self.receipt_due = Some(self.sent);
        Some(Output::Send(ToServer::Ping(proto::WorkerPing { timestamp: self.sent })))
    }

    fn confirmed(&mut self, sent: i64) -> Vec<Output> {
        while self.unconfirmed.front().is_some_and(|(count, _)| *count <= sent) {
            self.unconfirmed.pop_front();
        }
        self.receipt_due = None;
        self.ask_for_receipt().into_iter().collect()
    }

    fn time_up(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut late = self.jobs.extract_if(|_, phase| match phase {
            Phase::Deciding { until } | Phase::Accepted { until } => *until <= now,
            Phase::Running => false,
        });
        let late: Vec<(String, Phase)> = late.by_ref().collect();
        for (job, phase) in late {
            match phase {
                Phase::Deciding { .. } => {
                    outputs.push(refuse(&job, false));
                    outputs.push(Output::Withdraw { job, why: "it was not decided on in time" });
                }
                Phase::Accepted { .. } => {
                    outputs.push(Output::Withdraw { job, why: "its assignment did not come in time" });
                }
                Phase::Running => {}
            }
        }
        match self.link {
            Link::Down => {}
            Link::Registering { until } if until <= now => {
                let why = format!("the server did not reply to the registration within {REGISTER_WITHIN:?}");
                outputs.push(Output::Close { why });
            }
            Link::Registering { .. } => {}
            Link::Up { .. } if self.heard + SILENCE_MAX <= now => {
                outputs.push(Output::Close { why: format!("the server was silent for {SILENCE_MAX:?}") });
            }
            Link::Up { .. } => {
                if self.ping_due <= now {
                    self.ping_due = now + PING_EVERY;
                    outputs.push(Output::Ping);
                }
                outputs.extend(self.report(now));
            }
        }
        outputs
    }

    /// Report load and status when they have changed enough, or it is time.
    fn report(&mut self, now: Instant) -> Vec<Output> {
        let (part, full) = self.reported;
        let changed = full != self.is_full() || (self.part - part).abs() >= LOAD_STEP;
        let due = changed || self.report_due <= now;
        if due && matches!(self.link, Link::Up { .. }) { vec![self.status(now)] } else { Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.draining || self.part >= 1.0
    }

    /// The load as the server is told it.
    fn figure(&self) -> f32 {
        match self.registration.report_load {
            // Ours is full at 1, the server's at its target.
            ReportLoad::Scaled => self.part.clamp(0.0, 1.0) * SERVER_FULL,
            ReportLoad::Raw => self.load,
        }
    }

    fn status(&mut self, now: Instant) -> Output {
        self.reported = (self.part, self.is_full());
        self.report_due = now + STATUS_EVERY;
        let status = if self.is_full() { proto::WorkerStatus::WsFull } else { proto::WorkerStatus::WsAvailable };
        Output::Send(ToServer::UpdateWorker(proto::UpdateWorkerStatus {
            status: Some(status as i32),
            load: self.figure(),
            job_count: u32::try_from(self.jobs.len()).unwrap_or(u32::MAX),
            draining: self.draining,
            ..Default::default()
        }))
    }
}

fn accept(job_id: String, agent_name: &str, acceptance: Acceptance) -> Output {
    let Acceptance { identity, name, metadata, attributes } = acceptance;
    let mut participant_attributes: HashMap<String, String> = attributes.into_iter().collect();
    // As LiveKit's own workers do, for front ends that look for an agent.
    participant_attributes.insert("lk.agent.name".into(), agent_name.into());
    Output::Send(ToServer::Availability(proto::AvailabilityResponse {
        participant_identity: identity.unwrap_or_else(|| format!("agent-{job_id}")),
        participant_name: name,
        participant_metadata: metadata,
        participant_attributes,
        available: true,
        job_id,
        ..Default::default()
    }))
}

fn refused(job: String, reason: Reason, why: &'static str) -> Vec<Output> {
    vec![refuse(&job, false), Output::Refused { job, reason, why }]
}

fn refuse(job_id: &str, terminate: bool) -> Output {
    let job_id = job_id.to_owned();
    Output::Send(ToServer::Availability(proto::AvailabilityResponse { job_id, terminate, ..Default::default() }))
}

fn name_of(message: &Option<FromServer>) -> &'static str {
    match message {
        None => "an empty or unknown message",
        Some(FromServer::Register(_)) => "a reply to a registration",
        Some(FromServer::Availability(_)) => "an offer",
        Some(FromServer::Assignment(_)) => "an assignment",
        Some(FromServer::Termination(_)) => "a termination",
        Some(FromServer::Pong(_)) => "a pong",
        Some(FromServer::GoAway(_)) => "a request to go away",
    }
}

#[cfg(test)]
mod tests;
