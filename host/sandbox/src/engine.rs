//! What every guest runs on: the one wasmtime engine, its clock, and the two runtimes.
//!
//! Sole maker of wasmtime's `Config`, `Engine` and `Linker`. Nothing here knows what a job is.
//!
//! Bounds: the pool holds [`EngineSettings::slots`] jobs, each with at most [`MEMORIES_PER_SLOT`] memories and
//! [`TABLES_PER_SLOT`] tables of at most the memory limit; whoever makes an instance holds a permit from
//! [`Engine::acquire_slot`] first, so the pool is never asked for more than it has.

pub mod ticker;
pub(crate) mod turns;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use wasmtime::component::{Component, Linker};
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::settings::AgentSettings;
use ticker::{Ticker, TickerReport};
use turns::Turns;

/// Length of an epoch, and so the precision with which running guests are looked at.
pub const EPOCH: Duration = Duration::from_millis(10);

/// Fuel after which a running guest is asked whether its turn is over: 10 to 150 µs' worth.
pub(crate) const FUEL_SLICE: u64 = 100_000;

/// A component built from one Rust, C, JavaScript or Python program has one memory.
const MEMORIES_PER_SLOT: u32 = 1;
/// Its own table, and one for the shims that component tools add.
const TABLES_PER_SLOT: u32 = 2;
/// Of each memory and table that is given back, this much is cleared in place where the kernel can say which pages are dirty
/// (Linux 6.7); giving pages back to it costs an interrupt on every core.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// Of each stack that is given back, this much is cleared in place: what a job that recurses little has touched.
const STACK_KEEP_RESIDENT_BYTES: usize = 16 << 10;
/// Core modules of one component, shims included.
const CORE_INSTANCES_MAX: u32 = 64;
/// Largest table seen in a real guest has 7,692 elements (StarlingMonkey).
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// How often an instance of several slots looks whether there are as many.
const MANY_SLOTS_AGAIN: Duration = Duration::from_millis(5);
/// Host frames on a guest's stack: host calls are polled there.
const HOST_STACK_BYTES: usize = 512 << 10;
/// Of a stack: itself and its guard. Of a memory: what there is, and the reserved rest. Counted in `/proc/PID/maps` with 1,000 to
/// 12,000 waiting jobs.
pub(crate) const MAPPINGS_LEAST: u32 = 4;
/// Memory mappings of an instance with a snapshot, at most: also what lies before the snapshot's pages and what lies after them.
pub const MAPPINGS_MOST: u32 = MAPPINGS_LEAST + 2;
/// Where pages are larger, what begins here begins in the first of them too.
const PAGE_BYTES_LEAST: usize = 4 << 10;
/// Of everything else: threads, libraries, compiled agents.
const MAPPINGS_BESIDE_SLOTS: u32 = 1_000;
/// Virtual addresses are reserved for every slot, 6 GiB each of 128 TiB.
const SLOTS_MAX: u32 = 20_000;

/// What the engine's sizes are derived from.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// Instances that may exist at once.
    pub slots: u32,
    /// Largest linear memory, in bytes.
    pub memory_bytes: usize,
    /// Stack of WebAssembly frames, in bytes.
    pub stack_bytes: usize,
}

impl EngineSettings {
    /// Settings for `jobs` jobs at once of these agents. Each agent also needs slots for its idle instances and for those that
    /// are being prewarmed, and `others` slots are for other guests, such as a load function.
    pub fn for_jobs<'a>(jobs: u32, others: u32, agents: impl Iterator<Item = &'a AgentSettings> + Clone) -> Self {
        let idle = agents.clone().map(|agent| agent.idle.saturating_add(2)).fold(0, usize::saturating_add);
        Self {
            slots: jobs.saturating_add(others).saturating_add(u32::try_from(idle).unwrap_or(u32::MAX)),
            memory_bytes: agents.clone().map(|agent| agent.limits.memory_bytes).max().unwrap_or(0),
            stack_bytes: agents.map(|agent| agent.limits.stack_bytes).max().unwrap_or(0),
        }
    }
}

