//! An offer that does not become a job, and why.

use std::fmt;

use super::admission::verdict_outside_a_job;
use super::run::Crash;
use super::verdict::Verdict;
use crate::events::Event;

/// Why an offer was refused, by its stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The agent did not want it.
    Rejected,
    /// The agent could not say.
    DecideFailed,
    /// It was accepted, and then not assigned.
    Withdrawn,
    /// The machine has too much to do already.
    Load,
    /// There was no room in time.
    Full,
    /// The agent keeps failing.
    Unavailable,
    /// The worker is being stopped.
    Draining,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Rejected,
        Self::DecideFailed,
        Self::Withdrawn,
        Self::Load,
        Self::Full,
        Self::Unavailable,
        Self::Draining,
    ];

    /// The name, as in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::DecideFailed => "decide-failed",
            Self::Withdrawn => "withdrawn",
            Self::Load => "load",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
        }
    }

    /// What it means, in a line.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Rejected => "the agent's `decide` did not want it",
            Self::DecideFailed => "the agent's `decide` trapped, or took too long",
            Self::Withdrawn => {
                "it was accepted too late, or not assigned: in time, or before the connection or the worker ended"
            }
            Self::Load => "the load would have passed `load-threshold`",
            Self::Full => {
                "there were as many jobs as `max-jobs` allows, or as instances there may be, and none ended in time"
            }
            Self::Unavailable => "the agent keeps crashing, and gets no jobs for now",
            Self::Draining => "the worker is being stopped, and the server did not know it yet",
        }
    }

    /// What to do about it, for `wasm-worker explain`.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Rejected => "see the agent's `decide`; the detail is what it says",
            Self::DecideFailed => "read the detail: it is a verdict of its own; decide in less than a second",
            Self::Withdrawn => "read the detail; decide sooner, or see the server's log for the job",
            Self::Load => "start another worker, or raise --load-threshold; --load-log 5s shows what there is least of",
            Self::Full => {
                "start another worker, or raise --max-jobs; an agent of several memories takes as many instances as one"
            }
            Self::Unavailable => {
                "see how its last jobs ended (`wasm-worker events`), and load it again: change its file, or send SIGHUP"
            }
            Self::Draining => {
                "start the next worker before you stop this one: LiveKit's server drops what nobody takes"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job that will not run here.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// In words.
    pub detail: String,
    /// Whether it may be offered to others.
    pub terminate: bool,
    /// Why the agent could not say, where that is the reason.
    pub verdict: Option<Box<Verdict>>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), terminate: false, verdict: None }
    }

    /// The agent could not say.
    pub(crate) fn of(crash: Crash) -> Self {
        let verdict = verdict_outside_a_job(crash);
        let detail = format!("{}: {}", verdict.code, verdict.detail);
        Self { verdict: Some(Box::new(verdict)), ..Self::new(Reason::DecideFailed, detail) }
    }

    /// What is published of it.
    pub(crate) fn event(&self, agent: String, job: String) -> Event {
        let Self { reason, detail, terminate, .. } = self;
        Event::OfferRefused { agent, job, reason: reason.as_str(), detail: detail.clone(), terminate: *terminate }
    }
}
