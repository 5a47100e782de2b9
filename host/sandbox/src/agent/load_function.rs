//! A load function that is a component. It is a guest, and not trusted.
//!
//! Bounds: [`CALL_TIMEOUT`] for a call, [`MEMORY_BYTES`] of memory, [`FUEL`] of fuel. A failed call drops the instance, and the
//! worker uses its own load. After [`FAILURES_MAX`] failures in a row the function is not called again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use wasm_worker_core::load::Sample;
use wasm_worker_core::text::with_causes;
use wasmtime::Store;

use super::compile::{self, Compiler};
use super::source::{self, Format};
use crate::engine::{Engine, chain};
use crate::guest::bindings::load_function::{LoadFunction, LoadFunctionPre, Sample as WitSample};
use crate::guest::convert::exact;
use crate::guest::kill::Kill;
use crate::guest::{HostState, Stage};
use crate::hostcalls;
use crate::job::limits;
use crate::job::run::{Crash, call, within};
use crate::settings::{AgentSettings, Limits};

/// Time limit of one call: the worker reports its load every few seconds.
const CALL_TIMEOUT: Duration = Duration::from_millis(100);
/// Memory limit of the instance.
const MEMORY_BYTES: usize = 16 << 20;
/// Fuel of one call.
const FUEL: u64 = 100_000_000;
/// Failures in a row after which the function is not called again.
const FAILURES_MAX: u32 = 10;

/// A load function, and its instance, which keeps its memory from call to call.
pub struct LoadComponent {
    engine: Engine,
    pre: LoadFunctionPre<HostState>,
    limits: Arc<Limits>,
    name: Arc<str>,
    instance: Option<Instance>,
    failures: u32,
}

/// The fields are dropped in this order: the store before its slot.
struct Instance {
    store: Store<HostState>,
    function: LoadFunction,
    _slot: OwnedSemaphorePermit,
}

impl LoadComponent {
    /// Load the component, and call it once as a test.
    ///
    /// # Errors
    /// When the component is no load function, or its first call fails.
    pub async fn load_file(engine: &Engine, path: &Path, settings: &AgentSettings) -> Result<Self, String> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || source::read(&path)).await;
        let source = read.map_err(|panic| panic.to_string())?.map_err(|error| with_causes(&error))?;
        let compiler = Compiler::own();
        let bytes = match source.format {
            Format::Binary => Ok(source.bytes),
            Format::Text => compile::parse(Some(&compiler), settings, Arc::new(source.bytes)).await,
        };
        let bytes = bytes.map_err(|error| error.to_string())?;
        let compiled = compile::compile(Some(&compiler), engine, settings, Arc::new(bytes)).await;
        let component = compiled.map_err(|error| error.to_string())?.component;
        if engine.slots_for(&component) != Some(1) {
            return Err("it has more memories or tables than one slot of the pool".into());
        }
        let linked = hostcalls::linker(engine).and_then(|linker| linker.instantiate_pre(&component));
        let pre = linked.and_then(LoadFunctionPre::new).map_err(|error| chain(&error))?;
        let limits = Arc::new(Limits {
            memory_bytes: MEMORY_BYTES,
            fuel: Some(FUEL),
            init_timeout: CALL_TIMEOUT,
            unresponsive_timeout: CALL_TIMEOUT,
            unresponsive_warning: CALL_TIMEOUT,
            ..settings.limits.clone()
        });
        let name = source.name.into();
        let mut component = Self { engine: engine.clone(), pre, limits, name, instance: None, failures: 0 };
        component.call(Sample::default()).await.map_err(|crash| crash.verdict().detail)?;
        Ok(component)
    }

    /// The load by this function; `None` when the call fails.
    pub async fn load(&mut self, sample: Sample) -> Option<f64> {
        if self.failures >= FAILURES_MAX {
            return None;
        }
        match self.call(sample).await {
            Ok(load) => {
                self.failures = 0;
                Some(load)
            }
            Err(crash) => {
                self.instance = None;
                self.failures += 1;
                let (name, why) = (&*self.name, crash.verdict().detail);
                let gives_up = self.failures == FAILURES_MAX;
                tracing::error!(target: "host", name, why, gives_up, "the load function failed, using the worker's own load");
                None
            }
        }
    }

    /// Call the function, on the runtime of the guests.
    async fn call(&mut self, sample: Sample) -> Result<f64, Crash> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.instantiate().await?,
        };
        let engine = self.engine.clone();
        let called = self.engine.guests().spawn(async move {
            // The whole instance moves, so that its store is dropped before its slot on every path.
            let mut instance = instance;
            let control = instance.store.data().control.clone();
            control.clock.call_begins();
            limits::refuel(&mut instance.store).map_err(|error| Crash::Host(error.to_string()))?;
            let guest = call(&control, instance.function.call_load(&mut instance.store, wit(sample)));
            let kill = Kill::InitTimeout { limit: CALL_TIMEOUT };
            let load = within(&control, CALL_TIMEOUT, kill, &engine, guest).await;
            control.log().finish();
            Ok((load?, instance))
        });
        let (load, instance) = called.await.map_err(|panic| Crash::Host(panic.to_string()))??;
        self.instance = Some(instance);
        Ok(load)
    }

    async fn instantiate(&mut self) -> Result<Instance, Crash> {
        let host = |error: wasmtime::Error| Crash::Host(error.to_string());
        let slot = self.engine.acquire_slot(1).await.map_err(|error| Crash::Host(error.to_string()))?;
        let mut store =
            Store::new(self.engine.wasmtime(), HostState::new(&self.engine, &self.limits, &self.name, Stage::Live));
        limits::arm(&mut store).map_err(host)?;
        let control = store.data().control.clone();
        let (pre, engine) = (self.pre.clone(), self.engine.clone());
        let made = self.engine.guests().spawn(async move {
            let guest = call(&control, pre.instantiate_async(&mut store));
            let kill = Kill::InitTimeout { limit: CALL_TIMEOUT };
            let function = within(&control, CALL_TIMEOUT, kill, &engine, guest).await?;
            Ok(Instance { store, function, _slot: slot })
        });
        made.await.map_err(|panic| Crash::Host(panic.to_string()))?
    }
}

fn wit(sample: Sample) -> WitSample {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let Sample { cpu, cores, fuel, fuel_rate, memory, memory_bytes, jobs, jobs_max } = sample;
    let memory_bytes = exact(memory_bytes);
    WitSample { cpu, cores, fuel, fuel_rate, memory, memory_bytes, jobs: count(jobs), jobs_max: count(jobs_max) }
}
