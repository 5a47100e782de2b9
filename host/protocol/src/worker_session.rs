//! The worker's side of a connection with a LiveKit server: registration, offers, assignments and reports.
//!
//! Pure: the session has no socket and no agent, and `now` is an argument. In any order of inputs each job that the agent accepts
//! is launched once or withdrawn once. The end of each launched job is sent on one connection after the other until the server has
//! read it. The protocol has no receipt for that, but a server that answers a ping has read everything that was sent before it.
//!
//! Bounds: a session has at most [`JOBS_MAX`] jobs. It answers an offer within [`ANSWER_WITHIN`], waits for an assignment for
//! `assignment-timeout`, and closes the connection of a server that is silent for [`SILENCE_MAX`].

mod jobs;
mod messages;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use tokio::time::Instant;
use wasm_worker_core::load::Scarcity;
use wasm_worker_core::text::clip;

use crate::registration::{Permission, Registration, ReportLoad};
use crate::report::Report;
use crate::status::Status;
use crate::wire;
use messages::name_of;
pub use messages::{Answer, Input, Output};

/// Time limit for a registration. The server closes the connection of a worker that does not register in time.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// Time limit for the answer to an offer. LiveKit's server allows 3 s, and asks no other worker afterwards.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Time between two status messages, as in LiveKit's own workers.
const STATUS_EVERY: Duration = Duration::from_millis(2_500);
/// A change of utilisation that is reported at once.
const UTILISATION_STEP: f32 = 0.05;
/// Time between two pings.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Longest time without a frame. The server pings every 10 s, and answers pings.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Most jobs in any state, and most reports that wait for a connection or a receipt.
const JOBS_MAX: usize = 20_000;
/// Most jobs of one message after a reconnect, so that it fits into a frame whatever their ids are.
const MIGRATED_AT_ONCE_MAX: usize = 2_000;
/// Longest id of a job that a server may send, in bytes.
const JOB_ID_BYTES_MAX: usize = 256;
/// Most ended jobs that are remembered, so that a second assignment is ignored.
const RECENT_ENDS_MAX: usize = 1_024;
/// The load from which LiveKit's server gives a worker no more jobs (`agents.target_load`).
const SERVER_FULL: f32 = 0.7;
/// The node id by which the embedded dispatcher introduces itself. It reads more of a report than LiveKit's server does.
pub const EMBEDDED_NODE_ID: &str = "wasm-worker";

enum Link {
    Down,
    Registering {
        until: Instant,
    },
    Up {
        /// Whether the server is the embedded dispatcher, which reads usage and verdict of a report.
        embedded: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Deciding { until: Instant },
    Accepted { until: Instant },
    Running,
}

impl Phase {
    fn until(self) -> Option<Instant> {
        match self {
            Self::Deciding { until } | Self::Accepted { until } => Some(until),
            Self::Running => None,
        }
    }
}

/// The state of a worker's registration with one server, across its connections.
pub struct Session {
    registration: Registration,
    link: Link,
    jobs: HashMap<Arc<str>, Phase>,
    /// The ends of all phases that have one, the earliest first, so that no event looks at every job.
    deadlines: BTreeSet<(Instant, Arc<str>)>,
    /// Ended jobs, the oldest first: an end is reported once, whatever the server sends afterwards.
    recent_ends: VecDeque<String>,
    /// Reports of ends that no connection has carried.
    undelivered: VecDeque<Report>,
    /// Reports that this connection carried, each with its number, until the server confirms them.
    unconfirmed: VecDeque<(i64, Report)>,
    /// The number of reports that were sent.
    ends_sent: i64,
    /// The ping that the server has not answered.
    receipt_due: Option<i64>,
    /// The utilisation relative to the threshold; 1 is full.
    utilisation: f32,
    load: f32,
    /// The resource that makes the worker full.
    scarce: Option<Scarcity>,
    /// Utilisation and fullness of the last status message.
    reported: (f32, bool),
    /// The time of the next status message.
    status_due: Instant,
    last_received: Instant,
    ping_due: Instant,
    draining: bool,
}

impl Session {
    /// A session without a connection.
    pub fn new(registration: Registration, now: Instant) -> Self {
        Self {
            registration,
            link: Link::Down,
            jobs: HashMap::new(),
            deadlines: BTreeSet::new(),
            recent_ends: VecDeque::new(),
            undelivered: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            ends_sent: 0,
            receipt_due: None,
            utilisation: 0.0,
            load: 0.0,
            scarce: None,
            reported: (0.0, false),
            status_due: now,
            last_received: now,
            ping_due: now,
            draining: false,
        }
    }

