//! What both benches need: a worker in this process, and agents written by hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker::config::{Config, EventTarget, Override, SETTINGS};
use wasm_worker::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_fuzz::core_guest;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::source::{Format, Source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::spec::JobSpec;
use wasm_worker_sandbox::runtimes::Runtimes;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine as Wasmtime, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

pub(crate) struct Worker {
    pub(crate) runtimes: Runtimes,
    engine: Engine,
    pub(crate) events: Arc<Events>,
    config: Config,
}

impl Worker {
    pub(crate) fn new(jobs_at_once: u32, settings: &[(&str, &str)]) -> Self {
        let overrides = settings.iter().map(|(key, value)| {
            let key = SETTINGS.iter().find(|setting| setting.key == *key).unwrap().key;
            Override { key, value: (*value).into(), source: "bench".into() }
        });
        let config = Config::load(None, overrides.collect()).unwrap();
        let runtimes = Runtimes::start().unwrap();
        let settings = config.engine_settings(jobs_at_once);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone()).unwrap();
        let events = publisher(&EventLines::open(&EventTarget::Off).unwrap(), None);
        Self { runtimes, engine, events, config }
    }

    pub(crate) fn load(&self, component: &[u8], cache: Option<&Cache>) -> Agent {
        let source = Source { name: "bench".into(), bytes: component.to_vec(), format: Format::Binary };
        let load = Agent::load(&self.engine, source, &self.config.agent, cache, None, &self.events);
        self.runtimes.block_on(load).unwrap()
    }

    /// One job, from its offer to its verdict.
    pub(crate) async fn job(&self, agent: &Agent) -> JobRecord {
        self.timed_job(agent).await.1
    }

    /// The same, with the time that its offer took to be answered.
    pub(crate) async fn timed_job(&self, agent: &Agent) -> (Duration, JobRecord) {
        let offer = JobSpec::default().into_offers("bench")();
        let began = Instant::now();
        let running = agent.offer(offer, &self.events).await.unwrap();
        (began.elapsed(), running.closed().await.unwrap())
    }
}

/// Fills so many MiB in `prewarm`, with values that have to be computed.
pub(crate) fn table(mebibytes: u32) -> String {
    let (pages, end) = (mebibytes * 16 + 2, (mebibytes << 20) + 131_072);
    format!(
        r#"(memory (export "memory") {pages})
        (func (export "prewarm") (result i32)
          (local $at i32) (local $value i64)
          (local.set $at (i32.const 131072))
          (loop $more
            (local.set $value (i64.add (i64.mul (local.get $value) (i64.const 6364136223846793005)) (i64.const 1)))
            (i64.store (local.get $at) (local.get $value))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $more (i32.lt_u (local.get $at) (i32.const {end}))))
          (i32.const 16))"#
    )
}

/// Wasmtime with a pool of so many, and nothing else: no limits, no verdict, no runtime.
#[expect(clippy::disallowed_methods, reason = "this is what the worker is compared with")]
pub(crate) fn bare(lines: &str, instances: u32) -> InstancePre<()> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances).total_core_instances(instances * 4);
    pool.total_memories(instances).total_tables(instances * 2);
    let mut config = wasmtime::Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Wasmtime::new(&config).unwrap();
    let component = Component::from_binary(&engine, &core_guest::component(lines)).unwrap();
    let mut linker = Linker::new(&engine);
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12").unwrap();
    clock.func_wrap("now", |_, (): ()| Ok((1_u64,))).unwrap();
    // What an agent imports and this one does not call.
    linker.allow_shadowing(true);
    linker.define_unknown_imports_as_traps(&component).unwrap();
    linker.instantiate_pre(&component).unwrap()
}

/// One instance and one call in it: of `prewarm`, as a step has the events of the contract.
pub(crate) fn bare_job(pre: &InstancePre<()>) {
    let mut store = Store::new(pre.engine(), ());
    let instance = pre.instantiate(&mut store).unwrap();
    let prewarm = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, "prewarm").unwrap();
    prewarm.call(&mut store, ()).unwrap().0.unwrap();
}
