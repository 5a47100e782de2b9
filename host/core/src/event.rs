//! Every event that is published, as one enum.
//!
//! Observers receive the value; sinks and followers receive it as a line of JSON, in which `event` is the name.

mod dispatcher;

mod hosted;

use serde::Serialize;

pub use dispatcher::DispatcherEvent;
pub use hosted::{
    HostedEvent, HostedFacts, HostedKind, ParticipantDetails, ParticipantFacts, ParticipantTexts, RoomDetails,
    RoomFacts, TrackFacts,
};

use crate::load::Resource;
use crate::refusal::{Reason, Refusal};
use crate::usage::{RoomUse, UsageRecord};
use crate::verdict::{Code, Verdict};

/// Something that happened in a worker, to an agent or to a job.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event")]
pub enum Event {
    /// An agent is compiled and prewarmed, and can take jobs.
    #[serde(rename = "agent.loaded")]
    AgentLoaded {
        /// The name of the agent.
        agent: String,
        /// The source of a job's prewarmed state: `snapshot` or `pool`.
        prewarm: &'static str,
        /// Whether the compiled agent came from the cache.
        cached: bool,
        /// The duration of the load, in milliseconds.
        took_ms: u64,
    },
    /// An agent cannot take jobs.
    #[serde(rename = "agent.failed")]
    AgentFailed {
        /// The name of the agent.
        agent: String,
        /// The cause.
        error: String,
    },
    /// A new version of an agent runs the next jobs.
    #[serde(rename = "agent.reloaded")]
    AgentReloaded {
        /// The name of the agent.
        agent: String,
    },
    /// An agent that keeps crashing gets no jobs, for a pause or until its next reload.
    #[serde(rename = "agent.unavailable")]
    AgentUnavailable {
        /// The name of the agent.
        agent: String,
        /// The cause.
        why: String,
        /// The length of the pause in milliseconds; absent where only a reload ends it.
        retry_ms: Option<u64>,
    },
    /// An agent gets jobs again.
    #[serde(rename = "agent.available")]
    AgentAvailable {
        /// The name of the agent.
        agent: String,
    },
    /// A worker process died.
    #[serde(rename = "worker.died")]
    WorkerDied {
        /// The index of the process, from 0.
        worker: usize,
        /// How the process ended.
        why: String,
        /// The number of jobs that were lost.
        lost: usize,
        /// The time to the start of the next process in milliseconds; absent where none is started.
        retry_ms: Option<u64>,
    },
    /// The server registered a worker.
    #[serde(rename = "worker.registered")]
    WorkerRegistered {
        /// The agent of the worker.
        agent: String,
        /// The server's id of the worker.
        worker: String,
        /// The server's version.
        server: String,
    },
    /// A worker is full, and tells the server.
    #[serde(rename = "worker.full")]
    WorkerFull {
        /// The agent of the worker.
        agent: String,
        /// The number of jobs, pending decisions included.
        jobs: usize,
        /// The load, 0 to 1.
        load: f64,
        /// The resource that is exhausted.
        scarce: Resource,
    },
    /// A worker takes jobs again.
    #[serde(rename = "worker.available")]
    WorkerAvailable {
        /// The agent of the worker.
        agent: String,
        /// The number of jobs.
        jobs: usize,
        /// The load, 0 to 1.
        load: f64,
    },
    /// A worker takes no more jobs, and waits for those that run.
    #[serde(rename = "worker.draining")]
    WorkerDraining {
        /// The agent of the worker.
        agent: String,
        /// The number of jobs that run.
        jobs: usize,
    },
    /// The last job of a draining worker ended.
    #[serde(rename = "worker.drained")]
    WorkerDrained {
        /// The agent of the worker.
        agent: String,
        /// The number of jobs that were asked to stop, or killed.
        cut_short: usize,
    },
    /// The connection to the server was lost, or could not be made. Jobs continue.
    #[serde(rename = "link.lost")]
    LinkLost {
        /// The agent of the worker.
        agent: String,
        /// The cause.
        why: String,
        /// The time to the next attempt in milliseconds; absent where there is none.
        retry_ms: Option<u64>,
    },
    /// The server registered the worker again.
    #[serde(rename = "link.restored")]
    LinkRestored {
        /// The agent of the worker.
        agent: String,
    },
    /// A job was offered and refused.
    #[serde(rename = "offer.refused")]
    OfferRefused {
        /// The agent that the job was offered to.
        agent: String,
        /// The id of the job.
        job: String,
        /// The stable reason.
        reason: Reason,
        /// The cause in one line.
        detail: String,
        /// Whether the server must not offer the job to other workers.
        terminate: bool,
    },
    /// A job was admitted.
    #[serde(rename = "job.created")]
    JobCreated {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// The name of the room.
        room: String,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// The instance of a job was created.
    #[serde(rename = "job.started")]
    JobStarted {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
    },
    /// The prewarmed state of a job is in place.
    #[serde(rename = "job.ready")]
    JobReady {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
    },
    /// The first step of a job begins.
    #[serde(rename = "job.launched")]
    JobLaunched {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
    },
    /// The agent of a job joined its room.
    #[serde(rename = "room.joined")]
    RoomJoined {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// The name of the room.
        room: String,
        /// The time from the call to the open data channels, in milliseconds.
        took_ms: u64,
    },
    /// The agent of a job could not join its room.
    #[serde(rename = "room.failed")]
    RoomFailed {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// The name of the room.
        room: String,
        /// The code of the failure, as the agent gets it.
        code: &'static str,
        /// The cause in one line.
        detail: String,
        /// What the attempts to join used that no reader of the job's [room](crate::job::RoomStatus) has counted.
        #[serde(skip)]
        uncounted: RoomUse,
    },
    /// The agent of a job left its room, or lost it for good.
    #[serde(rename = "room.left")]
    RoomLeft {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// The name of the room.
        room: String,
        /// The reason, in LiveKit's words.
        reason: &'static str,
        /// What the connection was used for. The JSON has its fields beside the others.
        #[serde(flatten)]
        used: RoomUse,
        /// The part of it that no reader of the job's [room](crate::job::RoomStatus) has counted.
        #[serde(skip)]
        uncounted: RoomUse,
    },
    /// A job is slow to yield, or used 80 % of a budget.
    #[serde(rename = "job.warning")]
    JobWarning {
        /// The agent that runs the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// What the warning is about.
        about: WarningKind,
        /// The figures in one line.
        detail: String,
    },
    /// The host ended a job by force.
    #[serde(rename = "job.killed")]
    JobKilled {
        /// The agent that ran the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// The code of the verdict.
        code: Code,
        /// The cause in one line.
        detail: String,
    },
    /// A job ended.
    #[serde(rename = "job.closed")]
    JobClosed {
        /// The agent that ran the job.
        agent: String,
        /// The id of the job.
        job: String,
        /// How the job ended.
        verdict: Box<Verdict>,
        /// What the job used.
        usage: Box<UsageRecord>,
    },
    /// An event of a dispatcher.
    #[serde(untagged)]
    Dispatcher(DispatcherEvent),
}

/// What a warning about a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WarningKind {
    /// One step of the guest ran for `unresponsive-warning`.
    Unresponsive,
    /// The fuel budget.
    Fuel,
    /// The memory budget.
    Memory,
    /// The time budget (`max-duration`).
    Time,
}

