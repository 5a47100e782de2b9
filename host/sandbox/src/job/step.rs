//! The phases of a job, what can happen to it, and what is to be done about it: the words of [`super::life::Life`].

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::event::WarningKind;
use wasm_worker_core::verdict::{Code, Verdict};

use super::run::Crash;
use crate::guest::bindings::wasm_worker::agent::inbox::BudgetKind;
use crate::guest::control::StopBy;
use crate::guest::kill::{Kill, Warning};

/// The phase of a job.
#[derive(Debug)]
pub(super) enum Phase {
    /// The job is admitted.
    Created,
    /// The instance exists.
    Started,
    /// The prewarmed state is in place.
    Ready,
    /// The entrypoint runs.
    Running,
    /// The entrypoint has returned, and `shutdown` runs until then at most.
    Finishing { result: Result<(), String>, until: Instant },
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
            Self::Finishing { .. } => "finishing",
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
    /// The entrypoint is called now.
    Launched,
    /// The job is asked to stop.
    StopAsked { by: StopBy, reason: String },
    /// An operator kills the job.
    KillAsked,
    /// The job came close to a limit.
    Warned(Warning),
    /// The entrypoint returned.
    EntrypointReturned(Result<(), String>),
    /// `shutdown` returned.
    ShutdownReturned,
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
            Self::EntrypointReturned(_) => "entrypoint returned",
            Self::ShutdownReturned => "shutdown returned",
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
    AskGuestToStop { reason: String, grace: Duration },
    /// Warn that 80 % of `max-duration` is over.
    WarnOfTime { used: Duration, limit: Duration },
    /// Call the guest's `shutdown`.
    CallShutdown { reason: String },
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
    /// The entrypoint is called.
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
                Self::Warning { about: WarningKind::Unresponsive, detail: format!("ran for {ran:?} without waiting") }
            }
            Warning::Budget(budget) => Self::Warning {
                about: kind_of(budget.budget),
                detail: format!("{} of {} used", budget.used, budget.limit),
            },
        }
    }
}

const fn kind_of(budget: BudgetKind) -> WarningKind {
    match budget {
        BudgetKind::Fuel => WarningKind::Fuel,
        BudgetKind::Memory => WarningKind::Memory,
        BudgetKind::Time => WarningKind::Time,
    }
}
