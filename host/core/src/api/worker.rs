//! The types of a worker's API: its agents, its jobs and their log lines.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{RoomStatus, TaskReport, WaitsFor};
use crate::load::Sample;
use crate::record::{JobRecord, LogLine};
use crate::verdict::Code;

/// Whether an agent takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// The agent is loaded for the first time.
    Loading,
    /// The agent takes jobs.
    Available,
    /// The agent crashed repeatedly, and pauses.
    Pausing,
    /// The agent keeps crashing, and takes no jobs until it is reloaded.
    Quarantined,
    /// The worker gave its server up.
    GivenUp,
}

impl AgentState {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Available => "available",
            Self::Pausing => "pausing",
            Self::Quarantined => "quarantined",
            Self::GivenUp => "given-up",
        }
    }
}

/// One agent of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AgentStatus {
    /// The name that the agent is registered under.
    pub agent: String,
    /// The server's id of the worker; absent while there is no connection.
    pub worker: Option<String>,
    /// Whether the agent takes jobs.
    pub state: AgentState,
}

/// A worker process. The first fields are those of LiveKit's own workers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct WorkerInfo {
    /// The kind of jobs that the worker takes, by LiveKit's name.
    pub worker_type: String,
    /// The name of the first agent.
    pub agent_name: String,
    /// The number of jobs that run.
    pub active_jobs: usize,
    /// The version of wasm-worker.
    pub sdk_version: String,
    /// The load, 0 to 1.
    pub worker_load: f64,
    /// The version of LiveKit's agent protocol.
    pub protocol_version: u32,
    /// The agents.
    pub agents: Vec<AgentStatus>,
    /// Whether the worker drains.
    pub draining: bool,
    /// The figures behind the load.
    pub sample: Sample,
}

/// The supervisor of several worker processes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FleetInfo {
    /// The version of wasm-worker.
    pub sdk_version: String,
    /// The number of processes that the settings ask for.
    pub processes: usize,
    /// The number of processes that run.
    pub running: usize,
    /// The number of processes that are registered with the server.
    pub registered: usize,
    /// Whether the processes drain.
    pub draining: bool,
}

/// A job that runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunningJob {
    /// The id of the job.
    pub job: String,
    /// The agent that runs the job.
    pub agent: String,
    /// The name of the room.
    pub room: String,
    /// The id of the dispatch; empty where there is none.
    pub dispatch: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The time of the launch.
    pub since: Timestamp,
    /// CPU time so far, in microseconds.
    pub cpu_us: u64,
    /// Time spent in finished waits so far, in microseconds.
    pub wait_us: u64,
    /// What the job waits for; absent in the answer of an older worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsFor>,
    /// The room; absent for a job that has not asked for it, and in the answer of an older worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_room: Option<RoomStatus>,
    /// The tasks that the agent reported last; absent in lists, and while there is no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskReport>,
}

/// A job that ended, in brief.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndedJob {
    /// The id of the job.
    pub job: String,
    /// The agent that ran the job.
    pub agent: String,
    /// The name of the room.
    pub room: String,
    /// The time of the end.
    pub at: Timestamp,
    /// The code of the verdict.
    pub code: Code,
    /// The detail of the verdict.
    pub detail: String,
}

/// The jobs of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct JobList {
    /// The jobs that run, the oldest first.
    pub running: Vec<RunningJob>,
    /// The jobs that ended last, the newest first.
    pub ended: Vec<EndedJob>,
}

/// One job of a worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "state", content = "job", rename_all = "lowercase")]
pub enum JobDetail {
    /// The job runs.
    Running(Box<RunningJob>),
    /// The job ended.
    Ended(Box<JobRecord>),
}

/// Log lines of one job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct JobLog {
    /// The id of the job.
    pub job: String,
    /// The lines that are kept, the oldest first.
    pub lines: Vec<LogLine>,
    /// The number of older lines that are not kept.
    pub not_kept: u64,
    /// Whether the job ended, so that no line follows.
    pub ended: bool,
}

/// The answer to a kill.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Killing {
    /// The id of the job.
    pub job: String,
    /// `killing`.
    pub state: String,
}

/// The answer to a drain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Draining {
    /// `draining`.
    pub state: String,
}
