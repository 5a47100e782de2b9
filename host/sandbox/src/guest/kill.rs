//! The reasons for which the host ends a guest by force, and the warnings that come before.

use std::time::Duration;

use wasm_worker_core::verdict::Code;

use super::bindings::wasm_worker::agent::inbox::LimitWarning;

/// The reason of a kill. It is raised inside the guest, so that the backtrace is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kill {
    /// The guest ran for `unresponsive-timeout` without waiting.
    #[error("job is unresponsive, killing it: it ran for {ran:?} without waiting, at most {limit:?} is allowed")]
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
    /// The job did not stop within `shutdown-grace`.
    #[error("the job did not finish within its shutdown grace of {grace:?}")]
    ShutdownTimeout { grace: Duration },
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
            Self::ShutdownTimeout { .. } => Code::ShutdownTimeout,
            Self::Operator => Code::Killed,
        }
    }
}

/// A warning about a job that still runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Warning {
    /// The guest runs without waiting.
    SlowToYield { ran: Duration },
    /// The job has used 80 % of a budget.
    Budget(LimitWarning),
}
