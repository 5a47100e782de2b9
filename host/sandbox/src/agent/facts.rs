//! The facts of a loaded agent.

use serde::{Deserialize, Serialize};
use wasm_worker_core::language::Language;
use wasm_worker_core::manifest::Manifest;

/// The warning about numbers that a snapshot keeps.
pub(super) const RANDOM_IN_PREWARM: &str = "random numbers drawn in prewarm are the same in every job; seed in the job";

/// The source of the prewarmed state of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrewarmKind {
    /// A snapshot of memory.
    Snapshot,
    /// Instances that ran `prewarm`, one for each job.
    Pool,
}

impl PrewarmKind {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Pool => "pool",
        }
    }
}

/// The facts of a loaded agent. The cache has them beside the code.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Facts {
    /// Interfaces that the component imports.
    pub imports: Vec<String>,
    /// Functions that the component exports.
    pub exports: Vec<String>,
    /// Size of the component, in bytes.
    pub component_bytes: usize,
    /// Size of the component with the prewarmed memory, in bytes; 0 without a snapshot.
    pub snapshot_bytes: usize,
    /// Size of the machine code, in bytes.
    pub compiled_bytes: usize,
    /// Linear memory of each job at its start, in bytes.
    pub memory_start_bytes: u64,
    /// Memory of the engine's structures for each job, in bytes.
    pub instance_bytes: u64,
    /// Most memory mappings of each job. The kernel bounds the mappings of a process.
    pub memory_mappings: u32,
    /// The source of the prewarmed state.
    pub prewarm: PrewarmKind,
    /// The reason why there is no snapshot.
    pub prewarm_why: Option<String>,
    /// Fuel that `prewarm` used.
    pub prewarm_fuel: u64,
    /// CPU time that `prewarm` used, in microseconds.
    pub prewarm_cpu_us: u64,
    /// Whether the snapshot has random numbers that `prewarm` or the start drew.
    pub prewarm_random: bool,
    /// Linear memories of each job. A slot of the pool has three, or fewer in a large pool.
    pub memories: u32,
    /// Tables of each job.
    pub tables: u32,
    /// The language, where the component names it or its tools.
    pub language: Option<Language>,
    /// What the agent asks of its operator.
    pub manifest: Manifest,
}

impl Facts {
    /// The warning about random numbers that all jobs share, where there are any.
    pub fn random_warning(&self) -> Option<&'static str> {
        self.prewarm_random.then_some(RANDOM_IN_PREWARM)
    }
}
