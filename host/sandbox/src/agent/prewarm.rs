//! Snapshots: `prewarm` runs once, and its memory becomes the data segments of a new component.
//!
//! `prewarm` runs under `init-timeout` and every limit of a job. Imports that give handles are refused, because a snapshot
//! keeps memory and globals only. Reading the memory afterwards runs no code of the guest, so the limits are lifted for it.
//!
//! Bound: the snapshot is at most the memory limit in size.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::block_in_place;
use wasm_worker_core::usage::PrewarmCost;
use wasmtime::component::{Instance as ComponentInstance, Lift, WasmList};
use wasmtime::{Store, Trap};

use super::AgentError;
use super::compile::{CompileError, Compiled};
use super::instrument::{Conversation, Said};
use super::tasks::Question;
use super::toolchain::Toolchain;
use crate::engine::chain;
use crate::engine::mappings::{MAPPINGS_MIN, mappings_of};
use crate::guest::{HostState, Stage};
use crate::job::instance::{Instance, Template};
use crate::job::run::{Crash, call};

/// A component with its prewarmed memory.
pub(super) struct Snapshot {
    /// Its machine code.
    pub(super) compiled: Compiled,
    /// Size of the component, in bytes.
    pub(super) bytes: usize,
    /// What `prewarm` used.
    pub(super) cost: PrewarmCost,
    /// Memory mappings of each instance.
    pub(super) mappings: u32,
    /// Whether `prewarm` or the start drew random numbers, which the snapshot keeps.
    pub(super) asked_random: bool,
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

/// Run `prewarm` in a copy of the component with accessors to its memory, and compile a component with that memory.
pub(super) async fn snapshot(tools: Toolchain<'_>, bytes: Arc<Vec<u8>>) -> Result<Outcome, AgentError> {
    let begun = Conversation::begin(tools.compiler, tools.engine, tools.settings, &bytes).await;
    let (mut conversation, code) = match begun {
        Ok(begun) => begun,
        Err(CompileError::Invalid(why)) => return Ok(Outcome::never(why)),
        // The compiler would exceed the same bound.
        Err(error @ (CompileError::Slow { .. } | CompileError::OutOfMemory { .. } | CompileError::Killed { .. })) => {
            return Err(tools.compile_error(error));
        }
        Err(error) => return Ok(Outcome::not_now(error.to_string())),
    };
    let compiled = tools.load(code).await?;
    let template = Arc::new(tools.template(&compiled.component, compiled.instance_bytes, None)?);
    let warm = match tools.on_guest_runtime(async move { Ok(run(&template).await) }).await? {
        Ok(warm) => warm,
        Err(Crash::NeedsHandle { import }) => {
            return Ok(Outcome::never(format!(
                "prewarm uses `{import}`, which gives handles that a snapshot cannot keep"
            )));
        }
        Err(crash) => return Err(tools.init_error(crash)),
    };
    let (cost, asked_random) = (warm.cost, warm.asked_random);
    // Reading a large memory takes a while, and this runtime has the timers.
    let taken = block_in_place(|| Handle::current().block_on(take(&mut conversation, tools, warm)));
    match taken {
        Ok(Memory { bytes, mappings }) => {
            let code = conversation.code().await.map_err(|error| tools.compile_error(error))?;
            let compiled = tools.load(code).await?;
            Ok(Outcome::Taken(Snapshot { compiled, bytes, cost, mappings, asked_random }))
        }
        Err(Untaken::Guest(outcome)) => Ok(outcome),
        Err(Untaken::Tool(error)) => Ok(Outcome::not_now(conversation.failure(error).await.to_string())),
    }
}

/// An instance whose `prewarm` has run.
struct Warm {
    instance: Instance,
    component: ComponentInstance,
    cost: PrewarmCost,
    asked_random: bool,
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
    let asked_random = instance.store.data().asked_random;
    Ok(Warm { instance, component, cost, asked_random })
}

/// A memory that was read.
struct Memory {
    /// Size of the component with this memory, in bytes.
    bytes: usize,
    /// Memory mappings of each instance.
    mappings: u32,
}

/// Why there is no snapshot.
enum Untaken {
    Guest(Outcome),
    /// The tool that makes the snapshot is gone.
    Tool(io::Error),
}

/// Answer the questions about the instance, which read its memory. No code of the guest runs here, so the limits are lifted.
async fn take(conversation: &mut Conversation, tools: Toolchain<'_>, warm: Warm) -> Result<Memory, Untaken> {
    let Warm { mut instance, component, .. } = warm;
    instance.store.set_hostcall_fuel(usize::MAX);
    instance.store.data_mut().meter.lift_memory_limit();
    if let Err(error) = instance.store.set_fuel(u64::MAX) {
        return Err(Untaken::Guest(Outcome::not_now(chain(&error))));
    }
    let mut reader = Reader { store: &mut instance.store, component, mappings: MAPPINGS_MIN };
    let limit = tools.settings.compile.timeout;
    let taken = tokio::time::timeout(limit, reader.answer_all(conversation)).await;
    let mappings = reader.mappings;
    match taken {
        Ok(Ok(bytes)) => Ok(Memory { bytes, mappings }),
        // The accessors need one more page of memory, which some memories do not allow.
        Ok(Err(Unread::Guest(error))) if error.is::<Trap>() => {
            Err(Untaken::Guest(Outcome::never(format!("its memory cannot be read: {}", chain(&error)))))
        }
        Ok(Err(Unread::Guest(error))) => Err(Untaken::Guest(Outcome::not_now(chain(&error)))),
        Ok(Err(Unread::Tool(error))) => Err(Untaken::Tool(error)),
        Err(_) => {
            let why = format!("the snapshot took longer than `compile-timeout` ({limit:?})");
            Err(Untaken::Guest(Outcome::not_now(why)))
        }
    }
}

/// Why the memory was not read.
enum Unread {
    /// An accessor failed.
    Guest(wasmtime::Error),
    /// The tool that makes the snapshot is gone.
    Tool(io::Error),
}

/// Reads the memory through the accessors that the instrumentation added.
struct Reader<'a> {
    store: &'a mut Store<HostState>,
    component: ComponentInstance,
    /// Mappings for the memories that were read so far.
    mappings: u32,
}

