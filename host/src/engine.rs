//! What every guest runs on: the one wasmtime engine, its clock, and the two runtimes.
//!
//! Sole maker of wasmtime's `Config`, `Engine` and `Linker`. Nothing here knows what a job is.
//!
//! Bounds: the pool holds [`EngineSettings::slots`] jobs, each with at most [`MEMORIES_PER_SLOT`] memories and
//! [`TABLES_PER_SLOT`] tables of at most the memory limit; whoever makes an instance holds a permit from
//! [`Engine::acquire_slot`] first, so the pool is never asked for more than it has.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wasmtime::component::{Component, Linker};
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Length of an epoch, and so the precision with which running guests are looked at.
pub const EPOCH: Duration = Duration::from_millis(10);

/// Fuel after which a running guest lets others run, about a millisecond's worth.
pub(crate) const FUEL_SLICE: u64 = 1_000_000;

/// A component built from one Rust, C, JavaScript or Python program has one memory.
const MEMORIES_PER_SLOT: u32 = 2;
/// Its own table, and one for the shims that component tools add.
const TABLES_PER_SLOT: u32 = 4;
/// Of each memory and table that is given back, this much is cleared in place where the kernel can say which pages are dirty
/// (Linux 6.7); giving pages back to it costs an interrupt on every core.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// Core modules of one component, shims included.
const CORE_INSTANCES_MAX: u32 = 64;
/// Largest table seen in a real guest has 7,692 elements (StarlingMonkey).
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Host frames on a guest's stack: host calls are polled there.
const HOST_STACK_BYTES: usize = 512 << 10;
/// Virtual addresses are reserved for every slot, and there are 128 TiB of them.
const SLOTS_MAX: u32 = 9_000;

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

/// The engine cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// More slots than address space.
    #[error("{asked} jobs at once are more than one process can hold; at most {SLOTS_MAX}")]
    TooManySlots {
        /// Slots asked for.
        asked: u32,
    },
    /// Wasmtime refused its configuration, or the kernel the memory for the pool.
    #[error("the WebAssembly engine cannot start")]
    Wasmtime(#[source] wasmtime::Error),
    /// The ticker is a thread.
    #[error("the epoch thread cannot start")]
    Ticker(#[source] std::io::Error),
}

/// What every guest runs on. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
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
        let wasmtime = make_wasmtime(settings).map_err(EngineError::Wasmtime)?;
        let ticker = Ticker::start(&wasmtime).map_err(EngineError::Ticker)?;
        Ok(Self(Arc::new(Shared {
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

    /// Wait for room in the pool. The permit is given back by dropping it, after the store.
    pub(crate) async fn acquire_slot(&self, slots: u32) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.0.slots.clone().acquire_many_owned(slots).await
    }
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
        // The job's own limit is kept by its meter, which says so; here is only what fits the reserved addresses.
        .max_memory_size(4 << 30);

    let mut config = wasmtime::Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(settings.stack_bytes)
        .async_stack_size(settings.stack_bytes + HOST_STACK_BYTES)
        .memory_init_cow(true)
        // A snapshot up to the memory limit is mapped copy-on-write, never copied segment by segment.
        .memory_guaranteed_dense_image_size(settings.memory_bytes as u64)
        // Proposals that no guest toolchain needs, and where most advisories of 2026 were.
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

/// Lateness of the epoch thread since it started.
#[derive(Clone, Copy, Debug)]
pub struct TickerReport {
    /// Ticks so far.
    pub ticks: u64,
    /// Ticks that came a whole epoch late or later.
    pub late: u64,
    /// The worst lateness.
    pub worst: Duration,
}

/// Advances the epoch, from a thread of its own: a task would starve exactly when it is needed.
struct Ticker {
    shared: Arc<TickerShared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct TickerShared {
    stop: AtomicBool,
    ticks: AtomicU64,
    late: AtomicU64,
    worst_us: AtomicU64,
}

impl Ticker {
    fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(TickerShared::default());
        let (engine, counters) = (engine.weak(), shared.clone());
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            let mut due = Instant::now() + EPOCH;
            while !counters.stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                let now = Instant::now();
                if now < due {
                    continue;
                }
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                counters.count(now - due);
                // Ticks that were missed are not made up for: two at once would not stop anyone sooner.
                due = (due + EPOCH).max(now);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn report(&self) -> TickerReport {
        TickerReport {
            ticks: self.shared.ticks.load(Ordering::Relaxed),
            late: self.shared.late.load(Ordering::Relaxed),
            worst: Duration::from_micros(self.shared.worst_us.load(Ordering::Relaxed)),
        }
    }
}

impl TickerShared {
    fn count(&self, lateness: Duration) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.late.fetch_add(u64::from(lateness >= EPOCH), Ordering::Relaxed);
        let micros = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.worst_us.fetch_max(micros, Ordering::Relaxed);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the epoch thread panicked");
            }
        }
    }
}
