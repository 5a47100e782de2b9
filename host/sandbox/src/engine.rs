//! The one wasmtime engine that every guest runs on, its epochs, its pool of slots, and the sums of what guests use.
//!
//! Sole maker of wasmtime's `Config`, `Engine` and `Linker`. The engine knows nothing of jobs.
//!
//! Bounds: the pool holds [`EngineSettings::slots`] jobs, each with at most [`EngineSettings::memories_per_slot`] memories and
//! [`TABLES_PER_SLOT`] tables of at most the memory limit. Each instance holds a permit from [`Engine::acquire_slot`], so the
//! pool is never asked for more than it has.

pub(crate) mod config;
mod addresses;
pub mod mappings;
pub mod spending;
pub(crate) mod timeslice;

pub mod ticker;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use wasmtime::component::{Component, Linker};

use crate::machine;
use crate::settings::AgentSettings;
use config::Purpose;
use mappings::MAPPINGS_MIN;
use spending::{Spending, Spent};
use ticker::{Ticker, TickerReport};
use timeslice::CoreDemand;

/// Length of an epoch, and so the longest time after which a running guest notices a kill.
pub const EPOCH: Duration = Duration::from_millis(10);

/// Fuel yield interval: after this fuel a guest checks whether its time slice is over. It lasts 10 to 150 µs.
pub(crate) const FUEL_YIELD_INTERVAL: u64 = 100_000;

/// Memories of one slot, where the addresses suffice. A program in Rust, C, Python or Go has one. QuickJS with its adapters has
/// three, of which two are empty.
const MEMORIES_PER_SLOT_MAX: u32 = 3;
/// Tables of one slot: the program's own, and those for the shims that component tools add.
const TABLES_PER_SLOT: u32 = 4;
/// Pause between two attempts to get several slots.
const MANY_SLOTS_PAUSE: Duration = Duration::from_millis(5);
/// Most slots. Each memory of a slot reserves 4 GiB of the 128 TiB of virtual addresses.
const SLOTS_MAX: u32 = 20_000;

/// The sizes of the engine.
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

    /// Memories of one slot: three, or fewer where the pool would take more addresses than this process has.
    pub fn memories_per_slot(&self) -> u32 {
        addresses::memories_per_slot(self.slots, MEMORIES_PER_SLOT_MAX, machine::address_limit())
    }

    /// Slots of this pool that an instance with so many memories and tables takes.
    pub fn slots_for(&self, memories: u32, tables: u32) -> u32 {
        memories.div_ceil(self.memories_per_slot()).max(tables.div_ceil(TABLES_PER_SLOT)).max(1)
    }

    /// Check that this machine has the addresses and the memory mappings for the slots.
    ///
    /// # Errors
    /// When there are too many slots.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.slots > SLOTS_MAX {
            return Err(EngineError::TooManySlots { asked: self.slots });
        }
        mappings::check(self.slots, MAPPINGS_MIN)
    }
}

/// The reason why the engine cannot start on this machine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The slots exceed the address space.
    #[error("{asked} instances at once exceed the address space of one process; at most {SLOTS_MAX} fit")]
    TooManySlots {
        /// Slots that the settings ask for.
        asked: u32,
    },
    /// The slots exceed the memory mappings that the kernel allows for one process.
    #[error(
        "{asked} instances at once take about {needed} memory mappings, and the kernel allows {limit} for a process; at most {fit} fit"
    )]
    TooManyMappings {
        /// Slots that the settings ask for.
        asked: u32,
        /// Mappings that they take.
        needed: u32,
        /// `vm.max_map_count`.
        limit: u32,
        /// Slots that fit.
        fit: u32,
    },
    /// The slots exceed the limit on the address space of the process.
    #[error(
        "{asked} instances at once take {needed} of addresses, and the limit of this process is {limit}; at most {fit} fit"
    )]
    TooManyAddresses {
        /// Slots that the settings ask for.
        asked: u32,
        /// Addresses that they take.
        needed: ByteSize,
        /// `RLIMIT_AS`.
        limit: ByteSize,
        /// Slots that fit.
        fit: u64,
    },
    /// The system refuses to make memory executable.
    #[error("the system forbids machine code: memory cannot be made executable")]
    MachineCode(#[source] std::io::Error),
    /// Wasmtime refused its configuration, or the kernel refused the memory of the pool.
    #[error("the WebAssembly engine cannot start")]
    Wasmtime(#[source] wasmtime::Error),
    /// The thread of the ticker cannot start.
    #[error("the epoch thread cannot start")]
    Ticker(#[source] std::io::Error),
}

impl EngineError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooManyMappings { needed, .. } => {
                Some(format!("`sysctl -w vm.max_map_count={needed}` as root raises the kernel's limit"))
            }
            Self::TooManyAddresses { .. } => Some(machine::ADDRESSES_HINT.into()),
            Self::MachineCode(_) => Some(
                "agents run as machine code: set `MemoryDenyWriteExecute=no` in a systemd unit, and allow `execmem` in SELinux"
                    .into(),
            ),
            Self::Ticker(error) => machine::process_limit(error),
            Self::TooManySlots { .. } | Self::Wasmtime(_) => None,
        }
    }
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    spending: Arc<Spending>,
    core_demand: Arc<CoreDemand>,
    wasmtime: wasmtime::Engine,
    ticker: Ticker,
    /// Permits for the slots of the pool.
    slots: Arc<Semaphore>,
    settings: EngineSettings,
    /// The runtime of the guests, with as many threads as cores.
    guests: Handle,
    /// The runtime of timers, which guests on every core cannot delay.
    timers: Handle,
}

