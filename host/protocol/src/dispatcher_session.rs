//! The dispatcher's side of a connection with one worker: registration, liveness, and the meaning of its frames.
//!
//! Pure: the session has no socket, and `now` is an argument. The scheduler decides which worker is offered which job.
//!
//! Bounds: a worker registers within [`REGISTER_WITHIN`]. The session pings it every [`PING_EVERY`], and closes the connection
//! after [`SILENCE_MAX`] without a frame; LiveKit's server has no such limit.

mod frames;

use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::worker_message::Message as FromWorker;
use tokio::time::Instant;
use wasm_worker_core::load::Scarcity;

use crate::report::JobEnd;
use crate::status;
use frames::{decode, migrated, status_message, worker_message, worker_registration};

/// Time limit for a registration, as in LiveKit's server.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// Time between two pings.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Longest time without a frame from the worker.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest name or id that a worker may send, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most jobs that one registration may report after a reconnect: as many as a worker may have. Further ones are ignored.
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
    Registering {
        until: Instant,
    },
    Registered {
        /// The jobs that the worker may still report after its reconnect.
        migrations_left: usize,
    },
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
        match (&mut self.phase, message) {
            (_, None) => Err("received a frame that is empty or of an unknown type".into()),
            (_, Some(FromWorker::Ping(ping))) => Ok(Received::Ping { timestamp: ping.timestamp }),
            (Phase::Registering { .. }, Some(FromWorker::Register(request))) => {
                let registration = worker_registration(request)?;
                self.phase = Phase::Registered { migrations_left: MIGRATED_JOBS_MAX };
                Ok(Received::Register(Box::new(registration)))
            }
            (Phase::Registering { .. }, Some(_)) => Err("received a message before the registration".into()),
            (Phase::Registered { .. }, Some(FromWorker::Register(_))) => Err("received a second registration".into()),
            (Phase::Registered { .. }, Some(FromWorker::SimulateJob(job))) => Ok(Received::Simulate(Box::new(job))),
            (Phase::Registered { migrations_left }, Some(FromWorker::MigrateJob(migrate))) => {
                Ok(migrated(migrate, migrations_left))
            }
            (Phase::Registered { .. }, Some(FromWorker::UpdateWorker(status))) => {
                let scarce = if encoding == Encoding::Binary { status::scarcity(bytes) } else { None };
                Ok(Received::Message(status_message(status, scarce)))
            }
            (Phase::Registered { .. }, Some(message)) => Ok(worker_message(message, report)),
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
            Phase::Registered { .. } => self.ping_due.min(self.last_received + SILENCE_MAX),
        }
    }

    /// The action that is due, where there is one.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        match self.phase {
            Phase::Registering { until } if until <= now => {
                Some(Due::Close(format!("the worker did not register within {REGISTER_WITHIN:?}")))
            }
            Phase::Registering { .. } => None,
            Phase::Registered { .. } if self.last_received + SILENCE_MAX <= now => {
                Some(Due::Close(format!("the worker sent nothing for {SILENCE_MAX:?}")))
            }
            Phase::Registered { .. } if self.ping_due <= now => {
                self.ping_due = now + PING_EVERY;
                Some(Due::Ping)
            }
            Phase::Registered { .. } => None,
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

impl Encoded {
    /// The length of the frame, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Binary(bytes) => bytes.len(),
            Self::Json(text) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests;
