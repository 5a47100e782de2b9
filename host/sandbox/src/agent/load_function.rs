//! A load function that is a component: a guest like any other, and as little trusted.
//!
//! Bounds: [`CALL_WITHIN`] for a call, [`MEMORY_BYTES`] of memory, [`FUEL`] of fuel. A call that fails costs that instance, and
//! the load is then the worker's own; after [`FAILURES_MAX`] failures in a row it is not asked again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use wasm_worker_core::load::Sample;
use wasmtime::Store;

use super::source;
use crate::engine::Engine;
use crate::hostcalls::kill::Kill;
use crate::hostcalls::load_bindings::{LoadFunction, LoadFunctionPre, Sample as WitSample};
use crate::hostcalls::{self, HostState, Stage};
use crate::job::admission::within;
use crate::job::limits;
use crate::job::run::{Crash, call};
use crate::settings::{AgentSettings, Limits};

const CALL_WITHIN: Duration = Duration::from_millis(100);
const MEMORY_BYTES: usize = 16 << 20;
/// Of one call.
const FUEL: u64 = 100_000_000;
const FAILURES_MAX: u32 = 10;

/// A load function, and what it remembers.
pub struct LoadComponent {
    engine: Engine,
    pre: LoadFunctionPre<HostState>,
    limits: Arc<Limits>,
    name: Arc<str>,
    instance: Option<Instance>,
    failures: u32,
}

/// In the order in which it is dropped.
struct Instance {
    store: Store<HostState>,
    function: LoadFunction,
    _slot: OwnedSemaphorePermit,
}

impl LoadComponent {
    /// Load it, and try it once.
    ///
    /// # Errors
    /// When it is no such component, in words.
    pub async fn load_file(engine: &Engine, path: &Path, settings: &AgentSettings) -> Result<Self, String> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || source::read(&path)).await;
        let source = read.map_err(|panic| panic.to_string())?.map_err(|error| with_cause(&error))?;
        let compiled = super::compile::Compiler::own().compile(engine, settings, Arc::new(source.bytes)).await;
        let component = compiled.map_err(|error| error.to_string())?;
        if engine.slots_for(&component) != Some(1) {
            return Err("it has more memories or tables than one slot of the pool".into());
        }
        let linked = hostcalls::linker(engine).and_then(|linker| linker.instantiate_pre(&component));
        let pre = linked.and_then(LoadFunctionPre::new).map_err(|error| super::load::chain(&error))?;
        let limits = Arc::new(Limits {
            memory_bytes: MEMORY_BYTES,
            fuel: Some(FUEL),
            init_timeout: CALL_WITHIN,
            unresponsive_timeout: CALL_WITHIN,
            unresponsive_warning: CALL_WITHIN,
            ..settings.limits.clone()
        });
        let name = source.name.into();
        let mut component = Self { engine: engine.clone(), pre, limits, name, instance: None, failures: 0 };
        component.ask(Sample::default()).await.map_err(|crash| crash.verdict().detail)?;
        Ok(component)
    }

    /// What it says; nothing when it fails.
    pub async fn load(&mut self, sample: Sample) -> Option<f64> {
        if self.failures >= FAILURES_MAX {
            return None;
        }
        match self.ask(sample).await {
            Ok(load) => {
                self.failures = 0;
                Some(load)
            }
            Err(crash) => {
                self.instance = None;
                self.failures += 1;
                let (name, why) = (&*self.name, crash.verdict().detail);
                let gives_up = self.failures == FAILURES_MAX;
                tracing::error!(target: "host", name, why, gives_up, "the load function failed; the load is the worker's own");
                None
            }
        }
    }

    /// On the runtime of the guests.
    async fn ask(&mut self, sample: Sample) -> Result<f64, Crash> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.instantiate().await?,
        };
        let engine = self.engine.clone();
        let asked = self.engine.guests().spawn(async move {
            // Whole, so that its store goes before its slot on every path.
            let mut instance = instance;
            let control = instance.store.data().control.clone();
            control.clock.call_begins();
            limits::refuel(&mut instance.store).map_err(|error| Crash::Host(error.to_string()))?;
            let guest = call(&control, instance.function.call_load(&mut instance.store, wit(sample)));
            let kill = Kill::InitTimeout { limit: CALL_WITHIN };
            let load = within(&control, CALL_WITHIN, kill, &engine, guest).await;
            control.log().finish();
            Ok((load?, instance))
        });
        let (load, instance) = asked.await.map_err(|panic| Crash::Host(panic.to_string()))??;
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
            let kill = Kill::InitTimeout { limit: CALL_WITHIN };
            let function = within(&control, CALL_WITHIN, kill, &engine, guest).await?;
            Ok(Instance { store, function, _slot: slot })
        });
        made.await.map_err(|panic| Crash::Host(panic.to_string()))?
    }
}

/// An error and what it came from.
fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn wit(sample: Sample) -> WitSample {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let Sample { cpu, cores, fuel, fuel_rate, memory, memory_bytes, jobs, jobs_max } = sample;
    let memory_bytes = hostcalls::meter::exact(memory_bytes);
    WitSample { cpu, cores, fuel, fuel_rate, memory, memory_bytes, jobs: count(jobs), jobs_max: count(jobs_max) }
}