impl Engine {
    /// Start the engine and its ticker. The runtime `guests` runs guests and nothing else.
    ///
    /// # Errors
    /// When the pool does not fit this machine's address space, or the ticker thread cannot start.
    pub fn new(settings: EngineSettings, guests: Handle, timers: Handle) -> Result<Self, EngineError> {
        settings.check()?;
        addresses::check(settings.slots, machine::address_limit())?;
        machine::try_machine_code().map_err(EngineError::MachineCode)?;
        let wasmtime = config::new_engine(settings, Purpose::Jobs).map_err(EngineError::Wasmtime)?;
        let core_demand = Arc::new(CoreDemand::new(guests.metrics().num_workers()));
        let ticker = Ticker::start(&wasmtime, core_demand.clone()).map_err(EngineError::Ticker)?;
        Ok(Self(Arc::new(Shared {
            spending: Arc::default(),
            core_demand,
            wasmtime,
            ticker,
            slots: Arc::new(Semaphore::new(settings.slots as usize)),
            settings,
            guests,
            timers,
        })))
    }

    /// The engine of wasmtime.
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// A hash of everything that compiled code depends on besides its source.
    pub(crate) fn compatibility(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// The sizes.
    pub(crate) fn settings(&self) -> EngineSettings {
        self.0.settings
    }

    /// An empty linker.
    pub(crate) fn linker<T: 'static>(&self) -> Linker<T> {
        Linker::new(&self.0.wasmtime)
    }

    /// The runtime of the guests.
    pub(crate) fn guests(&self) -> &Handle {
        &self.0.guests
    }

    /// The runtime of timers.
    pub(crate) fn timers(&self) -> &Handle {
        &self.0.timers
    }

    /// Advance the epoch, so that a kill is noticed at the guest's next loop or call and not only at the next tick.
    pub(crate) fn end_epoch(&self) {
        self.0.wasmtime.increment_epoch();
    }

    /// The number of guests that want a core, which decides the length of a time slice.
    pub(crate) fn core_demand(&self) -> &Arc<CoreDemand> {
        &self.0.core_demand
    }

    /// The counters of what guests use.
    pub(crate) fn spending(&self) -> &Arc<Spending> {
        &self.0.spending
    }

    /// What guests have used so far.
    pub fn spent(&self) -> Spent {
        self.0.spending.spent()
    }

    /// Most instances at once.
    pub fn slots(&self) -> u32 {
        self.0.settings.slots
    }

    /// The present use of the pool.
    pub fn pool(&self) -> PoolReport {
        let metrics = self.0.wasmtime.pooling_allocator_metrics();
        PoolReport {
            slots: self.0.settings.slots.saturating_sub(u32::try_from(self.0.slots.available_permits()).unwrap_or(0)),
            instances: metrics.as_ref().map_or(0, |metrics| metrics.component_instances()),
            memories: metrics.as_ref().map_or(0, |metrics| metrics.memories()),
            tables: metrics.as_ref().map_or(0, |metrics| metrics.tables()),
            stacks: metrics.as_ref().map_or(0, |metrics| metrics.stacks()),
        }
    }

    /// The lateness of the ticker.
    pub fn ticker(&self) -> TickerReport {
        self.0.ticker.report()
    }

    /// Whether guests can run: their runtime runs a task, and the epoch advances. Completes late or never where they cannot.
    pub async fn is_alive(&self) -> bool {
        let ticks = self.ticker().ticks;
        let ran = self.0.guests.spawn(tokio::time::sleep(EPOCH * 5)).await;
        ran.is_ok() && self.ticker().ticks > ticks
    }

    /// The number of slots for one instance of this component; `None` when the whole pool is too small.
    pub(crate) fn slots_for(&self, component: &Component) -> Option<u32> {
        let needs = component.resources_required()?;
        let slots = self.0.settings.slots_for(needs.num_memories, needs.num_tables);
        Some(slots).filter(|slots| *slots <= self.0.settings.slots)
    }

    /// Fail when the kernel's limit on mappings does not allow a full pool of instances with this many.
    pub(crate) fn check_mappings(&self, mappings_each: u32) -> Result<(), EngineError> {
        mappings::check(self.0.settings.slots, mappings_each)
    }

    /// Wait for slots of the pool. Dropping the permit releases them; the store must be dropped before.
    pub(crate) async fn acquire_slot(&self, slots: u32) -> Result<OwnedSemaphorePermit, AcquireError> {
        if slots == 1 {
            return self.0.slots.clone().acquire_owned().await;
        }
        // In the queue of the semaphore, a request for many slots would delay every request for one behind it.
        loop {
            match self.0.slots.clone().try_acquire_many_owned(slots) {
                Ok(permit) => return Ok(permit),
                Err(TryAcquireError::Closed) => return self.0.slots.clone().acquire_owned().await,
                Err(TryAcquireError::NoPermits) => {}
            }
            let pause = {
                let _timers = self.0.timers.enter();
                tokio::time::sleep(MANY_SLOTS_PAUSE)
            };
            pause.await;
        }
    }
}

/// An error of wasmtime with its causes, in one line.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let parts: Vec<String> = error.chain().map(ToString::to_string).collect();
    parts.join(": ").replace('\n', " ")
}

/// The use of the engine's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// Slots with a permit.
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
