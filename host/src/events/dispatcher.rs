//! What happens in a dispatcher.

use serde::Serialize;

use crate::job::verdict::{Class, Code};

/// Something that happened there.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event")]
pub enum DispatcherEvent {
    /// A dispatch was accepted.
    #[serde(rename = "dispatch.created")]
    Created {
        /// The dispatch.
        dispatch: String,
        /// Its first job.
        job: String,
        /// The agent that it is for.
        agent: String,
        /// Its room.
        room: String,
    },
    /// A worker has taken it.
    #[serde(rename = "dispatch.assigned")]
    Assigned {
        /// The dispatch.
        dispatch: String,
        /// Its present job.
        job: String,
        /// The agent that it is for.
        agent: String,
        /// The worker.
        worker: String,
        /// 1 for the first attempt.
        attempt: u32,
        /// Since it was created.
        waited_us: u64,
    },
    /// Its worker is lost; there is another attempt.
    #[serde(rename = "dispatch.again")]
    Again {
        /// The dispatch.
        dispatch: String,
        /// The new job.
        job: String,
        /// The agent that it is for.
        agent: String,
        /// From 2.
        attempt: u32,
        /// What became of the one before.
        why: String,
    },
    /// It is over.
    #[serde(rename = "dispatch.ended")]
    Ended {
        /// The dispatch.
        dispatch: String,
        /// Its last job.
        job: String,
        /// The agent that it was for.
        agent: String,
        /// Its room.
        room: String,
        /// How it ended.
        code: Code,
        /// In words.
        detail: String,
        /// How many there were.
        attempts: u32,
    },
    /// A worker has joined the dispatcher.
    #[serde(rename = "worker.joined")]
    WorkerJoined {
        /// Its id.
        worker: String,
        /// The agent that it has.
        agent: String,
        /// Of its SDK.
        version: String,
    },
    /// A worker's connection to the dispatcher is gone.
    #[serde(rename = "worker.left")]
    WorkerLeft {
        /// Its id.
        worker: String,
        /// The agent that it has.
        agent: String,
        /// What happened to it.
        why: String,
        /// Jobs that wait for it to come back.
        jobs: usize,
    },
    /// The dispatcher's store takes nothing; what is to be written waits.
    #[serde(rename = "store.stuck")]
    StoreStuck {
        /// Why.
        why: String,
    },
    /// It takes everything again.
    #[serde(rename = "store.recovered")]
    StoreRecovered,
}

impl DispatcherEvent {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "dispatch.created",
            Self::Assigned { .. } => "dispatch.assigned",
            Self::Again { .. } => "dispatch.again",
            Self::Ended { .. } => "dispatch.ended",
            Self::WorkerJoined { .. } => "worker.joined",
            Self::WorkerLeft { .. } => "worker.left",
            Self::StoreStuck { .. } => "store.stuck",
            Self::StoreRecovered => "store.recovered",
        }
    }

    pub(super) fn log(&self, name: &str) {
        match self {
            Self::Created { dispatch, job, agent, room } => {
                tracing::info!(target: "dispatcher", agent, dispatch, job, room, "{name}");
            }
            Self::Assigned { dispatch, job, agent, worker, attempt, waited_us } => {
                tracing::info!(target: "dispatcher", agent, dispatch, job, worker, attempt, waited_us, "{name}");
            }
            Self::Again { dispatch, job, agent, attempt, why } => {
                tracing::warn!(target: "dispatcher", agent, dispatch, job, attempt, why, "{name}");
            }
            Self::Ended { dispatch, job, agent, code, detail, attempts, .. } => match code.class() {
                Class::Ok => tracing::info!(target: "dispatcher", agent, dispatch, job, %code, attempts, "{name}"),
                _ => tracing::warn!(target: "dispatcher", agent, dispatch, job, %code, detail, attempts, "{name}"),
            },
            Self::WorkerJoined { worker, agent, version } => {
                tracing::info!(target: "dispatcher", agent, worker, version, "{name}");
            }
            Self::WorkerLeft { worker, agent, why, jobs } => {
                tracing::info!(target: "dispatcher", agent, worker, why, jobs, "{name}");
            }
            Self::StoreStuck { why } => tracing::error!(target: "dispatcher", why, "{name}"),
            Self::StoreRecovered => tracing::info!(target: "dispatcher", "{name}"),
        }
    }
}
