//! Snapshots: `prewarm` runs once, and its memory becomes the data segments of a new component.
//!
//! `prewarm` runs under `init-timeout` and every limit of a job. Imports that give handles are refused, because a snapshot
//! keeps memory and globals only. Reading the memory afterwards runs no code of the guest, so the limits are lifted for it.
//!
//! Bound: the snapshot is at most the memory limit in size.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use wasm_worker_core::usage::PrewarmCost;
use wasmtime::component::{Instance as ComponentInstance, Lift, WasmList};
use wasmtime::{Store, Trap};
use wasmtime_wizer::{ComponentContext, ComponentInstanceState, Wizer};

use super::AgentError;
use super::toolchain::Toolchain;
use crate::engine::chain;
use crate::engine::mappings::{MAPPINGS_MIN, mappings_of};
use crate::guest::{HostState, Stage};
use crate::job::instance::{Instance, Template};
use crate::job::run::{Crash, call, panic_text};

/// A component with its prewarmed memory.
pub(super) struct Snapshot {
    /// The component.
    pub(super) bytes: Vec<u8>,
    /// What `prewarm` used.
    pub(super) cost: PrewarmCost,
    /// Memory mappings of each instance.
    pub(super) mappings: u32,
}

/// The result of an attempt to take a snapshot.
pub(super) enum Outcome {
    /// The snapshot was taken.
    Taken(Snapshot),
    /// There is no snapshot, so each job needs an instance that ran `prewarm`.
    Impossible {
        /// The reason.
        why: String,
        /// Whether each attempt ends like this.
        always: bool,
    },
}

impl Outcome {
    /// The component allows no snapshot.
    fn never(why: String) -> Self {
        Self::Impossible { why, always: true }
    }

    /// The host failed this time.
    fn not_now(why: String) -> Self {
        Self::Impossible { why, always: false }
    }
}

/// Run `prewarm` in a copy of the component with accessors to its memory, and make a component with that memory.
pub(super) async fn snapshot(tools: Toolchain<'_>, bytes: Arc<Vec<u8>>) -> Result<Outcome, AgentError> {
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let instrumented =
        block_in_place(|| std::panic::catch_unwind(AssertUnwindSafe(|| wizer.instrument_component(&bytes))));
    let (context, instrumented) = match instrumented {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Ok(Outcome::never(chain(&error))),
        Err(panic) => return Ok(Outcome::never(panicked(&*panic))),
    };
    let component = tools.compile(Arc::new(instrumented)).await?;
    tools.check_world(&component)?;
    let template = Arc::new(tools.template(&component, None)?);
    match tools.on_guest_runtime(async move { Ok(run(&template).await) }).await? {
        // Reading a large memory takes a while, and this runtime has the timers.
        Ok(warm) => Ok(block_in_place(|| Handle::current().block_on(take(&wizer, &context, warm)))),
        Err(Crash::NeedsHandle { import }) => {
            Ok(Outcome::never(format!("prewarm uses `{import}`, which gives handles that a snapshot cannot keep")))
        }
        Err(crash) => {
            let verdict = Box::new(crash.verdict());
            Err(AgentError::Init { agent: tools.name.into(), verdict })
        }
    }
}

/// An instance whose `prewarm` has run.
struct Warm {
    instance: Instance,
    component: ComponentInstance,
    cost: PrewarmCost,
}

/// Run `prewarm` in a new instance.
async fn run(template: &Template) -> Result<Warm, Crash> {
    let mut instance = template.empty(Stage::Snapshot).await?;
    let control = instance.control();
    let store = &mut instance.store;
    let prewarm = async {
        let component = call(&control, template.pre.instance_pre().instantiate_async(&mut *store)).await?;
        let prewarm = component
            .get_typed_func::<(), (Result<(), String>,)>(&mut *store, "prewarm")
            .map_err(|error| Crash::Host(error.to_string()))?;
        let (returned,) = call(&control, prewarm.call_async(&mut *store, ())).await?;
        returned.map_err(|error| Crash::InitFailed(format!("prewarm failed: {error}")))?;
        Ok(component)
    };
    let outcome = template.init_within(&control, prewarm).await;
    control.log().finish();
    let component = outcome?;
    let cost = instance.cost_so_far(&template.limits)?;
    Ok(Warm { instance, component, cost })
}

/// Read the memory. No code of the guest runs here, so the limits are lifted.
async fn take(wizer: &Wizer, context: &ComponentContext<'_>, warm: Warm) -> Outcome {
    let Warm { mut instance, component, cost } = warm;
    instance.store.set_hostcall_fuel(usize::MAX);
    instance.store.data_mut().meter.lift_memory_limit();
    if let Err(error) = instance.store.set_fuel(u64::MAX) {
        return Outcome::not_now(chain(&error));
    }
    let mut reader = Reader { store: &mut instance.store, component, mappings: MAPPINGS_MIN, failed: None };
    let taken = AssertUnwindSafe(wizer.snapshot_component(context, &mut reader)).catch_unwind().await;
    let Reader { failed, mappings, .. } = reader;
    match (failed, taken) {
        // The accessors need one more page of memory, which some memories do not allow.
        (Some(error), _) if error.is::<Trap>() => {
            Outcome::never(format!("its memory cannot be read: {}", chain(&error)))
        }
        (Some(error), _) | (None, Ok(Err(error))) => Outcome::not_now(chain(&error)),
        (None, Err(panic)) => Outcome::not_now(panicked(&*panic)),
        (None, Ok(Ok(bytes))) => Outcome::Taken(Snapshot { bytes, cost, mappings }),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    format!("the snapshot tool panicked: {}", panic_text(panic))
}

/// Reads the memory through the accessors that the instrumentation added.
struct Reader<'a> {
    store: &'a mut Store<HostState>,
    component: ComponentInstance,
    /// Mappings for the memories that were read so far.
    mappings: u32,
    /// The first failure, which the trait cannot return.
    failed: Option<wasmtime::Error>,
}

impl Reader<'_> {
    async fn read<R: Lift + Send + Sync + 'static>(&mut self, instance: &str, function: &str) -> Option<R> {
        let read = self.try_read(instance, function).await;
        read.map_err(|error| self.failed.get_or_insert(error)).ok()
    }

    async fn try_read<R: Lift + Send + Sync + 'static>(
        &mut self,
        instance: &str,
        function: &str,
    ) -> wasmtime::Result<R> {
        let missing = || wasmtime::Error::msg(format!("no accessor `{instance}#{function}`"));
        let (_, parent) = self.component.get_export(&mut *self.store, None, instance).ok_or_else(missing)?;
        let (_, export) = self.component.get_export(&mut *self.store, Some(&parent), function).ok_or_else(missing)?;
        let accessor = self.component.get_typed_func::<(), (R,)>(&mut *self.store, export)?;
        let (value,) = accessor.call_async(&mut *self.store, ()).await?;
        Ok(value)
    }
}

impl ComponentInstanceState for Reader<'_> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        match self.read::<WasmList<u8>>(instance, func).await {
            Some(list) => {
                let memory = list.as_le_slice(&*self.store);
                self.mappings = self.mappings.max(mappings_of(memory));
                contents(memory);
            }
            None => contents(&[]),
        }
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.read(instance, func).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.read(instance, func).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.read::<f32>(instance, func).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.read::<f64>(instance, func).await.unwrap_or_default().to_bits()
    }
}
