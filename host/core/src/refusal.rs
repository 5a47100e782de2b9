//! The reasons for which an offer does not become a job.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::verdict::Verdict;

/// The reason of a refusal, by its stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The agent's `decide` rejected the job.
    Rejected,
    /// The agent's `decide` failed.
    DecideFailed,
    /// The job was accepted, and then not assigned.
    Withdrawn,
    /// The load would pass its threshold.
    Load,
    /// No slot or no descriptor became free in time.
    Full,
    /// A limit of all jobs of the agent together is reached.
    Quota,
    /// The agent keeps crashing.
    Unavailable,
    /// The worker drains.
    Draining,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Rejected,
        Self::DecideFailed,
        Self::Withdrawn,
        Self::Load,
        Self::Full,
        Self::Quota,
        Self::Unavailable,
        Self::Draining,
    ];

    /// The name that events and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::DecideFailed => "decide-failed",
            Self::Withdrawn => "withdrawn",
            Self::Load => "load",
            Self::Full => "full",
            Self::Quota => "quota",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
        }
    }

    /// The meaning of the reason, in one line.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Rejected => "the agent's `decide` rejected the job",
            Self::DecideFailed => "the agent's `decide` trapped, or took too long",
            Self::Withdrawn => {
                "the answer came too late, or the server did not assign the job before the timeout, the end of the connection or the end of the worker"
            }
            Self::Load => "the load would pass `load-threshold`",
            Self::Full => {
                "`max-jobs`, the number of instances or the limit on open files is reached, and no job ended in time"
            }
            Self::Quota => {
                "a limit of all jobs of the agent together is reached: `agent-max-jobs`, `agent-cores` or `daily-tokens`"
            }
            Self::Unavailable => "the agent keeps crashing and gets no jobs for now",
            Self::Draining => "the worker drains, and the server did not know that yet",
        }
    }

    /// Advice for the reader, for `wasm-worker explain`.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Rejected => "read the detail; it is the reason that the agent's `decide` gave",
            Self::DecideFailed => {
                "read the detail; it is the verdict on the call of `decide`. `decide` has less than a second"
            }
            Self::Withdrawn => "read the detail; answer sooner, or search the server's log for the job",
            Self::Load => {
                "start another worker, or raise --load-threshold; --load-log 5s shows the load of each resource"
            }
            Self::Full => {
                "read the detail; start another worker, or raise --max-jobs or `ulimit -n`; an agent with several memories takes several instances for one job"
            }
            Self::Quota => {
                "read the detail, which names the limit; wait until the agent uses less, or raise the limit in `[agents.NAME]`; `wasm-worker usage` sums what agents used"
            }
            Self::Unavailable => {
                "read how the last jobs ended (`wasm-worker events`), then reload the agent: change its file, or send SIGHUP"
            }
            Self::Draining => {
                "start the next worker before you stop this one; LiveKit's server drops a job that no worker takes"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The refusal of an offer.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The stable reason.
    pub reason: Reason,
    /// The cause in one line.
    pub detail: String,
    /// Whether the server must not offer the job to other workers.
    pub terminate: bool,
    /// The verdict on the agent's `decide`, where that failed.
    pub verdict: Option<Box<Verdict>>,
}

impl Refusal {
    /// A refusal after which the job may be offered to other workers.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), terminate: false, verdict: None }
    }

    /// The agent's `decide` failed with this verdict.
    pub fn decide_failed(verdict: Verdict) -> Self {
        let detail = format!("{}: {}", verdict.code, verdict.detail);
        Self { verdict: Some(Box::new(verdict)), ..Self::new(Reason::DecideFailed, detail) }
    }
}