/// The engine cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// More slots than address space.
    #[error("{asked} instances at once are more than one process can hold; at most {SLOTS_MAX}")]
    TooManySlots {
        /// Slots asked for.
        asked: u32,
    },
    /// More slots than the kernel gives one process memory mappings for; past that limit it refuses them, to whoever asks
    /// next.
    #[error(
        "{asked} instances at once take about {needed} memory mappings, and the kernel gives a process {limit}; at most {fit} fit"
    )]
    TooManyMappings {
        /// Slots asked for.
        asked: u32,
        /// Mappings that they take.
        needed: u32,
        /// `vm.max_map_count`.
        limit: u32,
        /// Slots that fit.
        fit: u32,
    },
    /// Wasmtime refused its configuration, or the kernel the memory for the pool.
    #[error("the WebAssembly engine cannot start")]
    Wasmtime(#[source] wasmtime::Error),
    /// The ticker is a thread.
    #[error("the epoch thread cannot start")]
    Ticker(#[source] std::io::Error),
}

impl EngineError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooManyMappings { needed, .. } => {
                Some(format!("`sysctl -w vm.max_map_count={needed}` as root raises the kernel's limit"))
            }
            Self::TooManySlots { .. } | Self::Wasmtime(_) | Self::Ticker(_) => None,
        }
    }
}

/// What every guest runs on. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

/// What guests have used since the engine was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Fuel units.
    pub fuel: u64,
    /// By the clocks of the threads they were on.
    pub cpu: Duration,
}

/// The sums behind [`Spent`].
#[derive(Default)]
pub(crate) struct Spending {
    pub(crate) fuel: AtomicU64,
    cpu_nanos: AtomicU64,
}

impl Spending {
    pub(crate) fn add(&self, fuel: u64, cpu_nanos: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
        self.cpu_nanos.fetch_add(cpu_nanos, Ordering::Relaxed);
    }
}

struct Shared {
    spending: Arc<Spending>,
    turns: Arc<Turns>,
    wasmtime: wasmtime::Engine,
    ticker: Ticker,
    slots: Arc<Semaphore>,
    slots_total: u32,
    /// Where guests run: as many threads as cores.
    guests: Handle,
    /// Where timers fire, so that guests which spin on every core do not hold them up.
    timers: Handle,
}

