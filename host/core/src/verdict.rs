//! How a job ended, who is responsible, and whether a retry may help. A verdict is data, not an error.
//!
//! One [`Verdict`] travels unchanged from the return of the guest's call to the last reader: the event, the report to the
//! server, the store, the webhook and `wasm-worker job`.

mod explain;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::language::Language;
use crate::text::clip;

/// The stable name of an end. Events, records, metrics and the server see [`Code::as_str`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The agent finished ok.
    Completed,
    /// The agent finished with an error.
    Failed,
    /// A WebAssembly trap.
    Trapped,
    /// One step of the guest ran too long.
    Unresponsive,
    /// Creating the instance or running `prewarm` took too long.
    InitTimeout,
    /// Creating the instance or running `prewarm` failed.
    InitFailed,
    /// The job used up its fuel limit.
    OutOfFuel,
    /// The job ran past its longest duration.
    Deadline,
    /// The memory of the whole job passed its limit.
    MemoryLimit,
    /// The guest flooded a host resource.
    HostcallLimit,
    /// The guest made too many calls in one step.
    LimitCalls,
    /// Nothing is pending that could wake the job.
    Stalled,
    /// The room of the job was lost for good.
    Disconnected,
    /// The job did not finish within the shutdown grace.
    ShutdownTimeout,
    /// The dispatcher ended the job, and the job finished in time.
    Terminated,
    /// A drain ended the job, and the job finished in time.
    Drained,
    /// An operator killed the job.
    Killed,
    /// The worker process of the job died, or its link to the dispatcher.
    Lost,
    /// A failure of wasm-worker or of the machine.
    HostFault,
    /// The agent rejected a dispatch for good.
    Rejected,
    /// A dispatch was deleted before it ran.
    Cancelled,
    /// A dispatch waited past its deadline.
    Expired,
    /// No worker took a dispatch that may not wait.
    Unserved,
}

/// Who is responsible for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The agent's code.
    Guest,
    /// wasm-worker, or the machine.
    Host,
    /// The server that dispatched the job.
    Dispatcher,
    /// The operator of the worker.
    Operator,
}

impl Blame {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Dispatcher => "dispatcher",
            Self::Operator => "operator",
        }
    }
}

