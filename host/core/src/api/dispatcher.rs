//! The types of a dispatcher's API: its dispatches and the workers that are connected to it.
//!
//! Times are Unix times in nanoseconds, as in LiveKit's protocol.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::JobKind;
use crate::load::Scarcity;
use crate::usage::UsageRecord;
use crate::verdict::Verdict;

/// The state of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DispatchState {
    /// The dispatch waits for a worker.
    Pending,
    /// A worker has the job.
    Assigned,
    /// The worker reported that the job runs.
    Running,
    /// The dispatch has its verdict.
    Ended,
}

impl DispatchState {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

/// Why a dispatch waits, and where it stands in its queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Waiting {
    /// The position in the queue, from 1; 0 while a worker has an offer.
    pub position: usize,
    /// The length of the queue of the same agent.
    pub of: usize,
    /// The reason.
    pub why: String,
}

/// One dispatch, with its current attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Dispatch {
    /// The state.
    pub state: DispatchState,
    /// The id of the dispatch.
    pub dispatch: String,
    /// The id of the current job.
    pub job: String,
    /// The name of the agent.
    pub agent: String,
    /// The name of the deployment.
    pub deployment: String,
    /// The name of the room.
    pub room: String,
    /// The metadata; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// The attributes; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
    /// The priority; higher goes first.
    pub priority: i32,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The time of the creation.
    pub created_ns: i64,
    /// The time of the assignment of the current attempt.
    pub assigned_ns: Option<i64>,
    /// The time at which the worker reported that the job runs.
    pub started_ns: Option<i64>,
    /// The time of the end.
    pub ended_ns: Option<i64>,
    /// The id of the worker that has the job.
    pub worker: Option<String>,
    /// How the dispatch ended.
    #[serde(flatten)]
    pub verdict: Option<Verdict>,
    /// Whether the job was asked to stop.
    pub stopping: bool,
    /// Why the dispatch waits, while it does.
    pub waiting: Option<Waiting>,
    /// The attempts that were assigned, in order; absent in lists, and where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

/// One attempt of a dispatch.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Attempt {
    /// The id of the job.
    pub job: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The id of the worker.
    pub worker: String,
    /// The time of the assignment.
    pub assigned_ns: i64,
    /// The time at which the worker reported that the job runs.
    pub started_ns: Option<i64>,
    /// The time of the end.
    pub ended_ns: Option<i64>,
    /// How the job ended.
    #[serde(flatten)]
    pub verdict: Option<Verdict>,
    /// What the job used, where its worker reports that.
    pub usage: Option<UsageRecord>,
}

/// The answer to a list of dispatches, the newest first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct DispatchList {
    /// The dispatches.
    pub jobs: Vec<Dispatch>,
}

/// The answer to a cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cancelled {
    /// The id of the dispatch.
    pub dispatch: String,
}

/// Whether a worker of the pool takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolWorkerState {
    /// The worker takes jobs.
    Available,
    /// The worker reports that it is full.
    Full,
    /// The worker drains.
    Draining,
    /// The worker refused an offer, and is not asked for a moment.
    Paused,
}

impl PoolWorkerState {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Paused => "paused",
        }
    }
}

/// One worker that is connected to the dispatcher.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PoolWorker {
    /// The id of the worker.
    pub worker: String,
    /// The name of its agent.
    pub agent: String,
    /// The kind of jobs that it takes.
    pub job_type: JobKind,
    /// The deployment whose dispatches it takes.
    pub deployment: String,
    /// The version of its SDK.
    pub version: String,
    /// Whether it takes jobs.
    pub state: PoolWorkerState,
    /// The load that it reports, 0 to 1.
    pub load: f32,
    /// The resource that makes it full, where it reports that.
    #[serde(default)]
    pub scarce: Option<Scarcity>,
    /// The time since which it takes no jobs.
    #[serde(default)]
    pub full_since_ns: Option<i64>,
    /// Jobs of this dispatcher that it runs.
    pub jobs: usize,
    /// Offers that it has not answered.
    pub offers: usize,
    /// The time of its registration.
    pub since_ns: i64,
}

/// The answer to a list of workers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PoolWorkerList {
    /// The workers.
    pub workers: Vec<PoolWorker>,
}
