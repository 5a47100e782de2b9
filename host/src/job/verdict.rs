//! How a job ended, whose doing it was, and whether to try again. Data, not an error.

use std::fmt;

use serde::Serialize;

use crate::hostcalls::log::clip;

/// The stable name of an end. [`Code::as_str`] is what events, records, metrics and the server see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The entrypoint returned ok.
    Completed,
    /// The entrypoint returned an error.
    Failed,
    /// A WebAssembly trap.
    Trapped,
    /// Ran too long without waiting.
    Unresponsive,
    /// Making the instance or prewarming it took too long.
    InitTimeout,
    /// Making the instance or prewarming it failed.
    InitFailed,
    /// Used up the fuel limit.
    OutOfFuel,
    /// Ran past the longest duration.
    Deadline,
    /// Memory of the whole job passed its limit.
    MemoryLimit,
    /// Flooded a host resource.
    HostcallLimit,
    /// Did not finish within the grace.
    ShutdownTimeout,
    /// The dispatcher ended it, and it finished in time.
    Terminated,
    /// A drain ended it, and it finished in time.
    Drained,
    /// An operator killed it.
    Killed,
    /// Its worker process or link died.
    Lost,
    /// A bug or failure of ours.
    HostFault,
    /// Of a dispatch: its agent does not want it run.
    Rejected,
    /// Of a dispatch: it was deleted before it ran.
    Cancelled,
    /// Of a dispatch: it waited past its deadline.
    Expired,
    /// Of a dispatch that may not wait: no worker took it.
    Unserved,
}

/// Whose doing an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The agent's code.
    Guest,
    /// wasm-worker, or the machine.
    Host,
    /// The server that gave the job.
    Dispatcher,
    /// Whoever runs the worker.
    Operator,
}

impl Blame {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Dispatcher => "dispatcher",
            Self::Operator => "operator",
        }
    }
}

/// What the command line's exit status says about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// As it should be.
    Ok,
    /// The agent said so itself.
    Failed,
    /// The agent crashed.
    Trapped,
    /// A limit ended it.
    Limit,
    /// It never began.
    Init,
    /// It was asked to stop and did not, or was killed.
    Stopped,
    /// Our fault.
    Host,
    /// A dispatch that never became a job.
    Undelivered,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 20] = [
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

    /// The one spelling.
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

    /// The code of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// Whose doing this end is.
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
            | Self::ShutdownTimeout
            | Self::Rejected => Blame::Guest,
            Self::Terminated | Self::Expired | Self::Unserved => Blame::Dispatcher,
            Self::Drained | Self::Killed | Self::Cancelled => Blame::Operator,
            Self::Lost | Self::HostFault => Blame::Host,
        }
    }

    /// Whether running the same job again may end better. A limit that was passed or a crash would be again.
    pub const fn retry(self) -> bool {
        match self {
            Self::Killed | Self::Lost | Self::HostFault | Self::Expired | Self::Unserved => true,
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
            Self::Failed => Class::Failed,
            Self::Trapped => Class::Trapped,
            Self::Unresponsive | Self::OutOfFuel | Self::Deadline | Self::MemoryLimit | Self::HostcallLimit => {
                Class::Limit
            }
            Self::InitTimeout | Self::InitFailed => Class::Init,
            Self::ShutdownTimeout | Self::Killed => Class::Stopped,
            Self::Lost | Self::HostFault => Class::Host,
            Self::Rejected | Self::Cancelled | Self::Expired | Self::Unserved => Class::Undelivered,
        }
    }

    /// What the end means, for `wasm-worker explain`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Completed => "the agent's entrypoint returned without an error",
            Self::Failed => "the agent's entrypoint returned an error; the detail is that error's text",
            Self::Trapped => {
                "the agent crashed: a WebAssembly trap, such as a panic, a bad index or too deep a recursion"
            }
            Self::Unresponsive => "the agent ran for `unresponsive-timeout` without waiting for anything",
            Self::InitTimeout => "making the instance or running `prewarm` took longer than `init-timeout`",
            Self::InitFailed => "making the instance or running `prewarm` failed",
            Self::OutOfFuel => "the agent used up `fuel-limit`",
            Self::Deadline => "the job ran longer than `max-duration`",
            Self::MemoryLimit => "memories, tables and host-side buffers of the job together passed `memory-limit`",
            Self::HostcallLimit => {
                "the agent asked the host for more than one job may have: bytes in a call, or handles"
            }
            Self::ShutdownTimeout => "the job was asked to stop and did not finish within `shutdown-grace`",
            Self::Terminated => "the dispatcher asked the job to stop, and it finished within the grace",
            Self::Drained => "the worker was stopped, and the job finished within the grace",
            Self::Killed => "an operator killed the job",
            Self::Lost => "the worker process that ran the job died, or its link to the dispatcher",
            Self::HostFault => "wasm-worker itself failed; this is a bug or a failure of the machine, not of the agent",
            Self::Rejected => "the agent rejected the job for good, and no other worker is asked",
            Self::Cancelled => "the dispatch was deleted before it ran",
            Self::Expired => "the dispatch waited for a worker until its deadline",
            Self::Unserved => "no worker took the dispatch at once, and with `--queue off` none waits",
        }
    }

    /// What to do about it, for `wasm-worker explain`.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Completed | Self::Terminated | Self::Drained => "nothing to do",
            Self::Failed => "read the detail; it comes from the agent",
            Self::Trapped => {
                "read the backtrace, innermost frame first; a Rust panic's message and place are in the detail"
            }
            Self::Unresponsive => {
                "await something in long computations (`time::sleep` of zero is enough), or raise --unresponsive-timeout"
            }
            Self::InitTimeout => "do less in `prewarm`, or raise --init-timeout",
            Self::InitFailed => "read the detail: it is what `prewarm` or a start function came to",
            Self::OutOfFuel => {
                "see how much fuel a good run takes (`fuel` in its record), and set --fuel-limit above that"
            }
            Self::Deadline => "end the job sooner, or raise --max-duration",
            Self::MemoryLimit => "see `memory_peak_bytes` in a good run's record, and set --memory-limit above that",
            Self::HostcallLimit => {
                "send less at once and drop handles that are done with, or raise --hostcall-limit or --handle-limit"
            }
            Self::ShutdownTimeout => {
                "wait for `shutdown_requested` in the entrypoint, keep shutdown callbacks short, or raise --shutdown-grace"
            }
            Self::Killed | Self::Lost => "dispatch the job again",
            Self::HostFault => "dispatch the job again, and report the bug with the log",
            Self::Rejected => "see the agent's `decide`",
            Self::Cancelled => "nothing to do",
            Self::Expired => {
                "see `wasm-worker workers`: the detail says what it waited for; start workers of that agent, or raise --queue-deadline"
            }
            Self::Unserved => "start a worker of that agent, or let dispatches wait: --queue on",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How one job ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The stable name.
    pub code: Code,
    /// Whose doing it was.
    pub blame: Blame,
    /// Whether running it again may end better.
    pub retry: bool,
    /// What happened, in one line of bounded length.
    pub detail: String,
    /// The stable name of the trap, for `trapped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trap: Option<&'static str>,
    /// From the moment a limit of time was passed to the end of the guest, in microseconds, for a kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_lag_us: Option<u64>,
    /// Function names, innermost first, for a trap or a kill.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

impl Verdict {
    /// A verdict with the blame and the retry that its code implies.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_kebab_case() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
