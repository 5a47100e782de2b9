//! The records of a recording, as data: head, start, steps and end.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wasm_worker_core::usage::{UsageRecord, millis};
use wasm_worker_core::verdict::Verdict;

use crate::guest::Seed;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::bindings::wasm_worker::agent::job::Budget;
use crate::guest::calls::Call;
use crate::guest::contract::{Acceptance, JobInfo};
use crate::settings::{Limits, PrewarmMode};

/// What a recording is of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Head {
    /// The version of the program that wrote it.
    pub program: String,
    /// The time of its beginning.
    pub at: Timestamp,
    /// The name of the agent.
    pub agent: String,
    /// The id of the job.
    pub job: String,
    /// The number of the job's attempt.
    pub attempt: u32,
    /// The name of the compiled agent in the cache.
    pub artifact: String,
    /// The hash of the component.
    pub component: String,
    /// The architecture of the machine.
    pub arch: String,
    /// Whether contents are in it.
    pub content: bool,
    /// The source of the prewarmed state, by its setting.
    pub prewarm: String,
    /// The limits that a guest can notice.
    pub limits: RecordedLimits,
}

/// The limits that a guest can notice, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RecordedLimits {
    fuel: Option<u64>,
    memory_bytes: u64,
    stack_bytes: u64,
    hostcall_bytes: u64,
    handles: u64,
    max_duration_ms: Option<u64>,
}

impl RecordedLimits {
    /// Largest values, which are those of the settings.
    const LARGEST: [u64; 4] = [4 << 30, 64 << 20, 1 << 30, 1_000_000];

    /// The limits of a job.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            fuel: limits.fuel,
            memory_bytes: limits.memory_bytes as u64,
            stack_bytes: limits.stack_bytes as u64,
            hostcall_bytes: limits.hostcall_bytes as u64,
            handles: limits.handles as u64,
            max_duration_ms: limits.max_duration.map(millis),
        }
    }

    /// These limits in place of those of `others`. `None` where one is larger than any setting allows.
    pub(crate) fn apply(&self, others: Limits) -> Option<Limits> {
        let all = [self.memory_bytes, self.stack_bytes, self.hostcall_bytes, self.handles];
        if all.iter().zip(Self::LARGEST).any(|(value, largest)| *value > largest) {
            return None;
        }
        let [memory_bytes, stack_bytes, hostcall_bytes, handles] = all.map(|value| usize::try_from(value).ok());
        Some(Limits {
            fuel: self.fuel,
            memory_bytes: memory_bytes?,
            stack_bytes: stack_bytes?,
            hostcall_bytes: hostcall_bytes?,
            handles: handles?,
            max_duration: self.max_duration_ms.map(Duration::from_millis),
            ..others
        })
    }
}

impl Head {
    /// The source of the prewarmed state.
    pub(crate) fn prewarm_mode(&self) -> PrewarmMode {
        if self.prewarm == "pool" { PrewarmMode::Pool } else { PrewarmMode::Snapshot }
    }
}

/// How a job began.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Start {
    /// What `decide` was given and answered; absent where contents are left out.
    pub(crate) decision: Option<Decided>,
    /// The time of the launch, in units of a moment; absent where the job ended before.
    pub(crate) launched: Option<u64>,
}

/// A call of `decide`, which accepted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Decided {
    pub(crate) seed: Seed,
    /// The time of the call, in units of a moment.
    pub(crate) at: u64,
    pub(crate) offer: JobInfo,
    pub(crate) acceptance: Acceptance,
    pub(crate) fuel: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) number: u32,
    /// The time, in units of a moment since the launch.
    pub(crate) at: u64,
    pub(crate) inside: Inside,
    pub(crate) facts: StepFacts,
}

/// What a step was given and did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Inside {
    /// Everything.
    Whole { events: Vec<Event>, calls: Vec<Call> },
    /// Names and sizes.
    Outline { events: Vec<Item>, calls: Vec<Item> },
}

/// An event or a call without its content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// The id that it belongs to; 0 for none.
    pub(crate) id: u32,
    pub(crate) bytes: u32,
}

/// What else there is of a step.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct StepFacts {
    /// The answers of `get-budget`, in order.
    pub(crate) budgets: Vec<Budget>,
    /// The wish for a timer: none, no timer, or after these milliseconds.
    pub(crate) wake: Option<Option<u32>>,
    /// The result of the job, where the step is its last.
    pub(crate) finish: Option<Result<(), String>>,
    /// Fuel that the step used.
    pub(crate) fuel: u64,
    /// CPU time of the step.
    pub(crate) cpu_us: u32,
    pub(crate) end: StepEnd,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) enum StepEnd {
    Returned,
    /// The guest did not notice that it was to be killed, and was dropped.
    Dropped,
    Trapped {
        kind: String,
        detail: String,
        backtrace: Vec<String>,
    },
    Killed {
        code: String,
        detail: String,
        backtrace: Vec<String>,
        /// For a kill by the memory limit: how many admissions of memory the step had asked for.
        admissions: Option<u64>,
    },
    OutOfFuel {
        backtrace: Vec<String>,
    },
    Exited {
        status: u8,
    },
    /// The host failed.
    Failed {
        detail: String,
    },
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct End {
    /// The verdict on the job; absent where the recording ends before its job.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// What the job used.
    #[serde(default)]
    pub usage: Option<UsageRecord>,
    /// Why the recording ends before its job.
    #[serde(default)]
    pub cut: Option<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Head(Box<Head>),
    Start(Box<Start>),
    Step(Box<Step>),
    End(Box<End>),
}
