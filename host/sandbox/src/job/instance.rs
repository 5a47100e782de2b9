//! The template of an agent, and the store and instance that each job gets from it.
//!
//! Bounds: each instance holds the permit for its slots of the engine's pool, and an agent keeps at most `idle` warm instances.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use wasm_worker_core::usage::{HostCalls, PrewarmCost, micros};
use wasmtime::Store;

use super::limits;
use super::run::{Crash, call, within};
use crate::engine::Engine;
use crate::guest::bindings::{self, AgentPre};
use crate::guest::control::Control;
use crate::guest::kill::Kill;
use crate::guest::meter::fuel_used;
use crate::guest::{HostState, Stage};
use crate::recording::recorder::Recordings;
use crate::settings::Limits;

/// The origin of all instances of one agent.
pub(crate) struct Template {
    /// The engine that the instances run on.
    pub(crate) engine: Engine,
    /// The name of the agent.
    pub(crate) agent: Arc<str>,
    /// The component with its imports resolved.
    pub(crate) pre: AgentPre<HostState>,
    /// The limits of each job.
    pub(crate) limits: Arc<Limits>,
    /// Slots of the engine's pool for one instance.
    pub(crate) slots: u32,
    /// Memory of the engine's structures for one instance, in bytes.
    pub(crate) instance_bytes: usize,
    /// For an agent without a snapshot: the instances that have run `prewarm` already.
    pub(crate) warm: Option<WarmInstances>,
    /// Where the jobs are recorded; absent where none is.
    pub(crate) recordings: Option<Arc<Recordings>>,
}

/// Prewarmed instances that wait for a job.
pub(crate) struct WarmInstances {
    /// `None` once the agent is gone or replaced, while jobs that still run keep the template.
    ready: Mutex<Option<VecDeque<Instance>>>,
    /// Number of instances to keep.
    pub(crate) target: usize,
    /// Wakes the refill after an instance was taken.
    pub(crate) taken: Notify,
    /// Wakes a job after an instance was added.
    put: Notify,
}

impl WarmInstances {
    /// No instances yet; the refill adds `target`.
    pub(crate) fn new(target: usize) -> Self {
        Self { ready: Mutex::new(Some(VecDeque::new())), target, taken: Notify::new(), put: Notify::new() }
    }

    /// Add an instance. After [`Self::close`] it is dropped.
    pub(crate) fn put(&self, instance: Instance) {
        if let Some(ready) = self.lock().as_mut() {
            ready.push_back(instance);
        }
        self.put.notify_one();
    }

    /// Drop all instances, and those that are added later.
    pub(crate) fn close(&self) {
        drop(self.lock().take());
    }

    fn take(&self) -> Option<Instance> {
        let instance = self.lock().as_mut().and_then(VecDeque::pop_front);
        self.taken.notify_one();
        instance
    }

    /// Take an instance, or wait for one.
    async fn acquire(&self) -> Instance {
        loop {
            if let Some(instance) = self.take() {
                return instance;
            }
            self.put.notified().await;
        }
    }