/// The class of an end, from which the exit status of the command line is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The end is as intended.
    Ok,
    /// The agent failed by itself.
    Failed,
    /// The agent crashed.
    Trapped,
    /// A limit ended the job.
    Limit,
    /// The job never began.
    Init,
    /// The job was killed, or did not stop in time.
    Stopped,
    /// wasm-worker or the machine failed.
    Host,
    /// A dispatch never became a job.
    Undelivered,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 23] = [
        Self::Completed,
        Self::Failed,
        Self::Trapped,
        Self::Unresponsive,
        Self::InitTimeout,
        Self::InitFailed,
        Self::OutOfFuel,
        Self::Deadline,
        Self::MemoryLimit,
        Self::HostcallLimit,
        Self::LimitCalls,
        Self::Stalled,
        Self::Disconnected,
        Self::ShutdownTimeout,
        Self::Terminated,
        Self::Drained,
        Self::Killed,
        Self::Lost,
        Self::HostFault,
        Self::Rejected,
        Self::Cancelled,
        Self::Expired,
        Self::Unserved,
    ];

    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
            Self::Unresponsive => "unresponsive",
            Self::InitTimeout => "init-timeout",
            Self::InitFailed => "init-failed",
            Self::OutOfFuel => "out-of-fuel",
            Self::Deadline => "deadline",
            Self::MemoryLimit => "memory-limit",
            Self::HostcallLimit => "hostcall-limit",
            Self::LimitCalls => "limit-calls",
            Self::Stalled => "stalled",
            Self::Disconnected => "disconnected",
            Self::ShutdownTimeout => "shutdown-timeout",
            Self::Terminated => "terminated",
            Self::Drained => "drained",
            Self::Killed => "killed",
            Self::Lost => "lost",
            Self::HostFault => "host-fault",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unserved => "unserved",
        }
    }

    /// The code with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// Who is responsible for this end.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Completed
            | Self::Failed
            | Self::Trapped
            | Self::Unresponsive
            | Self::InitTimeout
            | Self::InitFailed
            | Self::OutOfFuel
            | Self::Deadline
            | Self::MemoryLimit
            | Self::HostcallLimit
            | Self::LimitCalls
            | Self::Stalled
            | Self::ShutdownTimeout
            | Self::Rejected => Blame::Guest,
            Self::Terminated | Self::Disconnected | Self::Expired | Self::Unserved => Blame::Dispatcher,
            Self::Drained | Self::Killed | Self::Cancelled => Blame::Operator,
            Self::Lost | Self::HostFault => Blame::Host,
        }
    }

    /// Whether a second run of the same job may end better. A limit that was passed is passed again.
    pub const fn retry(self) -> bool {
        match self {
            Self::Disconnected | Self::Killed | Self::Lost | Self::HostFault | Self::Expired | Self::Unserved => true,
            Self::Completed
            | Self::Failed
            | Self::Trapped
            | Self::Unresponsive
            | Self::InitTimeout
            | Self::InitFailed
            | Self::OutOfFuel
            | Self::Deadline
            | Self::MemoryLimit
            | Self::HostcallLimit
            | Self::LimitCalls
            | Self::Stalled
            | Self::ShutdownTimeout
            | Self::Terminated
            | Self::Drained
            | Self::Rejected
            | Self::Cancelled => false,
        }
    }

    /// The class that decides the exit status.
    pub const fn class(self) -> Class {
        match self {
            Self::Completed | Self::Terminated | Self::Drained => Class::Ok,
            Self::Failed | Self::Stalled => Class::Failed,
            Self::Trapped => Class::Trapped,
            Self::Unresponsive
            | Self::OutOfFuel
            | Self::Deadline
            | Self::MemoryLimit
            | Self::HostcallLimit
            | Self::LimitCalls => Class::Limit,
            Self::InitTimeout | Self::InitFailed => Class::Init,
            Self::Disconnected | Self::ShutdownTimeout | Self::Killed => Class::Stopped,
            Self::Lost | Self::HostFault => Class::Host,
            Self::Rejected | Self::Cancelled | Self::Expired | Self::Unserved => Class::Undelivered,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom(format!("no end code is called `{}`", clip(&name))))
    }
}

/// The kind of a trap, by its stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrapKind {
    /// The guest's recursion used up `stack-limit`.
    StackOverflow,
    /// An access outside of a linear memory.
    MemoryOutOfBounds,
    /// An access outside of a table.
    TableOutOfBounds,
    /// A call through a null function reference.
    IndirectCallToNull,
    /// A call through a function reference of another type.
    BadSignature,
    /// An integer operation whose result does not fit.
    IntegerOverflow,
    /// A division by zero.
    DivideByZero,
    /// A conversion of a float that no integer can hold.
    BadConversionToInteger,
    /// The `unreachable` instruction, to which panics and aborts compile.
    Unreachable,
    /// An allocation that is larger than the engine allows.
    AllocationTooLarge,
    /// A value that violates the contract: a bad pointer, text that is not UTF-8, an unknown handle.
    BrokenContract,
}

impl TrapKind {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StackOverflow => "stack-overflow",
            Self::MemoryOutOfBounds => "memory-out-of-bounds",
            Self::TableOutOfBounds => "table-out-of-bounds",
            Self::IndirectCallToNull => "indirect-call-to-null",
            Self::BadSignature => "bad-signature",
            Self::IntegerOverflow => "integer-overflow",
            Self::DivideByZero => "divide-by-zero",
            Self::BadConversionToInteger => "bad-conversion-to-integer",
            Self::Unreachable => "unreachable",
            Self::AllocationTooLarge => "allocation-too-large",
            Self::BrokenContract => "broken-contract",
        }
    }
}

