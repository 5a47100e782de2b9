//! The inputs and outputs of the scheduler, as data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;

use super::RegisteredWorker;
use crate::clock::Moment;
use crate::queue::Rank;
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::report::JobEnd;

/// The id of a dispatch, a job, a worker, a room or an API key.
pub(crate) type Id = Arc<str>;

/// An upper estimate of the memory of a dispatch beside its texts, in bytes.
const OVERHEAD_BYTES: usize = 1_024;
/// The same for an attribute.
const ATTRIBUTE_BYTES: usize = 64;

/// A request to run an agent.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub(crate) id: Id,
    /// The API key that created the dispatch.
    pub(crate) api_key: Id,
    pub(crate) dispatch_key: DispatchKey,
    pub(crate) room: proto::Room,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) restart: proto::JobRestartPolicy,
    pub(crate) priority: i32,
    pub(crate) created_ns: i64,
    /// The time at which the dispatch expires while it waits for its first worker. While the dispatcher runs, the time since
    /// `created_ns` counts, by the monotonic clock.
    pub(crate) deadline_ns: i64,
}

impl Dispatch {
    /// The memory that the dispatch takes, which is more than its job takes in a frame.
    pub(crate) fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + value.len() + ATTRIBUTE_BYTES);
        let attributes: usize = attributes.sum();
        OVERHEAD_BYTES + self.metadata.len() + attributes + self.room.metadata.len() + self.room.name.len()
    }

    /// How long the dispatch waits for a worker.
    pub(super) fn patience(&self) -> Duration {
        nanoseconds(self.deadline_ns.saturating_sub(self.created_ns))
    }

    /// The rest of the first wait, for a dispatch of an earlier dispatcher. It is not longer than the whole wait, wherever the
    /// wall clock jumped to.
    pub(super) fn patience_left(&self, now: Moment) -> Duration {
        nanoseconds(self.deadline_ns.saturating_sub(now.wall_ns)).min(self.patience())
    }

    /// The time since the creation, for a dispatch of an earlier dispatcher.
    pub(super) fn age(&self, now: Moment) -> Duration {
        nanoseconds(now.wall_ns.saturating_sub(self.created_ns))
    }

    pub(super) fn rank(&self) -> Rank {
        Rank::new(self.priority, self.created_ns, self.id.clone())
    }
}

/// A number of nanoseconds; zero for a negative one.
fn nanoseconds(number: i64) -> Duration {
    Duration::from_nanos(u64::try_from(number).unwrap_or(0))
}

/// The bounds of the scheduler.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Whether a dispatch may wait for a worker.
    pub(crate) queue: bool,
    /// Most dispatches of one API key that wait.
    pub(crate) queue_limit: usize,
    /// Memory of all open dispatches, in bytes.
    pub(crate) memory_bytes: usize,
    /// Most attempts of a dispatch whose workers are lost.
    pub(crate) attempts_max: u32,
    /// How long a job waits for its lost worker to return.
    pub(crate) lost_after: Duration,
}

/// A dispatch would pass a bound of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchedulerFull {
    /// The number of dispatches of the API key that wait.
    #[error("the queue is full: {0} dispatches of this API key wait")]
    Queue(usize),
    /// The memory of all open dispatches.
    #[error("the open dispatches use {0} bytes, and `queue-memory` allows no more")]
    Memory(usize),
}

/// A message to a worker.
#[derive(Debug)]
pub(crate) enum ToWorker {
    /// Ask whether the worker takes a job.
    Offer {
        job: Box<proto::Job>,
        /// Whether an earlier attempt was lost.
        resuming: bool,
    },
    /// Give the worker the job that it accepted.
    Assign { job: Box<proto::Job>, answer: Box<proto::AvailabilityResponse> },
    /// Ask the worker to stop a job.
    Terminate { job: Id },
}

/// A change that the store records, in the order of the outputs.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A dispatch was accepted.
    Created { dispatch: Arc<Dispatch>, job: Id },
    /// A worker took the job.
    Assigned { dispatch: Id, job: Id, attempt: u32, worker: Id, instance: String, identity: String, at_ns: i64 },
    /// The worker reported that the job runs.
    Started { job: Id, at_ns: i64 },
    /// The worker of a job returned under a new id.
    Adopted { job: Id, worker: Id, instance: String },
    /// A job ended.
    JobEnded { job: Id, end: JobEnd, at_ns: i64 },
    /// A new attempt began.
    Retried { dispatch: Id, job: Id, attempt: u32 },
    /// A dispatch was cancelled; its job may still run.
    Cancelled { dispatch: Id, at_ns: i64 },
    /// A dispatch ended.
    Ended { dispatch: Id, end: JobEnd, at_ns: i64 },
    /// A worker registered.
    WorkerJoined { id: Id, registered: RegisteredWorker, at_ns: i64 },
    /// The connection of a worker ended.
    WorkerLeft { id: Id, at_ns: i64 },
}

/// A change that is published, and that a waiting request may wait for.
#[derive(Debug)]
pub(crate) enum Notification {
    /// A dispatch was accepted.
    Created { dispatch: Arc<Dispatch>, job: Id },
    /// A worker took the job.
    Assigned { dispatch: Arc<Dispatch>, job: Id, worker: Id, attempt: u32, waited: Duration },
    /// A new attempt began, because the worker was lost.
    Retried { dispatch: Arc<Dispatch>, job: Id, attempt: u32, why: String },
    /// The worker reported that the job runs.
    Started { dispatch: Id },
    /// A dispatch ended.
    Ended { dispatch: Arc<Dispatch>, job: Id, attempts: u32, end: JobEnd },
    /// A worker registered.
    WorkerJoined { worker: Id, dispatch_key: DispatchKey, version: String },
    /// The connection of a worker ended, with this number of jobs.
    WorkerLeft { worker: Id, dispatch_key: DispatchKey, why: String, jobs: usize },
}

/// An action for the owner of the scheduler.
#[derive(Debug)]
pub(crate) enum Output {
    /// Record a change.
    Store(Change),
    /// Publish a change once it is durable.
    Notify(Notification),
    /// Send a message to a worker.
    Send {
        worker: Id,
        message: ToWorker,
        /// Whether the message waits until all changes before it are durable.
        durable: bool,
    },
    /// Find out from the store about jobs that a returned worker has and that are not open.
    UnknownJobs { worker: Id, jobs: Vec<String> },
}
