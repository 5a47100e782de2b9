//! The types of the sums over the bills of jobs that ended.

use serde::{Deserialize, Serialize};

use crate::network::traffic::Traffic;
use crate::usage::{AudioUse, ModelSums};

/// The name under which everything is summed whose own name the bound of the sums leaves no space for.
pub const OTHERS: &str = "*";

/// What the bills are summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageBy {
    /// The name of the agent.
    Agent,
    /// The API key that created the dispatch.
    Key,
    /// The host that a job reached by HTTP or WebSocket.
    Host,
}

impl UsageBy {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Key => "key",
            Self::Host => "host",
        }
    }
}

/// The sums of time and work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct WorkSums {
    /// Time of jobs, from the admission to the end, in microseconds.
    pub wall_us: u64,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Fuel, about one unit for each WebAssembly instruction.
    pub fuel: u64,
}

/// The sums of one agent, API key or host.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct UsageSums {
    /// The name of the agent, the API key, or the host without its port; [`OTHERS`] for the rest.
    pub name: String,
    /// Jobs. A host has those that reached it.
    pub jobs: u64,
    /// Those of the jobs that have no bill: their worker was lost, or reports none.
    pub unmeasured: u64,
    /// Time and work; absent for a host.
    #[serde(flatten)]
    pub work: Option<WorkSums>,
    /// Use of the network.
    pub network: Traffic,
    /// Sound; none for a host. The variation of the times between packets is the highest of all jobs.
    #[serde(default, skip_serializing_if = "AudioUse::is_empty")]
    pub audio: AudioUse,
    /// Use of models, as the agents reported it; empty for a host.
    pub models: Vec<ModelSums>,
}

/// The sums over the bills of the jobs that ended in a period. Times are Unix times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct UsageList {
    /// What the bills are summed by.
    pub by: UsageBy,
    /// The begin of the period.
    pub since_ns: i64,
    /// The end of the period.
    pub until_ns: i64,
    /// Jobs that ended in the period.
    pub jobs: u64,
    /// Those of the jobs that have no bill.
    pub unmeasured: u64,
    /// The sums, by name.
    pub sums: Vec<UsageSums>,
}
