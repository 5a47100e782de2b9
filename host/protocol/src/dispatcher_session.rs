//! The dispatcher's side of a connection with one worker: registration, liveness, and the meaning of its frames.
//!
//! Pure: the session has no socket, and `now` is an argument. The scheduler decides which worker is offered which job.
//!
//! Bounds: a worker registers within [`REGISTER_WITHIN`]. The session pings it every [`PING_EVERY`], and closes the connection
//! after [`SILENCE_MAX`] without a frame; LiveKit's server has no such limit.

use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::worker_message::Message as FromWorker;
use tokio::time::Instant;
use wasm_worker_core::load::Scarcity;

use crate::registration::check_deployment;
use crate::report::{self, JobEnd, Report};
use crate::status;

/// Time limit for a registration, as in LiveKit's server.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// Time between two pings.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Longest time without a frame from the worker.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest name or id that a worker may send, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most jobs that one worker may report after a reconnect.
const MIGRATED_JOBS_MAX: usize = 20_000;

/// The encoding of a frame. Like LiveKit's server, the session answers in the encoding of the last frame that it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf in a binary frame.
    Binary,
    /// JSON in a text frame.
    Json,
}

/// The meaning of a received frame.
#[derive(Debug)]
pub enum Received {
    /// The registration of the worker.
    Register(Box<WorkerRegistration>),
    /// A message of the registered worker.
    Message(WorkerMessage),
    /// A ping. Its answer is a receipt: it is sent once everything that the worker sent before is durable.
    Ping {
        /// The worker's timestamp, which the answer repeats.
        timestamp: i64,
    },
    /// The worker asks for a job, to try its agent.
    Simulate(Box<proto::SimulateJobRequest>),
    /// A frame without consequence.
    Nothing,
}

/// The registration of a worker, as a dispatcher reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRegistration {
    /// The dispatches that the worker takes.
    pub dispatch_key: DispatchKey,
    /// The id of the worker's process; empty where the worker sends none.
    pub instance: String,
    /// The version of the worker's SDK.
    pub version: String,
    /// The permissions of the agent in its room.
    pub permissions: proto::ParticipantPermission,
}

/// The matching key of workers and dispatches: agent name, job type and deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DispatchKey {
    /// The name of the agent.
    pub agent: String,
    /// The number of LiveKit's `JobType`.
    pub job_type: i32,
    /// The name of the deployment.
    pub deployment: String,
}

/// A message of a registered worker.
#[derive(Debug)]
pub enum WorkerMessage {
    /// The answer to an offer.
    Answer(proto::AvailabilityResponse),
    /// The state of the worker.
    Status {
        /// The load, 0 to 1.
        load: f32,
        /// Whether the worker takes more jobs.
        readiness: Readiness,
    },
    /// The state of a full worker that reports the resource that makes it full.
    Full {
        /// The load, 0 to 1.
        load: f32,
        /// The resource.
        scarce: Scarcity,
    },
    /// A job runs.
    Running {
        /// The id of the job.
        job: String,
    },
    /// A job ended.
    Ended {
        /// The id of the job.
        job: String,
        /// How the job ended.
        end: JobEnd,
    },
    /// The jobs that the worker still has after a reconnect.
    Migrate {
        /// The ids of the jobs.
        jobs: Vec<String>,
    },
}

/// Whether a worker takes more jobs, by its own report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The worker takes jobs.
    Available,
    /// The worker is full.
    Full,
    /// The worker drains.
    Draining,
}

/// An action that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Ping the worker.
    Ping,
    /// Close the connection, for this reason.
    Close(String),
}

enum Phase {
    Registering { until: Instant },
    Registered,
}

/// The state of a connection.
pub struct Session {
    phase: Phase,
    /// The encoding of the last frame.
    encoding: Encoding,
    /// The time of the last sign of life.
    last_received: Instant,
    ping_due: Instant,
}

impl Session {
    /// The session of a connection that was accepted at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Registering { until: now + REGISTER_WITHIN },
            encoding: Encoding::Binary,
            last_received: now,
            ping_due: now + PING_EVERY,
        }
    }

    /// Note a sign of life.
    pub fn note_alive(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// The meaning of a frame.
    ///
    /// # Errors
    /// When the frame is not allowed or cannot be read. The caller closes the connection, as LiveKit's server does.
    pub fn receive(&mut self, now: Instant, encoding: Encoding, bytes: &[u8]) -> Result<Received, String> {
        self.last_received = now;
        self.encoding = encoding;
        let (message, report) = decode(encoding, bytes)?;
        match (&self.phase, message) {
            (_, None) => Err("received a frame that is empty or of an unknown type".into()),
            (_, Some(FromWorker::Ping(ping))) => Ok(Received::Ping { timestamp: ping.timestamp }),
            (Phase::Registering { .. }, Some(FromWorker::Register(request))) => {
                let registration = worker_registration(request)?;
                self.phase = Phase::Registered;
                Ok(Received::Register(Box::new(registration)))
            }
            (Phase::Registering { .. }, Some(_)) => Err("received a message before the registration".into()),
            (Phase::Registered, Some(FromWorker::Register(_))) => Err("received a second registration".into()),
            (Phase::Registered, Some(FromWorker::SimulateJob(job))) => Ok(Received::Simulate(Box::new(job))),
            (Phase::Registered, Some(FromWorker::UpdateWorker(status))) => {
                let scarce = if encoding == Encoding::Binary { status::scarcity(bytes) } else { None };
                Ok(Received::Message(status_message(status, scarce)))
            }
            (Phase::Registered, Some(message)) => Ok(worker_message(message, report)),
        }
    }

    /// The frame for a message, in the encoding that the worker uses.
    pub fn encode(&self, message: proto::server_message::Message) -> Encoded {
        let message = proto::ServerMessage { message: Some(message) };
        match self.encoding {
            Encoding::Binary => Encoded::Binary(message.encode_to_vec()),
            Encoding::Json => Encoded::Json(serde_json::to_string(&message).unwrap_or_default()),
        }
    }

    /// The time at which [`Self::due`] returns an action.
    pub fn wake_at(&self) -> Instant {
        match self.phase {
            Phase::Registering { until } => until,
            Phase::Registered => self.ping_due.min(self.last_received + SILENCE_MAX),
        }
    }

    /// The action that is due, where there is one.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        match self.phase {
            Phase::Registering { until } if until <= now => {
                Some(Due::Close(format!("the worker did not register within {REGISTER_WITHIN:?}")))
            }
            Phase::Registering { .. } => None,
            Phase::Registered if self.last_received + SILENCE_MAX <= now => {
                Some(Due::Close(format!("the worker sent nothing for {SILENCE_MAX:?}")))
            }
            Phase::Registered if self.ping_due <= now => {
                self.ping_due = now + PING_EVERY;
                Some(Due::Ping)
            }
            Phase::Registered => None,
        }
    }
}