impl WarningKind {
    /// The name that events use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unresponsive => "unresponsive",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Time => "time",
        }
    }
}

impl Event {
    /// The event for a refusal.
    pub fn offer_refused(agent: String, job: String, refusal: &Refusal) -> Self {
        let Refusal { reason, detail, terminate, .. } = refusal;
        Self::OfferRefused { agent, job, reason: *reason, detail: detail.clone(), terminate: *terminate }
    }

    /// The stable name, which the JSON line has as `event`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AgentLoaded { .. } => "agent.loaded",
            Self::AgentFailed { .. } => "agent.failed",
            Self::AgentReloaded { .. } => "agent.reloaded",
            Self::AgentUnavailable { .. } => "agent.unavailable",
            Self::AgentAvailable { .. } => "agent.available",
            Self::WorkerDied { .. } => "worker.died",
            Self::WorkerRegistered { .. } => "worker.registered",
            Self::WorkerFull { .. } => "worker.full",
            Self::WorkerAvailable { .. } => "worker.available",
            Self::WorkerDraining { .. } => "worker.draining",
            Self::WorkerDrained { .. } => "worker.drained",
            Self::LinkLost { .. } => "link.lost",
            Self::LinkRestored { .. } => "link.restored",
            Self::OfferRefused { .. } => "offer.refused",
            Self::JobCreated { .. } => "job.created",
            Self::JobStarted { .. } => "job.started",
            Self::JobReady { .. } => "job.ready",
            Self::JobLaunched { .. } => "job.launched",
            Self::RoomJoined { .. } => "room.joined",
            Self::RoomFailed { .. } => "room.failed",
            Self::RoomLeft { .. } => "room.left",
            Self::JobWarning { .. } => "job.warning",
            Self::JobKilled { .. } => "job.killed",
            Self::JobClosed { .. } => "job.closed",
            Self::Dispatcher(event) => event.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_name_of_the_event() {
        let refused =
            Event::offer_refused("a".into(), "AJ_1".into(), &Refusal::new(Reason::Full, "no slot became free"));
        let dispatcher = Event::Dispatcher(DispatcherEvent::StoreRecovered);
        for kind in [
            HostedKind::RoomStarted,
            HostedKind::RoomFinished,
            HostedKind::ParticipantJoined,
            HostedKind::ParticipantLeft,
            HostedKind::TrackPublished,
            HostedKind::TrackUnpublished,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        let left = Event::RoomLeft {
            agent: "a".into(),
            job: "AJ_1".into(),
            room: "lobby".into(),
            reason: "room-deleted",
            used: RoomUse { resumes: 2, ..RoomUse::default() },
            uncounted: RoomUse::default(),
        };
        assert_eq!(serde_json::to_value(&left).unwrap()["resumes"], 2);
        for event in [refused, dispatcher, left] {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["event"], event.name());
        }
    }
}
