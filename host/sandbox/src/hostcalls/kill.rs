//! Why the host ends a guest by force, and what it says before.

use std::time::Duration;

use wasm_worker_core::verdict::Code;

use super::bindings::wasm_worker::agent::inbox::LimitWarning;

/// Why the host ended a guest's run by force. Raised inside the guest, so that its backtrace is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kill {
    #[error("job is unresponsive, killing it: it ran for {ran:?} without waiting, at most {limit:?} is allowed")]
    Unresponsive { ran: Duration, limit: Duration },
    #[error("initialization timed out, killing it: it took longer than {limit:?}")]
    InitTimeout { limit: Duration },
    #[error("`decide` took longer than {limit:?}")]
    DecideTimeout { limit: Duration },
    #[error("the job ran longer than {limit:?}")]
    Deadline { limit: Duration },
    #[error("the job needs {wanted} bytes of memory, at most {limit} are allowed")]
    Memory { wanted: usize, limit: usize },
    #[error("{what}: {wanted}, at most {limit} are allowed")]
    Hostcall { what: &'static str, wanted: usize, limit: usize },
    #[error("too many {what}")]
    TooMany { what: &'static str },
    #[error("the job did not finish within its shutdown grace of {grace:?}")]
    ShutdownTimeout { grace: Duration },
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

/// What the operator is told about a job that still runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Warning {
    /// Runs without waiting.
    SlowToYield { ran: Duration },
    /// 80 % of a budget is used.
    Budget(LimitWarning),
}
