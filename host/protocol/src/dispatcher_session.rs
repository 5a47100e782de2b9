//! The dispatcher's side of the conversation with one worker: registration, liveness, and what its frames mean. Pure: no
//! socket, and `now` is an argument. The scheduler decides what is offered to whom.
//!
//! Bounds: a worker registers within [`REGISTER_WITHIN`], is pinged every [`PING_EVERY`], and given up after [`SILENCE_MAX`]
//! without a sign of life, which LiveKit's server does not do.

use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::worker_message::Message as FromWorker;
use tokio::time::Instant;

use crate::registration::check_deployment;
use crate::report::{self, JobEnd, Report};

/// As LiveKit's server has it.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(30);
const NAME_BYTES_MAX: usize = 256;
/// Jobs that one worker may say it still has.
const MIGRATED_MAX: usize = 20_000;

/// How frames are written; LiveKit's server answers in the way it was last spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Binary,
    Json,
}

/// What a frame comes to.
#[derive(Debug)]
pub enum Heard {
    Register(Box<Introduction>),
    Said(Said),
    /// Answered once everything that was said before is on disk: so an answer is a receipt.
    Ping {
        timestamp: i64,
    },
    /// A job that the worker wants to be given.
    Simulate(Box<proto::SimulateJobRequest>),
    Nothing,
}

/// How a worker introduces itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Introduction {
    pub kind: Kind,
    pub instance: String,
    pub version: String,
    pub permissions: proto::ParticipantPermission,
}

/// The key in which a worker and a dispatch must agree: agent name, job type and deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// The name of the agent.
    pub agent: String,
    /// LiveKit's `JobType`.
    pub job_type: i32,
    /// The name of the deployment.
    pub deployment: String,
}

/// A message of a registered worker.
#[derive(Debug)]
pub enum Said {
    /// The answer to an offer.
    Answer(proto::AvailabilityResponse),
    /// The state of the worker.
    Status {
        /// The load, 0 to 1.
        load: f32,
        /// Whether the worker takes more jobs.
        readiness: Readiness,
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

/// Whether a worker takes more jobs, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The worker takes jobs.
    Available,
    /// The worker is full.
    Full,
    /// The worker drains.
    Draining,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Ping,
    Close(String),
}

enum Phase {
    Registering { until: Instant },
    Registered,
}

/// The state of the conversation.
pub struct Session {
    phase: Phase,
    encoding: Encoding,
    heard: Instant,
    ping_due: Instant,
}

impl Session {
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Registering { until: now + REGISTER_WITHIN },
            encoding: Encoding::Binary,
            heard: now,
            ping_due: now + PING_EVERY,
        }
    }

    /// A sign of life.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// What a frame says; an error closes the connection, as with LiveKit's server.
    pub fn frame(&mut self, now: Instant, encoding: Encoding, bytes: &[u8]) -> Result<Heard, String> {
        self.heard = now;
        self.encoding = encoding;
        let (message, more) = decode(encoding, bytes)?;
        match (&self.phase, message) {
            (_, None) => Err("a frame is empty, or says something unknown".into()),
            (_, Some(FromWorker::Ping(ping))) => Ok(Heard::Ping { timestamp: ping.timestamp }),
            (Phase::Registering { .. }, Some(FromWorker::Register(register))) => {
                let introduction = introduce(register)?;
                self.phase = Phase::Registered;
                Ok(Heard::Register(Box::new(introduction)))
            }
            (Phase::Registering { .. }, Some(_)) => Err("want a registration first".into()),
            (Phase::Registered, Some(FromWorker::Register(_))) => Err("a second registration".into()),
            (Phase::Registered, Some(FromWorker::SimulateJob(job))) => Ok(Heard::Simulate(Box::new(job))),
            (Phase::Registered, Some(message)) => Ok(said(message, more)),
        }
    }

    /// A message, as the worker wants to read it.
    pub fn encode(&self, message: proto::server_message::Message) -> Encoded {
        let message = proto::ServerMessage { message: Some(message) };
        match self.encoding {
            Encoding::Binary => Encoded::Binary(message.encode_to_vec()),
            Encoding::Json => Encoded::Json(serde_json::to_string(&message).unwrap_or_default()),
        }
    }

    /// When [`Self::due`] has something.
    pub fn wake_at(&self) -> Instant {
        match self.phase {
            Phase::Registering { until } => until,
            Phase::Registered => self.ping_due.min(self.heard + SILENCE_MAX),
        }
    }

    pub fn due(&mut self, now: Instant) -> Option<Due> {
        match self.phase {
            Phase::Registering { until } if until <= now => {
                Some(Due::Close(format!("it did not register within {REGISTER_WITHIN:?}")))
            }
            Phase::Registering { .. } => None,
            Phase::Registered if self.heard + SILENCE_MAX <= now => {
                Some(Due::Close(format!("it was silent for {SILENCE_MAX:?}")))
            }
            Phase::Registered if self.ping_due <= now => {
                self.ping_due = now + PING_EVERY;
                Some(Due::Ping)
            }
            Phase::Registered => None,
        }
    }
}

