//! The status of a supervisor, which it writes and its HTTP endpoints read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The status of a supervisor.
pub(crate) struct FleetStatus {
    processes: usize,
    draining: Arc<AtomicBool>,
    counts: Mutex<ProcessCounts>,
}

/// The number of processes in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessCounts {
    /// Processes that run.
    pub(crate) running: usize,
    /// Processes that are registered with the server.
    pub(crate) registered: usize,
}

impl FleetStatus {
    /// The status of a supervisor that wants this number of processes.
    pub(crate) fn new(processes: usize) -> Self {
        Self { processes, draining: Arc::default(), counts: Mutex::default() }
    }

    /// The number of processes that the settings ask for.
    pub(crate) fn processes(&self) -> usize {
        self.processes
    }

    pub(crate) fn counts(&self) -> ProcessCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_counts(&self, counts: ProcessCounts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    pub(crate) fn start_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The flag of the drain, which the HTTP endpoints read and set.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        self.draining.clone()
    }
}