/// A frame to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Encoded {
    /// A binary frame.
    Binary(Vec<u8>),
    /// A text frame.
    Json(String),
}

/// The message, and its report with the fields that LiveKit's own message lacks.
fn decode(encoding: Encoding, bytes: &[u8]) -> Result<(Option<FromWorker>, Option<Report>), String> {
    match encoding {
        Encoding::Binary => {
            let message = proto::WorkerMessage::decode(bytes)
                .map_err(|error| format!("received a frame that is not protobuf: {error}"))?;
            let report =
                matches!(message.message, Some(FromWorker::UpdateJob(_))).then(|| report::decode(bytes)).flatten();
            Ok((message.message, report))
        }
        Encoding::Json => {
            let message: proto::WorkerMessage = serde_json::from_slice(bytes)
                .map_err(|error| format!("received a frame that is not a JSON message: {error}"))?;
            Ok((message.message, None))
        }
    }
}

fn worker_registration(request: proto::RegisterWorkerRequest) -> Result<WorkerRegistration, String> {
    let job_type =
        proto::JobType::try_from(request.r#type).map_err(|_| format!("unknown job type {}", request.r#type))?;
    check_deployment(&request.deployment).map_err(|why| format!("invalid deployment name: {why}"))?;
    let texts = [("name", &request.agent_name), ("instance", &request.instance_id), ("version", &request.version)];
    if let Some((field, _)) = texts.iter().find(|(_, text)| text.len() > NAME_BYTES_MAX) {
        return Err(format!("the {field} of the worker has more than {NAME_BYTES_MAX} bytes"));
    }
    let dispatch_key =
        DispatchKey { agent: request.agent_name, job_type: job_type as i32, deployment: request.deployment };
    // The default of LiveKit's server.
    let default_permissions = || proto::ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        can_update_metadata: true,
        ..Default::default()
    };
    Ok(WorkerRegistration {
        dispatch_key,
        instance: request.instance_id,
        version: request.version,
        permissions: request.allowed_permissions.unwrap_or_else(default_permissions),
    })
}

fn worker_message(message: FromWorker, report: Option<Report>) -> Received {
    match message {
        FromWorker::Availability(mut answer) => {
            // An identity that is too long counts as none; the scheduler then derives one from the job.
            if answer.participant_identity.len() > NAME_BYTES_MAX {
                answer.participant_identity.clear();
            }
            Received::Message(WorkerMessage::Answer(answer))
        }
        FromWorker::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
            job_report(report.unwrap_or(Report { job_id, status, error, ..Report::default() }))
        }
        FromWorker::MigrateJob(migrate) => {
            let valid = |job: &String| !job.is_empty() && job.len() <= NAME_BYTES_MAX;
            let jobs = migrate.job_ids.into_iter().filter(valid).take(MIGRATED_JOBS_MAX).collect();
            Received::Message(WorkerMessage::Migrate { jobs })
        }
        // `Session::receive` handles them.
        FromWorker::Register(_) | FromWorker::Ping(_) | FromWorker::SimulateJob(_) | FromWorker::UpdateWorker(_) => {
            Received::Nothing
        }
    }
}

fn status_message(status: proto::UpdateWorkerStatus, scarce: Option<Scarcity>) -> WorkerMessage {
    let (load, full) = (status.load, status.status == Some(proto::WorkerStatus::WsFull as i32));
    match (status.draining, full, scarce) {
        (true, ..) => WorkerMessage::Status { load, readiness: Readiness::Draining },
        (false, true, Some(scarce)) => WorkerMessage::Full { load, scarce },
        (false, true, None) => WorkerMessage::Status { load, readiness: Readiness::Full },
        (false, false, _) => WorkerMessage::Status { load, readiness: Readiness::Available },
    }
}

fn job_report(report: Report) -> Received {
    let job = report.job_id.clone();
    let running = report.status == proto::JobStatus::JsRunning as i32;
    match report.end() {
        Some(end) => Received::Message(WorkerMessage::Ended { job, end }),
        None if running => Received::Message(WorkerMessage::Running { job }),
        None => Received::Nothing,
    }
}

#[cfg(test)]
mod tests;