/// One frame to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Encoded {
    Binary(Vec<u8>),
    Json(String),
}

/// The message, and the report in it with the fields that LiveKit's own message does not have.
fn decode(encoding: Encoding, bytes: &[u8]) -> Result<(Option<FromWorker>, Option<Report>), String> {
    match encoding {
        Encoding::Binary => {
            let message =
                proto::WorkerMessage::decode(bytes).map_err(|error| format!("a frame is no message: {error}"))?;
            let more =
                matches!(message.message, Some(FromWorker::UpdateJob(_))).then(|| report::decode(bytes)).flatten();
            Ok((message.message, more))
        }
        Encoding::Json => {
            let message: proto::WorkerMessage =
                serde_json::from_slice(bytes).map_err(|error| format!("a frame is no message: {error}"))?;
            Ok((message.message, None))
        }
    }
}

fn introduce(register: proto::RegisterWorkerRequest) -> Result<Introduction, String> {
    let job_type = proto::JobType::try_from(register.r#type).map_err(|_| format!("no job type {}", register.r#type))?;
    check_deployment(&register.deployment).map_err(|why| format!("its deployment is not usable: {why}"))?;
    let texts = [("name", &register.agent_name), ("instance", &register.instance_id), ("version", &register.version)];
    if let Some((what, _)) = texts.iter().find(|(_, text)| text.len() > NAME_BYTES_MAX) {
        return Err(format!("its {what} has more than {NAME_BYTES_MAX} bytes"));
    }
    let kind = Kind { agent: register.agent_name, job_type: job_type as i32, deployment: register.deployment };
    // As LiveKit's server has it for a worker that asks for nothing.
    let all = || proto::ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        can_update_metadata: true,
        ..Default::default()
    };
    Ok(Introduction {
        kind,
        instance: register.instance_id,
        version: register.version,
        permissions: register.allowed_permissions.unwrap_or_else(all),
    })
}

fn said(message: FromWorker, more: Option<Report>) -> Heard {
    match message {
        FromWorker::Availability(mut answer) => {
            // One that is longer is none; the job gets one of its own.
            if answer.participant_identity.len() > NAME_BYTES_MAX {
                answer.participant_identity.clear();
            }
            Heard::Said(Said::Answer(answer))
        }
        FromWorker::UpdateWorker(status) => {
            let full = status.status == Some(proto::WorkerStatus::WsFull as i32);
            let readiness = match (status.draining, full) {
                (true, _) => Readiness::Draining,
                (false, true) => Readiness::Full,
                (false, false) => Readiness::Available,
            };
            Heard::Said(Said::Status { load: status.load, readiness })
        }
        FromWorker::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
            reported(more.unwrap_or(Report { job_id, status, error, ..Report::default() }))
        }
        FromWorker::MigrateJob(migrate) => {
            let sane = |job: &String| !job.is_empty() && job.len() <= NAME_BYTES_MAX;
            Heard::Said(Said::Migrate { jobs: migrate.job_ids.into_iter().filter(sane).take(MIGRATED_MAX).collect() })
        }
        // Handled before.
        FromWorker::Register(_) | FromWorker::Ping(_) | FromWorker::SimulateJob(_) => Heard::Nothing,
    }
}

