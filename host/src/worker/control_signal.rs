//! Requests of an operator to a running worker.

/// A request to a worker or to a supervisor, by a signal of the system or over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlSignal {
    /// Drain. A second one kills the jobs that still run.
    Stop,
    /// Drain. A second one changes nothing.
    Drain,
    /// Load the agents again.
    Reload,
}
