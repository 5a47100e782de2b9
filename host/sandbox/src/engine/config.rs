//! The configuration of wasmtime. The only place that makes a `Config` and a `wasmtime::Engine`.

use wasmtime::{Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::{EngineSettings, TABLES_PER_SLOT};

/// Bytes of each released memory and table that are cleared in place, where the kernel reports dirty pages (Linux 6.7).
/// Returning pages to the kernel costs an interrupt on every core.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// Bytes of each released stack that are cleared in place: a job with little recursion touches no more.
const STACK_KEEP_RESIDENT_BYTES: usize = 16 << 10;
/// Most core modules of one component, shims included.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
/// Most elements of a table. The largest table seen in a real guest has 7,692 (StarlingMonkey).
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Space for host frames on a guest's stack: host calls are polled there.
const HOST_STACK_BYTES: usize = 512 << 10;

/// Most memories of one core module.
const MEMORIES_PER_MODULE: u32 = 1;
/// Most tables of one core module.
const TABLES_PER_MODULE: u32 = 2;

/// What an engine is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To run jobs, or to compile their code.
    Jobs,
    /// To compile code that runs once, in `prewarm`. It is not optimised.
    Prewarm,
}

/// A new engine of wasmtime. Its machine code runs on every [`super::Engine`] of the same sizes, whatever its purpose.
#[expect(clippy::disallowed_methods, reason = "the only place that makes a Config and an Engine")]
pub(crate) fn new_engine(settings: EngineSettings, purpose: Purpose) -> wasmtime::Result<wasmtime::Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(settings.slots)
        .total_core_instances(settings.slots.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(settings.slots.saturating_mul(settings.memories_per_slot()))
        .total_tables(settings.slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(settings.slots)
        .total_gc_heaps(1)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_module(MEMORIES_PER_MODULE)
        .max_tables_per_module(TABLES_PER_MODULE)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES)
        // Each job's meter enforces its memory limit. This bound is that of the reserved addresses.
        .max_memory_size(4 << 30);

    let mut config = wasmtime::Config::new();
    if purpose == Purpose::Prewarm {
        config.cranelift_opt_level(OptLevel::None);
    }
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .consume_fuel(true)
        // Without this a stack stays as large as the deepest recursion that ever ran on it.
        .async_stack_zeroing(true)
        .epoch_interruption(true)
        .max_wasm_stack(settings.stack_bytes)
        .async_stack_size(settings.stack_bytes + HOST_STACK_BYTES)
        .memory_init_cow(true)
        // A snapshot up to the memory limit is mapped copy-on-write, never copied segment by segment.
        .memory_guaranteed_dense_image_size(settings.memory_bytes as u64)
        // No guest toolchain needs these proposals, and most advisories of 2026 were about them. Without the garbage-collected
        // heap there is no table of `externref`, which would take a heap of a pool that no permit counts.
        .gc_support(false)
        .concurrency_support(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        // QuickJS built for size uses them. A tail call spends fuel and checks the epoch as any call does.
        .wasm_tail_call(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false);
    wasmtime::Engine::new(&config)
}
