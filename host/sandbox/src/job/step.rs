//! The phases of a job, what can happen to it, and what is to be done about it: the words of [`super::life::Life`].

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::event::WarningKind;
use wasm_worker_core::verdict::{Code, Verdict};

use super::run::Crash;
use crate::guest::control::StopBy;
use crate::guest::kill::{Budget, Kill, Warning};

/// The phase of a job.
#[derive(Debug)]
pub(super) enum Phase {
    /// The job is admitted.
    Created,
    /// The instance exists.
    Started,
    /// The prewarmed state is in place.
    Ready,
    /// The job runs, step by step.
    Running,
    /// The agent has finished, and what it sent leaves the host until then at most.
    Delivering { result: Result<(), String>, until: Instant },
    /// The job is to be killed, since `due`. The guest has until `until` to notice.
    Killing { kill: Kill, due: Instant, until: Instant },
    /// The job has its verdict.
    Closed,
}

impl Phase {
    /// The name of the phase, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Delivering { .. } => "delivering",
            Self::Killing { .. } => "killing",
            Self::Closed => "closed",
        }
    }
}

/// Something that happens to a job.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The instance exists.
    InstanceMade,
    /// `prewarm` has run, or its state came from a snapshot.
    StateReady,
    /// The first step begins now.
    Launched,
    /// The job is asked to stop.
    StopAsked { by: StopBy, reason: String },
    /// An operator kills the job.
    KillAsked,
    /// The job came close to a limit.
    Warned(Warning),
    /// A step returned.
    StepReturned,
    /// The agent finished with this result.
    Finished(Result<(), String>),
    /// Everything that the job sent has left the host.
    Delivered,
    /// Nothing can wake the job.
    Stalled { detail: String },
    /// A call into the guest did not return.
    Crashed(Crash),
    /// The time of [`super::life::Life::wake_at`] has come.
    TimeUp,
}

impl Input {
    /// The name of the input, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::InstanceMade => "instance made",
            Self::StateReady => "state ready",
            Self::Launched => "launched",
            Self::StopAsked { .. } => "stop asked",
            Self::KillAsked => "kill asked",
            Self::Warned(_) => "warned",
            Self::StepReturned => "step returned",
            Self::Finished(_) => "finished",
            Self::Delivered => "delivered",
            Self::Stalled { .. } => "stalled",
            Self::Crashed(_) => "crashed",
            Self::TimeUp => "time up",
        }
    }
}

/// Something that the supervisor has to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Publish an event.
    Publish(Notice),
    /// Send the request to stop to the guest's inbox.
    AskGuestToStop { by: StopBy, reason: String, grace: Duration },
    /// Warn that 80 % of `max-duration` is over.
    WarnOfTime { used: Duration, limit: Duration },
    /// Kill the guest.
    KillGuest(Kill),
    /// The job has its verdict.
    Close(Verdict),
}

/// An event of a job before its end. The last event comes with the verdict.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notice {
    /// The job is admitted.
    Created,
    /// The instance exists.
    Started,
    /// The prewarmed state is in place.
    Ready,
    /// The first step begins.
    Launched,
    /// The job came close to a limit.
    Warning { about: WarningKind, detail: String },
    /// The job was ended by force.
    Killed { code: Code, detail: String },
}

impl Notice {
    /// The event about a warning.
    pub(super) fn of_warning(warning: &Warning) -> Self {
        match warning {
            Warning::SlowToYield { ran } => {
                Self::Warning { about: WarningKind::Unresponsive, detail: format!("one step ran for {ran:?}") }
            }
            Warning::Budget { budget, used, limit } => {
                Self::Warning { about: kind_of(*budget), detail: format!("{used} of {limit} used") }
            }
        }
    }
}

const fn kind_of(budget: Budget) -> WarningKind {
    match budget {
        Budget::Fuel => WarningKind::Fuel,
        Budget::Memory => WarningKind::Memory,
        Budget::Time => WarningKind::Time,
    }
}
