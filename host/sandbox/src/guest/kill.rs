//! The reasons for which the host ends a guest by force, and the warnings that come before.

use std::time::Duration;

use wasm_worker_core::verdict::Code;

/// The reason of a kill. It is raised inside the guest, so that the backtrace is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kill {
    /// One step ran for `unresponsive-timeout`.
    #[error("job is unresponsive, killing it: one step ran for {ran:?}, at most {limit:?} is allowed")]
    Unresponsive { ran: Duration, limit: Duration },
    /// Instance and prewarm took longer than `init-timeout`.
    #[error("initialization timed out, killing it: it took longer than {limit:?}")]
    InitTimeout { limit: Duration },
    /// `decide` took too long.
    #[error("`decide` took longer than {limit:?}")]
    DecideTimeout { limit: Duration },
    /// The job ran for `max-duration`.
    #[error("the job ran longer than {limit:?}")]
    Deadline { limit: Duration },
    /// The job exceeded `memory-limit`.
    #[error("the job needs {wanted} bytes of memory, at most {limit} are allowed")]
    Memory { wanted: usize, limit: usize },
    /// One host call exceeded `hostcall-limit`.
    #[error("{what}: {wanted}, at most {limit} are allowed")]
    Hostcall { what: &'static str, wanted: usize, limit: usize },
    /// The job exceeded a bound that the engine keeps.
    #[error("too many {what}")]
    TooMany { what: &'static str },
    /// One step made too many calls.
    #[error("more than {limit} {what} in one step")]
    Calls { what: &'static str, limit: usize },
    /// The job did not stop within `shutdown-grace`.
    #[error("the job did not finish within its shutdown grace of {grace:?}")]
    ShutdownTimeout { grace: Duration },
    /// The job did not stop within `shutdown-grace` after it lost its room.
    #[error("{why}, and the job did not finish within its shutdown grace of {grace:?}")]
    Disconnected { why: String, grace: Duration },
    /// An operator killed the job.
    #[error("killed by the operator")]
    Operator,
}

impl Kill {
    /// The end code of the verdict on a job that was killed for this reason.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Unresponsive { .. } => Code::Unresponsive,
            Self::InitTimeout { .. } | Self::DecideTimeout { .. } => Code::InitTimeout,
            Self::Deadline { .. } => Code::Deadline,
            Self::Memory { .. } => Code::MemoryLimit,
            Self::Hostcall { .. } | Self::TooMany { .. } => Code::HostcallLimit,
            Self::Calls { .. } => Code::LimitCalls,
            Self::ShutdownTimeout { .. } => Code::ShutdownTimeout,
            Self::Disconnected { .. } => Code::Disconnected,
            Self::Operator => Code::Killed,
        }
    }
}

/// A budget of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// `fuel-limit`
    Fuel,
    /// `memory-limit`
    Memory,
    /// `max-duration`
    Time,
}

impl Budget {
    /// The name that the contract uses.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Time => "time",
        }
    }
}

/// A warning about a job that still runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Warning {
    /// One step runs long.
    SlowToYield { ran: Duration },
    /// The job has used 80 % of a budget.
    Budget { budget: Budget, used: u64, limit: u64 },
}