impl Engine {
    /// Make the engine and start its ticker. `guests` runs guests and nothing else.
    ///
    /// # Errors
    /// When the pool does not fit this machine's address space, or the ticker thread cannot start.
    pub fn new(settings: EngineSettings, guests: Handle, timers: Handle) -> Result<Self, EngineError> {
        if settings.slots > SLOTS_MAX {
            return Err(EngineError::TooManySlots { asked: settings.slots });
        }
        check_mappings(settings.slots, MAPPINGS_LEAST, mappings_limit())?;
        let wasmtime = make_wasmtime(settings).map_err(EngineError::Wasmtime)?;
        let turns = Arc::new(Turns::new(guests.metrics().num_workers()));
        let ticker = Ticker::start(&wasmtime, turns.clone()).map_err(EngineError::Ticker)?;
        Ok(Self(Arc::new(Shared {
            spending: Arc::default(),
            turns,
            wasmtime,
            ticker,
            slots: Arc::new(Semaphore::new(settings.slots as usize)),
            slots_total: settings.slots,
            guests,
            timers,
        })))
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// What code compiled by this engine depends on, besides its source.
    pub(crate) fn compatibility(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn linker<T: 'static>(&self) -> Linker<T> {
        Linker::new(&self.0.wasmtime)
    }

    pub(crate) fn guests(&self) -> &Handle {
        &self.0.guests
    }

    pub(crate) fn timers(&self) -> &Handle {
        &self.0.timers
    }

    /// Have every guest look round at its next loop or call, not only at the end of its epoch: one of them was killed.
    pub(crate) fn end_epoch(&self) {
        self.0.wasmtime.increment_epoch();
    }

    /// How many guests want a core, which is what a turn's length hangs on.
    pub(crate) fn turns(&self) -> &Arc<Turns> {
        &self.0.turns
    }

    pub(crate) fn spending(&self) -> &Arc<Spending> {
        &self.0.spending
    }

    /// What guests have used so far.
    pub fn spent(&self) -> Spent {
        let Spending { fuel, cpu_nanos } = &*self.0.spending;
        let cpu = Duration::from_nanos(cpu_nanos.load(Ordering::Relaxed));
        Spent { fuel: fuel.load(Ordering::Relaxed), cpu }
    }

    /// Instances that there may be at once.
    pub fn slots(&self) -> u32 {
        self.0.slots_total
    }

    /// What is in use of the pool now.
    pub fn pool(&self) -> PoolReport {
        let metrics = self.0.wasmtime.pooling_allocator_metrics();
        PoolReport {
            slots: self.0.slots_total.saturating_sub(u32::try_from(self.0.slots.available_permits()).unwrap_or(0)),
            instances: metrics.as_ref().map_or(0, |metrics| metrics.component_instances()),
            memories: metrics.as_ref().map_or(0, |metrics| metrics.memories()),
            tables: metrics.as_ref().map_or(0, |metrics| metrics.tables()),
            stacks: metrics.as_ref().map_or(0, |metrics| metrics.stacks()),
        }
    }

    /// How late the ticker was.
    pub fn ticker(&self) -> TickerReport {
        self.0.ticker.report()
    }

    /// Slots of the pool that one instance of this component takes; `None` when not even the whole pool would do.
    pub(crate) fn slots_for(&self, component: &Component) -> Option<u32> {
        let needs = component.resources_required()?;
        let slots = needs.num_memories.div_ceil(MEMORIES_PER_SLOT).max(needs.num_tables.div_ceil(TABLES_PER_SLOT));
        Some(slots.max(1)).filter(|slots| *slots <= self.0.slots_total)
    }

    /// Refuse an agent whose instances would run out of mappings before the pool is full.
    pub(crate) fn check_mappings(&self, of_an_instance: u32) -> Result<(), EngineError> {
        check_mappings(self.0.slots_total, of_an_instance, mappings_limit())
    }

    /// Wait for room in the pool. The permit is given back by dropping it, after the store.
    pub(crate) async fn acquire_slot(&self, slots: u32) -> Result<OwnedSemaphorePermit, AcquireError> {
        if slots == 1 {
            return self.0.slots.clone().acquire_owned().await;
        }
        // In the line, who wants many would hold up everybody behind who wants one.
        loop {
            match self.0.slots.clone().try_acquire_many_owned(slots) {
                Ok(permit) => return Ok(permit),
                Err(TryAcquireError::Closed) => return self.0.slots.clone().acquire_owned().await,
                Err(TryAcquireError::NoPermits) => {}
            }
            let look_again = {
                let _timers = self.0.timers.enter();
                tokio::time::sleep(MANY_SLOTS_AGAIN)
            };
            look_again.await;
        }
    }
}

/// Memory mappings of one instance whose memory is this one, which is not mapped from a snapshot before its first byte that is not
/// zero.
pub(crate) fn mappings_of(memory: &[u8]) -> u32 {
    match memory.iter().position(|byte| *byte != 0) {
        None => MAPPINGS_LEAST,
        Some(first) if first < PAGE_BYTES_LEAST => MAPPINGS_LEAST + 1,
        Some(_) => MAPPINGS_MOST,
    }
}

/// Instances that one process has memory mappings for.
pub fn instances_that_fit(mappings_each: u32) -> u32 {
    fit_within(mappings_limit(), mappings_each).min(SLOTS_MAX)
}

fn fit_within(limit: u32, mappings_each: u32) -> u32 {
    limit.saturating_sub(MAPPINGS_BESIDE_SLOTS) / mappings_each
}

/// The kernel's limit on the mappings of one process; none where it cannot be read.
fn mappings_limit() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX)
}