impl Reader<'_> {
    /// Answer all questions, and return the size of the snapshot.
    async fn answer_all(&mut self, conversation: &mut Conversation) -> Result<usize, Unread> {
        loop {
            match conversation.listen().await.map_err(Unread::Tool)? {
                Said::Made { bytes } => return Ok(bytes),
                Said::Question(question, instance, function) => {
                    self.answer(conversation, question, &instance, &function).await?;
                }
            }
        }
    }

    async fn answer(
        &mut self,
        conversation: &mut Conversation,
        question: Question,
        instance: &str,
        function: &str,
    ) -> Result<(), Unread> {
        let said = match question {
            Question::List => {
                let list = self.read::<WasmList<u8>>(instance, function).await?;
                let memory = list.as_le_slice(&*self.store);
                self.mappings = self.mappings.max(mappings_of(memory));
                conversation.answer(memory).await
            }
            Question::I32 => {
                let value = self.read::<i32>(instance, function).await?;
                conversation.answer(&value.to_le_bytes()).await
            }
            Question::I64 => {
                let value = self.read::<i64>(instance, function).await?;
                conversation.answer(&value.to_le_bytes()).await
            }
            Question::F32 => {
                let value = self.read::<f32>(instance, function).await?;
                conversation.answer(&value.to_bits().to_le_bytes()).await
            }
            Question::F64 => {
                let value = self.read::<f64>(instance, function).await?;
                conversation.answer(&value.to_bits().to_le_bytes()).await
            }
        };
        said.map_err(Unread::Tool)
    }

    async fn read<R: Lift + Send + Sync + 'static>(&mut self, instance: &str, function: &str) -> Result<R, Unread> {
        self.try_read(instance, function).await.map_err(Unread::Guest)
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