    /// The number of jobs in any state.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job is left and the server has confirmed all ends.
    pub fn is_done(&self) -> bool {
        self.jobs.is_empty() && self.undelivered.is_empty() && self.unconfirmed.is_empty()
    }

    /// Set the resource that makes the worker full. The embedded dispatcher receives it with the status.
    pub fn set_scarcity(&mut self, scarce: Option<Scarcity>) {
        self.scarce = scarce;
    }

    /// Whether an offer of the job waits for the agent's answer. An answer to an older offer of the same job is as good.
    pub fn is_deciding(&self, job: &str) -> bool {
        matches!(self.jobs.get(job), Some(Phase::Deciding { .. }))
    }

    /// The jobs whose ends the server has not confirmed.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        let sent = self.unconfirmed.iter().map(|(_, report)| report);
        sent.chain(&self.undelivered).map(|report| report.job_id.as_str())
    }

    /// The time at which [`Input::TimeUp`] is due.
    pub fn wake_at(&self) -> Option<Instant> {
        let link = match self.link {
            Link::Down => None,
            Link::Registering { until } => Some(until),
            Link::Up { .. } => Some(self.status_due.min(self.ping_due).min(self.last_received + SILENCE_MAX)),
        };
        let jobs = self.deadlines.first().map(|(until, _)| *until);
        link.into_iter().chain(jobs).min()
    }

    /// Handle an input, and return the actions that it requires. This is the one place where the state changes.
    pub fn advance(&mut self, now: Instant, input: Input) -> Vec<Output> {
        match input {
            Input::Connected => self.on_connected(now),
            Input::Heartbeat => {
                self.last_received = now;
                Vec::new()
            }
            Input::Frame(frame) => {
                self.last_received = now;
                self.on_frame(now, frame)
            }
            Input::Disconnected => self.on_disconnected(),
            Input::Answered { job, answer } => self.on_answer(now, job, answer),
            Input::Ended { job, end } => self.on_end(job, *end),
            Input::Load { utilisation, load } => {
                self.utilisation = utilisation;
                self.load = load;
                self.status_if_due(now).into_iter().collect()
            }
            Input::Drain => {
                self.draining = true;
                self.status_if_due(now).into_iter().collect()
            }
            Input::TimeUp => self.on_timer(now),
        }
    }