/// Refuse what would fail in the middle of some job.
fn check_mappings(asked: u32, mappings_each: u32, limit: u32) -> Result<(), EngineError> {
    let needed = asked.saturating_mul(mappings_each).saturating_add(MAPPINGS_BESIDE_SLOTS);
    if needed <= limit {
        return Ok(());
    }
    Err(EngineError::TooManyMappings { asked, needed, limit, fit: fit_within(limit, mappings_each) })
}

/// An engine whose machine code [`Engine::new`] with the same sizes takes.
pub(crate) fn for_compiling(settings: EngineSettings) -> wasmtime::Result<wasmtime::Engine> {
    make_wasmtime(settings)
}

#[expect(clippy::disallowed_methods, reason = "this is the one maker")]
fn make_wasmtime(settings: EngineSettings) -> wasmtime::Result<wasmtime::Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(settings.slots)
        .total_core_instances(settings.slots.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(settings.slots.saturating_mul(MEMORIES_PER_SLOT))
        .total_tables(settings.slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(settings.slots)
        .total_gc_heaps(1)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_module(MEMORIES_PER_SLOT)
        .max_tables_per_module(TABLES_PER_SLOT)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES)
        // The job's own limit is kept by its meter, which says so; here is only what fits the reserved addresses.
        .max_memory_size(4 << 30);

    let mut config = wasmtime::Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .consume_fuel(true)
        // Else a stack stays as large as the deepest recursion that ever ran on it.
        .async_stack_zeroing(true)
        .epoch_interruption(true)
        .max_wasm_stack(settings.stack_bytes)
        .async_stack_size(settings.stack_bytes + HOST_STACK_BYTES)
        .memory_init_cow(true)
        // A snapshot up to the memory limit is mapped copy-on-write, never copied segment by segment.
        .memory_guaranteed_dense_image_size(settings.memory_bytes as u64)
        // Proposals that no guest toolchain needs, and where most advisories of 2026 were. Without the heap that is for garbage
        // collection there is no table of `externref`, which would take one of a pool that nobody counts.
        .gc_support(false)
        .concurrency_support(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_tail_call(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false);
    wasmtime::Engine::new(&config)
}

/// What is in use of the engine's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// Slots that somebody holds a permit for.
    pub slots: u32,
    /// Component instances.
    pub instances: u64,
    /// Linear memories.
    pub memories: usize,
    /// Tables.
    pub tables: usize,
    /// Fiber stacks.
    pub stacks: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_slots_than_the_kernel_has_mappings_for() {
        assert!(check_mappings(10_755, 6, 65_530).is_ok());
        let refused = check_mappings(10_756, 6, 65_530).unwrap_err();
        assert!(matches!(refused, EngineError::TooManyMappings { needed: 65_536, fit: 10_755, .. }), "{refused}");
        assert!(refused.hint().unwrap().contains("vm.max_map_count=65536"));
        assert!(check_mappings(12_906, 5, 65_530).is_ok());
        assert!(check_mappings(1, 4, 500).is_err());
        assert!(check_mappings(SLOTS_MAX, 6, u32::MAX).is_ok());
    }

    #[test]
    fn a_snapshot_that_begins_with_its_memory_has_nothing_before_it() {
        let mut memory = vec![0; 1 << 16];
        assert_eq!(mappings_of(&memory), 4);
        memory[40_000] = 1;
        assert_eq!(mappings_of(&memory), 6);
        memory[16] = 1;
        assert_eq!(mappings_of(&memory), 5);
    }
}