fn reported(report: Report) -> Heard {
    let job = report.job_id.clone();
    let running = report.status == proto::JobStatus::JsRunning as i32;
    match report.end() {
        Some(end) => Heard::Said(Said::Ended { job, end }),
        None if running => Heard::Said(Said::Running { job }),
        None => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: FromWorker) -> Vec<u8> {
        proto::WorkerMessage { message: Some(message) }.encode_to_vec()
    }

    fn register(deployment: &str) -> Vec<u8> {
        frame(FromWorker::Register(proto::RegisterWorkerRequest {
            agent_name: "a".into(),
            deployment: deployment.into(),
            ..Default::default()
        }))
    }

    #[test]
    fn a_worker_registers_first_once_and_in_time() {
        let now = Instant::now();
        let status = frame(FromWorker::UpdateWorker(proto::UpdateWorkerStatus::default()));
        let mut session = Session::new(now);
        assert!(session.frame(now, Encoding::Binary, &status).is_err());
        let mut session = Session::new(now);
        let ping = frame(FromWorker::Ping(proto::WorkerPing { timestamp: 7 }));
        assert!(matches!(session.frame(now, Encoding::Binary, &ping), Ok(Heard::Ping { timestamp: 7 })));
        assert!(session.frame(now, Encoding::Binary, &register("a_b")).is_err());
        assert!(matches!(session.frame(now, Encoding::Binary, &register("eu")), Ok(Heard::Register(_))));
        assert!(session.frame(now, Encoding::Binary, &register("eu")).is_err());
        let mut silent = Session::new(now);
        assert!(matches!(silent.due(now + REGISTER_WITHIN), Some(Due::Close(_))));
    }

    #[test]
    fn a_silent_worker_is_pinged_then_given_up() {
        let now = Instant::now();
        let mut session = Session::new(now);
        session.frame(now, Encoding::Binary, &register("")).unwrap();
        assert_eq!(session.due(now), None);
        assert_eq!(session.due(now + PING_EVERY), Some(Due::Ping));
        session.heard(now + PING_EVERY);
        assert_eq!(session.due(now + SILENCE_MAX), Some(Due::Ping));
        assert!(matches!(session.due(now + PING_EVERY + SILENCE_MAX), Some(Due::Close(_))));
    }

    #[test]
    fn garbage_closes_and_json_is_answered_in_json() {
        let now = Instant::now();
        let mut session = Session::new(now);
        for bad in [&b"\xff\xff"[..], b"", b"{}"] {
            assert!(session.frame(now, Encoding::Binary, bad).is_err());
        }
        let text = br#"{"register": {"agentName": "a", "type": "JT_ROOM", "unknown": 1}}"#;
        assert!(matches!(session.frame(now, Encoding::Json, text), Ok(Heard::Register(_))));
        let pong = proto::server_message::Message::Pong(proto::WorkerPong { last_timestamp: 1, timestamp: 2 });
        let Encoded::Json(text) = session.encode(pong) else { panic!("not JSON") };
        assert_eq!(text, r#"{"pong":{"lastTimestamp":"1","timestamp":"2"}}"#);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64), json: bool) {
            let now = Instant::now();
            let mut session = Session::new(now);
            session.frame(now, Encoding::Binary, &register("")).unwrap();
            let encoding = if json { Encoding::Json } else { Encoding::Binary };
            drop(session.frame(now, encoding, &bytes));
        }
    }
}