    fn on_connected(&mut self, now: Instant) -> Vec<Output> {
        self.link = Link::Registering { until: now + REGISTER_WITHIN };
        self.last_received = now;
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

    fn on_frame(&mut self, now: Instant, frame: proto::ServerMessage) -> Vec<Output> {
        match (&self.link, frame.message) {
            (Link::Registering { .. }, Some(FromServer::Register(response))) => self.on_registered(now, response),
            (Link::Registering { .. }, other) => {
                let why = format!("want a reply to the registration first, got {}", name_of(&other));
                vec![Output::Close { why }]
            }
            (Link::Down, _) => Vec::new(),
            (Link::Up { .. }, Some(FromServer::Availability(request))) => self.on_offer(now, request),
            (Link::Up { .. }, Some(FromServer::Assignment(assignment))) => self.on_assignment(assignment),
            (Link::Up { .. }, Some(FromServer::Termination(termination))) => self.on_termination(termination.job_id),
            (Link::Up { .. }, Some(FromServer::Pong(pong))) => self.on_pong(pong.last_timestamp),
            // A newer server may send messages that this version does not know.
            (Link::Up { .. }, other) => vec![Output::Warn(format!("ignored {}", name_of(&other)))],
        }
    }

    fn on_registered(&mut self, now: Instant, response: proto::RegisterWorkerResponse) -> Vec<Output> {
        let info = response.server_info.unwrap_or_default();
        self.link = Link::Up { embedded: info.node_id == EMBEDDED_NODE_ID };
        let (worker, server) = (clip(&response.worker_id), clip(&info.version));
        let mut outputs = vec![Output::Registered { worker, server }];
        let mut job_ids: Vec<String> =
            self.jobs.iter().filter(|(_, phase)| **phase == Phase::Running).map(|(id, _)| id.to_string()).collect();
        job_ids.sort_unstable();
        for job_ids in job_ids.chunks(MIGRATED_AT_ONCE_MAX).map(<[String]>::to_vec) {
            outputs.push(Output::Send(ToServer::MigrateJob(proto::MigrateJobRequest { job_ids })));
        }
        for report in std::mem::take(&mut self.undelivered) {
            outputs.extend(self.send_end(report));
        }
        outputs.push(self.status(now));
        outputs
    }

    /// The server forgets offers and assignments with the connection. Running jobs continue.
    fn on_disconnected(&mut self) -> Vec<Output> {
        self.link = Link::Down;
        self.receipt_due = None;
        let unread = std::mem::take(&mut self.unconfirmed).into_iter().map(|(_, report)| report);
        let never_sent = std::mem::take(&mut self.undelivered);
        self.undelivered = unread.chain(never_sent).collect();
        let why = "the connection was lost before the assignment";
        let released = std::mem::take(&mut self.deadlines).into_iter();
        released
            .map(|(_, job)| {
                self.jobs.remove(&job);
                Output::Withdraw { job: job.to_string(), why }
            })
            .collect()
    }

    fn on_timer(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = self.expire_jobs(now);
        match self.link {
            Link::Down => {}
            Link::Registering { until } if until <= now => {
                let why = format!("the server did not reply to the registration within {REGISTER_WITHIN:?}");
                outputs.push(Output::Close { why });
            }
            Link::Registering { .. } => {}
            Link::Up { .. } if self.last_received + SILENCE_MAX <= now => {
                outputs.push(Output::Close { why: format!("the server sent nothing for {SILENCE_MAX:?}") });
            }
            Link::Up { .. } => {
                if self.ping_due <= now {
                    self.ping_due = now + PING_EVERY;
                    outputs.push(Output::Ping);
                }
                outputs.extend(self.status_if_due(now));
            }
        }
        outputs
    }

    /// The status message, when utilisation or fullness changed enough or its time has come.
    fn status_if_due(&mut self, now: Instant) -> Option<Output> {
        let (utilisation, full) = self.reported;
        let changed = full != self.is_full() || (self.utilisation - utilisation).abs() >= UTILISATION_STEP;
        let due = changed || self.status_due <= now;
        (due && matches!(self.link, Link::Up { .. })).then(|| self.status(now))
    }

    fn is_full(&self) -> bool {
        self.draining || self.utilisation >= 1.0
    }

    /// The load as the server expects it.
    fn reported_load(&self) -> f32 {
        match self.registration.report_load {
            // A worker is full at a utilisation of 1, for the server at its target load.
            ReportLoad::Scaled => self.utilisation.clamp(0.0, 1.0) * SERVER_FULL,
            ReportLoad::Raw => self.load,
        }
    }

    fn status(&mut self, now: Instant) -> Output {
        self.reported = (self.utilisation, self.is_full());
        self.status_due = now + STATUS_EVERY;
        let status = if self.is_full() { proto::WorkerStatus::WsFull } else { proto::WorkerStatus::WsAvailable };
        let status = proto::UpdateWorkerStatus {
            status: Some(status as i32),
            load: self.reported_load(),
            job_count: u32::try_from(self.jobs.len()).unwrap_or(u32::MAX),
            draining: self.draining,
            ..Default::default()
        };
        match (&self.link, &self.scarce) {
            (Link::Up { embedded: true }, Some(scarce)) if self.is_full() && !self.draining => {
                Output::Status(Status::full(&status, scarce))
            }
            _ => Output::Send(ToServer::UpdateWorker(status)),
        }
    }
}

#[cfg(test)]
mod tests;
