//! What an agent's jobs may use, how they get their prewarmed state, and which of them are recorded.

use std::path::PathBuf;
use std::time::Duration;

use wasm_worker_core::duration::LONGEST;

/// What one job may use, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Time for a prewarm, and for the creation of an instance with its start functions.
    pub init_timeout: Duration,
    /// Run time of one step after which the operator is warned.
    pub unresponsive_warning: Duration,
    /// Run time of one step after which the job is killed.
    pub unresponsive_timeout: Duration,
    /// Wall time of one job from its launch; `None` is no limit.
    pub max_duration: Option<Duration>,
    /// Fuel of one job, about one unit for each WebAssembly instruction; `None` is no limit.
    pub fuel: Option<u64>,
    /// Bytes of all memories, tables and host-side buffers of one job together.
    pub memory_bytes: usize,
    /// Bytes of the stack of WebAssembly frames.
    pub stack_bytes: usize,
    /// Bytes that one host call may copy out of the guest.
    pub hostcall_bytes: usize,
    /// Handles (pollables, streams) that may be open at once.
    pub handles: usize,
    /// Events that may wait in the inbox.
    pub inbox_events: usize,
    /// Bytes of packets a second that a job may send into its room, on average. What is over waits.
    pub room_bytes_per_second: usize,
    /// Log lines a second, and the burst that may come at once.
    pub log_lines_per_second: u32,
    /// Time from a stop request to the kill.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    /// The defaults of the settings; a test of the program compares them.
    fn default() -> Self {
        Self {
            init_timeout: Duration::from_secs(10),
            unresponsive_warning: Duration::from_millis(500),
            unresponsive_timeout: Duration::from_secs(10),
            max_duration: None,
            fuel: None,
            memory_bytes: 128 << 20,
            stack_bytes: 512 << 10,
            hostcall_bytes: 1 << 20,
            handles: 1_000,
            inbox_events: 1_024,
            room_bytes_per_second: 4 << 20,
            log_lines_per_second: 1_000,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The same limits, with times that can be added to any moment. A program that embeds a worker may set longer ones.
    #[must_use]
    pub(crate) fn with_bounded_times(self) -> Self {
        Self {
            init_timeout: self.init_timeout.min(LONGEST),
            max_duration: self.max_duration.map(|time| time.min(LONGEST)),
            shutdown_grace: self.shutdown_grace.min(LONGEST),
            ..self
        }
    }
}

/// How a job gets its prewarmed state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrewarmMode {
    /// From a snapshot. An agent that allows none uses a pool of instances that ran `prewarm`.
    #[default]
    Snapshot,
    /// Always from the pool.
    Pool,
}

/// What the compiler of an agent may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Wall time.
    pub timeout: Duration,
    /// Bytes of memory of the compiling process.
    pub memory_bytes: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(120), memory_bytes: 2 << 30 }
    }
}

/// Which jobs are recorded, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// The directory for a recording of each job.
    pub all: Option<PathBuf>,
    /// The directory for recordings of jobs that did not end well, where not every job is recorded.
    pub failed: Option<PathBuf>,
    /// Bytes of one recording.
    pub bytes_max: usize,
    /// Whether recordings have the contents of events and calls. Without them a recording cannot be replayed.
    pub content: bool,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self { all: None, failed: None, bytes_max: 64 << 20, content: true }
    }
}

impl RecordSettings {
    /// Whether any job is recorded.
    pub fn is_on(&self) -> bool {
        self.all.is_some() || self.failed.is_some()
    }
}

/// The settings of one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    /// What each of its jobs may use.
    pub limits: Limits,
    /// How its jobs get their prewarmed state.
    pub prewarm: PrewarmMode,
    /// Prewarmed instances that are kept ready where there is no snapshot.
    pub idle: usize,
    /// What its compiler may use.
    pub compile: CompileLimits,
    /// Which of its jobs are recorded.
    pub record: RecordSettings,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            prewarm: PrewarmMode::default(),
            idle: 2,
            compile: CompileLimits::default(),
            record: RecordSettings::default(),
        }
    }
}
