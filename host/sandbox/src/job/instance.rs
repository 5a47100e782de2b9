//! From a template to one job's own store and instance.
//!
//! Bounds: whoever makes an instance holds a slot of the engine's pool, and the instance keeps it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use wasm_worker_core::usage::{HostCalls, PrewarmCost, micros};
use wasmtime::Store;

use super::limits;
use super::run::{Crash, call};
use crate::engine::Engine;
use crate::hostcalls::bindings::{self, AgentPre};
use crate::hostcalls::control::Control;
use crate::hostcalls::meter::fuel_used;
use crate::hostcalls::{HostState, Stage};
use crate::settings::Limits;

/// What the instances of one agent are made from.
pub(crate) struct Template {
    pub(crate) engine: Engine,
    pub(crate) agent: Arc<str>,
    pub(crate) pre: AgentPre<HostState>,
    pub(crate) limits: Arc<Limits>,
    /// Slots of the engine's pool that one instance takes.
    pub(crate) slots: u32,
    /// Where there is no snapshot: instances that have run `prewarm` already, as far as there are any.
    pub(crate) shelf: Option<Shelf>,
}

/// Prewarmed instances that wait for a job.
pub(crate) struct Shelf {
    /// None once its agent is gone, or another version has taken its place: jobs that still run keep the template.
    ready: Mutex<Option<VecDeque<Instance>>>,
    /// How many to keep.
    pub(crate) target: usize,
    /// One was taken.
    pub(crate) taken: Notify,
    /// One was put there.
    put: Notify,
}

impl Shelf {
    pub(crate) fn new(target: usize) -> Self {
        Self { ready: Mutex::new(Some(VecDeque::new())), target, taken: Notify::new(), put: Notify::new() }
    }

    pub(crate) fn put(&self, instance: Instance) {
        if let Some(ready) = self.lock().as_mut() {
            ready.push_back(instance);
        }
        self.put.notify_one();
    }

    /// Let go of all of them, and of those that are still to come.
    pub(crate) fn close(&self) {
        drop(self.lock().take());
    }

    fn take(&self) -> Option<Instance> {
        let instance = self.lock().as_mut().and_then(VecDeque::pop_front);
        self.taken.notify_one();
        instance
    }

    /// Wait for one to be there.
    async fn acquire(&self) -> Instance {
        loop {
            if let Some(instance) = self.take() {
                return instance;
            }
            self.put.notified().await;
        }
    }

    pub(crate) fn missing(&self) -> usize {
        self.lock().as_ref().map_or(0, |ready| self.target.saturating_sub(ready.len()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Instance>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store, and in it the agent once it is instantiated.
pub(crate) struct Instance {
    // Dropped in this order: the store goes before the slot it takes.
    pub(crate) store: Store<HostState>,
    pub(crate) agent: Option<bindings::Agent>,
    /// Set once `prewarm` has run in this very instance.
    pub(crate) prewarmed: Option<PrewarmCost>,
    _slot: OwnedSemaphorePermit,
}

impl Template {
    /// A prewarmed instance from the shelf, or an empty one, whichever can be had first.
    pub(crate) async fn acquire(&self) -> Result<Instance, Crash> {
        match &self.shelf {
            None => self.empty(Stage::Live).await,
            Some(shelf) => tokio::select! {
                biased;
                instance = shelf.acquire() => Ok(instance),
                instance = self.empty(Stage::Live) => instance,
            },
        }
    }

    /// An instance without its agent yet. Waits for its slot.
    pub(crate) async fn empty(&self, stage: Stage) -> Result<Instance, Crash> {
        let slot = self.engine.acquire_slot(self.slots).await.map_err(|error| Crash::Host(error.to_string()))?;
        let state = HostState::new(&self.engine, &self.limits, &self.agent, stage);
        let mut store = Store::new(self.engine.wasmtime(), state);
        limits::arm(&mut store).map_err(|error| Crash::Host(error.to_string()))?;
        Ok(Instance { store, agent: None, prewarmed: None, _slot: slot })
    }

    /// The same outside of a job, where nobody else bounds the wait for room.
    pub(crate) async fn empty_within_init(&self) -> Result<Instance, Crash> {
        let limit = self.limits.init_timeout;
        let made = {
            let _timers = self.engine.timers().enter();
            tokio::time::timeout(limit, self.empty(Stage::Live))
        };
        made.await.unwrap_or_else(|_| Err(Crash::Host(format!("no room for an instance within {limit:?}"))))
    }
}

impl Instance {
    pub(crate) fn control(&self) -> Arc<Control> {
        self.store.data().control.clone()
    }

    /// Instantiate the agent, if that is not done. Runs its start functions.
    pub(crate) async fn instantiate(&mut self, template: &Template) -> Result<(), Crash> {
        if self.agent.is_none() {
            let control = self.control();
            self.agent = Some(call(&control, template.pre.instantiate_async(&mut self.store)).await?);
        }
        Ok(())
    }

    /// Run `prewarm` where its outcome is not in the snapshot, and has not been run in this instance.
    pub(crate) async fn prewarm(&mut self, template: &Template) -> Result<(), Crash> {
        if template.shelf.is_none() || self.prewarmed.is_some() {
            return Ok(());
        }
        let control = self.control();
        let agent = self.agent.as_ref().ok_or_else(|| Crash::Host("prewarm before the instance".into()))?;
        let returned = call(&control, agent.call_prewarm(&mut self.store)).await;
        control.log().finish();
        returned?.map_err(|error| Crash::InitFailed(format!("prewarm failed: {error}")))?;
        self.prewarmed = Some(self.cost_so_far(&template.limits)?);
        Ok(())
    }

    /// What has run in this instance so far took this much.
    pub(crate) fn cost_so_far(&self, limits: &Limits) -> Result<PrewarmCost, Crash> {
        let left = self.store.get_fuel().map_err(|error| Crash::Host(error.to_string()))?;
        Ok(PrewarmCost { fuel: fuel_used(limits, left), cpu_us: micros(self.control().clock.cpu()) })
    }

    /// Put what has run in it so far into the sums of the engine.
    pub(crate) fn settle(&mut self) {
        let left = self.store.get_fuel().unwrap_or(0);
        let state = self.store.data_mut();
        let used = fuel_used(state.meter.limits(), left);
        state.meter.spend(used, state.control.clock.cpu());
    }

    /// Give it its whole fuel again: what came before is not part of what comes next.
    pub(crate) fn refuel(&mut self) -> Result<(), Crash> {
        self.settle();
        self.store.data_mut().meter.refueled();
        limits::refuel(&mut self.store).map_err(|error| Crash::Host(error.to_string()))
    }

    /// Start its bill afresh, at the launch.
    pub(crate) fn reset_bill(&mut self) -> Result<(), Crash> {
        // What came before is in the sums, and its job began to count from zero.
        limits::refuel(&mut self.store).map_err(|error| Crash::Host(error.to_string()))?;
        let state = self.store.data_mut();
        state.meter.calls = HostCalls::default();
        state.control.clock.reset();
        state.control.log().reset_counts();
        Ok(())
    }
}
