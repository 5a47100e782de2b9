//! The events of a dispatcher.

use serde::Serialize;

use super::HostedEvent;
use crate::verdict::Verdict;

/// Something that happened in a dispatcher.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event")]
pub enum DispatcherEvent {
    /// A dispatch was accepted.
    #[serde(rename = "dispatch.created")]
    Created {
        /// The id of the dispatch.
        dispatch: String,
        /// The id of the first job.
        job: String,
        /// The agent that runs the dispatch.
        agent: String,
        /// The name of the room.
        room: String,
    },
    /// A worker took a dispatch.
    #[serde(rename = "dispatch.assigned")]
    Assigned {
        /// The id of the dispatch.
        dispatch: String,
        /// The id of the current job.
        job: String,
        /// The agent that runs the dispatch.
        agent: String,
        /// The id of the worker.
        worker: String,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The time since the creation, in microseconds.
        waited_us: u64,
    },
    /// The worker of a dispatch is lost, and a new attempt begins.
    #[serde(rename = "dispatch.again")]
    Again {
        /// The id of the dispatch.
        dispatch: String,
        /// The id of the new job.
        job: String,
        /// The agent that runs the dispatch.
        agent: String,
        /// The number of the attempt, from 2.
        attempt: u32,
        /// Why the last attempt ended.
        why: String,
    },
    /// A dispatch ended.
    #[serde(rename = "dispatch.ended")]
    Ended {
        /// The id of the dispatch.
        dispatch: String,
        /// The id of the last job.
        job: String,
        /// The agent of the dispatch.
        agent: String,
        /// The name of the room.
        room: String,
        /// How the dispatch ended. The JSON has its fields beside the others.
        #[serde(flatten)]
        verdict: Box<Verdict>,
        /// The number of attempts.
        attempts: u32,
    },
    /// A worker registered with the dispatcher.
    #[serde(rename = "worker.joined")]
    WorkerJoined {
        /// The id of the worker.
        worker: String,
        /// The agent of the worker.
        agent: String,
        /// The version of the worker's SDK.
        version: String,
    },
    /// The connection of a worker to the dispatcher ended.
    #[serde(rename = "worker.left")]
    WorkerLeft {
        /// The id of the worker.
        worker: String,
        /// The agent of the worker.
        agent: String,
        /// The cause.
        why: String,
        /// The number of jobs that wait for the worker to return.
        jobs: usize,
    },
    /// The store cannot write. Changes wait in memory.
    #[serde(rename = "store.stuck")]
    StoreStuck {
        /// The cause.
        why: String,
    },
    /// The store writes again.
    #[serde(rename = "store.recovered")]
    StoreRecovered,
    /// Something happened in a room that the dispatcher hosts.
    #[serde(untagged)]
    Hosted(Box<HostedEvent>),
}

impl DispatcherEvent {
    /// The stable name.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "dispatch.created",
            Self::Assigned { .. } => "dispatch.assigned",
            Self::Again { .. } => "dispatch.again",
            Self::Ended { .. } => "dispatch.ended",
            Self::WorkerJoined { .. } => "worker.joined",
            Self::WorkerLeft { .. } => "worker.left",
            Self::StoreStuck { .. } => "store.stuck",
            Self::StoreRecovered => "store.recovered",
            Self::Hosted(event) => event.kind.as_str(),
        }
    }
}