/// How one job ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Verdict {
    /// The stable name of the end.
    pub code: Code,
    /// Who is responsible.
    pub blame: Blame,
    /// Whether a second run may end better.
    pub retry: bool,
    /// The cause in one line of bounded length.
    pub detail: String,
    /// The kind of the trap, for `trapped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trap: Option<TrapKind>,
    /// For a kill: the time from the passed limit to the end of the guest, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_lag_us: Option<u64>,
    /// For a trap or a kill: the names of the guest's functions, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

/// Most frames of a backtrace that a verdict keeps.
pub const FRAMES_MAX: usize = 32;
/// Longest name of a function in a backtrace, in bytes.
pub const FRAME_BYTES_MAX: usize = 256;

impl Verdict {
    /// A verdict with the blame and the retry that its code implies. The detail is clipped to one bounded line.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            blame: code.blame(),
            retry: code.retry(),
            detail: clip(&detail.into()),
            trap: None,
            kill_lag_us: None,
            backtrace: Vec::new(),
        }
    }

    /// Advice for the reader, in the words of the agent's language: `known`, or else that of the backtrace.
    pub fn advice(&self, known: Option<Language>) -> &'static str {
        self.code.advice_for(known.or_else(|| Language::of_frames(&self.backtrace)))
    }

    /// The same verdict under another code, with the blame and the retry of that code.
    #[must_use]
    pub fn with_code(self, code: Code) -> Self {
        Self { code, blame: code.blame(), retry: code.retry(), ..self }
    }

    /// The same verdict with its texts clipped to `detail_bytes_max`, [`FRAMES_MAX`] and [`FRAME_BYTES_MAX`]. For a verdict
    /// that another program wrote. Blame and retry follow from the code.
    #[must_use]
    pub fn bounded(self, detail_bytes_max: usize) -> Self {
        let Self { code, mut detail, trap, kill_lag_us, backtrace, .. } = self;
        detail.truncate(detail.floor_char_boundary(detail_bytes_max));
        let backtrace = backtrace.into_iter().take(FRAMES_MAX).map(|frame| frame_name(&frame)).collect();
        Self { trap, kill_lag_us, backtrace, ..Self::new(code, detail) }
    }
}

/// The name of a function as a backtrace shows it: one line of at most [`FRAME_BYTES_MAX`] bytes.
pub fn frame_name(name: &str) -> String {
    let mut name = clip(name);
    name.truncate(name.floor_char_boundary(FRAME_BYTES_MAX));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_names_are_distinct_and_in_kebab_case() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn a_verdict_is_read_back_as_it_was_written() {
        let verdict = Verdict {
            trap: Some(TrapKind::DivideByZero),
            kill_lag_us: Some(7),
            backtrace: vec!["agent::divide".into()],
            ..Verdict::new(Code::Trapped, "wasm trap: integer divide by zero")
        };
        let text = serde_json::to_string(&verdict).unwrap();
        assert!(text.contains(r#""trap":"divide-by-zero""#), "{text}");
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
        assert!(serde_json::from_str::<Verdict>(&text.replace("trapped", "bored")).is_err());
    }

    #[test]
    fn a_verdict_of_somebody_else_is_bounded() {
        let foreign = Verdict {
            blame: Blame::Operator,
            retry: true,
            detail: "x".repeat(100_000),
            backtrace: vec!["é".repeat(1_000); 1_000],
            ..Verdict::new(Code::Failed, "")
        };
        let bounded = foreign.bounded(100);
        assert_eq!((bounded.detail.len(), bounded.backtrace.len()), (100, FRAMES_MAX));
        assert!(bounded.backtrace.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
        assert_eq!((bounded.blame, bounded.retry), (Blame::Guest, false));
    }
}