    /// The number of instances to add.
    pub(crate) fn missing(&self) -> usize {
        self.lock().as_ref().map_or(0, |ready| self.target.saturating_sub(ready.len()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Instance>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store, and the agent in it once it is instantiated.
pub(crate) struct Instance {
    // Dropped in this order: the store before its slots.
    /// The store, which has the host's side of the instance.
    pub(crate) store: Store<HostState>,
    /// The exports of the agent, once it is instantiated.
    pub(crate) agent: Option<bindings::Agent>,
    /// Set once `prewarm` has run in this instance.
    pub(crate) prewarmed: Option<PrewarmCost>,
    _slot: OwnedSemaphorePermit,
}

impl Template {
    /// The same with other limits, and without instances that are warm already.
    pub(crate) fn with_limits(&self, limits: Limits) -> Self {
        Self {
            engine: self.engine.clone(),
            agent: self.agent.clone(),
            pre: self.pre.clone(),
            limits: Arc::new(limits.with_bounded_times()),
            slots: self.slots,
            instance_bytes: self.instance_bytes,
            warm: self.warm.as_ref().map(|_| WarmInstances::new(0)),
            recordings: self.recordings.clone(),
        }
    }

    /// A warm instance or an empty one, whichever is available first.
    pub(crate) async fn acquire(&self) -> Result<Instance, Crash> {
        match &self.warm {
            None => self.empty(Stage::Live).await,
            Some(warm) => tokio::select! {
                biased;
                instance = warm.acquire() => Ok(instance),
                instance = self.empty(Stage::Live) => instance,
            },
        }
    }

    /// An instance without its agent yet. Waits for its slots.
    pub(crate) async fn empty(&self, stage: Stage) -> Result<Instance, Crash> {
        let slot = self.engine.acquire_slot(self.slots).await.map_err(|error| Crash::Host(error.to_string()))?;
        let state = HostState::new(&self.engine, &self.limits, &self.agent, stage);
        let mut store = Store::new(self.engine.wasmtime(), state);
        limits::arm(&mut store).map_err(|error| Crash::Host(error.to_string()))?;
        let charged = store.data_mut().meter.charge_instance(self.instance_bytes);
        charged.map_err(|kill| Crash::Killed { kill, backtrace: Vec::new() })?;
        Ok(Instance { store, agent: None, prewarmed: None, _slot: slot })
    }

    /// The same outside of a job, with `init-timeout` for the wait.
    pub(crate) async fn empty_within_init(&self) -> Result<Instance, Crash> {
        let limit = self.limits.init_timeout;
        let made = {
            let _timers = self.engine.timers().enter();
            tokio::time::timeout(limit, self.empty(Stage::Live))
        };
        made.await.unwrap_or_else(|_| Err(Crash::Host(format!("no slot was free within {limit:?}"))))
    }
}

impl Template {
    /// Create or prewarm an instance outside of a job, within `init-timeout`.
    pub(crate) async fn init_within<T>(
        &self,
        control: &Arc<Control>,
        guest: impl Future<Output = Result<T, Crash>>,
    ) -> Result<T, Crash> {
        let limit = self.limits.init_timeout;
        within(control, limit, Kill::InitTimeout { limit }, &self.engine, guest).await
    }
}

impl Instance {
    /// The state that is shared with others.
    pub(crate) fn control(&self) -> Arc<Control> {
        self.store.data().control.clone()
    }

    /// Instantiate the agent, unless that is done. This runs its start functions.
    pub(crate) async fn instantiate(&mut self, template: &Template) -> Result<(), Crash> {
        if self.agent.is_none() {
            let control = self.control();
            self.agent = Some(call(&control, template.pre.instantiate_async(&mut self.store)).await?);
        }
        Ok(())
    }

    /// Run `prewarm`, unless a snapshot has its state or it has run in this instance.
    pub(crate) async fn prewarm(&mut self, template: &Template) -> Result<(), Crash> {
        if template.warm.is_none() || self.prewarmed.is_some() {
            return Ok(());
        }
        let control = self.control();
        let agent =
            self.agent.as_ref().ok_or_else(|| Crash::Host("`prewarm` was called before the instance exists".into()))?;
        let returned = call(&control, agent.call_prewarm(&mut self.store)).await;
        control.log().finish();
        returned?.map_err(|error| Crash::InitFailed(format!("prewarm failed: {error}")))?;
        self.prewarmed = Some(self.cost_so_far(&template.limits)?);
        Ok(())
    }

    /// The cost of everything that has run in this instance.
    pub(crate) fn cost_so_far(&self, limits: &Limits) -> Result<PrewarmCost, Crash> {
        let left = self.store.get_fuel().map_err(|error| Crash::Host(error.to_string()))?;
        Ok(PrewarmCost { fuel: fuel_used(limits, left), cpu_us: micros(self.control().clock.cpu()) })
    }

    /// Add the cost so far to the sums of the engine.
    pub(crate) fn settle(&mut self) {
        let left = self.store.get_fuel().unwrap_or(0);
        let state = self.store.data_mut();
        let used = fuel_used(state.meter.limits(), left);
        state.meter.spend(used, state.control.clock.cpu());
    }

    /// Give the instance its whole fuel again, before its next call.
    pub(crate) fn refuel(&mut self) -> Result<(), Crash> {
        self.settle();
        self.store.data_mut().meter.refueled();
        limits::refuel(&mut self.store).map_err(|error| Crash::Host(error.to_string()))
    }

    /// Count all use from zero, at the launch.
    pub(crate) fn reset_use(&mut self) -> Result<(), Crash> {
        // Earlier use is in the sums of the engine already.
        limits::refuel(&mut self.store).map_err(|error| Crash::Host(error.to_string()))?;
        let state = self.store.data_mut();
        state.meter.calls = HostCalls::default();
        state.control.clock.reset();
        state.control.log().reset_counts();
        Ok(())
    }
}
