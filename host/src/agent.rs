//! One loaded agent: from a component's bytes to the template that its jobs are made from.
//!
//! An agent that loads has been instantiated once, so a job that is admitted can be run.

pub mod artifact;
pub mod cargo;
mod pool;
mod prewarm;
pub mod source;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime::component::Component;

use crate::config::{Config, PrewarmMode};
use crate::engine::Engine;
use crate::events::{Event, Events};
use crate::hostcalls::bindings::AgentPre;
use crate::hostcalls::control::{Control, StopBy};
use crate::hostcalls::{self, Stage, WASI_ALLOWED};
use crate::job::admission::{Offer, Refusal, admit, init_within, verdict_outside_a_job};
use crate::job::instance::{Shelf, Template};
use crate::job::run::Crash;
use crate::job::supervisor::supervise;
use crate::job::teardown::Closed;
use crate::job::verdict::Verdict;
use artifact::Cache;
use pool::Refill;
use source::Source;

/// What an agent must export.
const EXPORTS: [&str; 4] = ["prewarm", "decide", "entrypoint", "shutdown"];
/// Package of the contract; an agent may import every interface of it.
const CONTRACT: &str = "wasm-worker:agent/";
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// How jobs get their prewarmed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrewarmKind {
    /// From a snapshot of its memory.
    Snapshot,
    /// From instances that ran `prewarm`, one for each job.
    Pool,
}

impl PrewarmKind {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Pool => "pool",
        }
    }
}

/// What is known about a loaded agent; kept in the cache beside its code.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Facts {
    /// Interfaces that the component imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Size of the component as it was given, in bytes.
    pub component_bytes: usize,
    /// Size of the component with its prewarmed memory, in bytes; 0 without a snapshot.
    pub snapshot_bytes: usize,
    /// Size of the machine code, in bytes.
    pub compiled_bytes: usize,
    /// Linear memory that each job starts with, in bytes.
    pub memory_start_bytes: u64,
    /// How jobs get prewarmed state.
    pub prewarm: PrewarmKind,
    /// Why it is not a snapshot.
    pub prewarm_why: Option<String>,
    /// Fuel that `prewarm` took.
    pub prewarm_fuel: u64,
    /// CPU time that `prewarm` took, in microseconds.
    pub prewarm_cpu_us: u64,
}

/// An agent cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Not a component at all.
    #[error("agent `{agent}` is not a WebAssembly component: {why}")]
    NotComponent {
        /// Its name.
        agent: String,
        /// What it is instead.
        why: String,
    },
    /// A component that the engine does not take.
    #[error("agent `{agent}` is not a component that can run here: {why}")]
    Invalid {
        /// Its name.
        agent: String,
        /// What the engine says.
        why: String,
    },
    /// It wants what agents may not have.
    #[error("agent `{agent}` imports what agents may not have: {}", imports.join(", "))]
    Imports {
        /// Its name.
        agent: String,
        /// All of them.
        imports: Vec<String>,
    },
    /// It is not of our world.
    #[error("agent `{agent}` does not implement `wasm-worker:agent`: {why}")]
    World {
        /// Its name.
        agent: String,
        /// What is missing or different.
        why: String,
    },
    /// One instance of it takes more than the engine has.
    #[error("agent `{agent}` has more memories or tables than one job may have")]
    TooManyMemories {
        /// Its name.
        agent: String,
    },
    /// It cannot be prewarmed, or no instance can be made of it.
    #[error("agent `{agent}` cannot take jobs: {}: {}", verdict.code, verdict.detail)]
    Init {
        /// Its name.
        agent: String,
        /// As a job's would be.
        verdict: Box<Verdict>,
    },
    /// A failure of ours.
    #[error("agent `{agent}` could not be loaded: {why}")]
    Host {
        /// Its name.
        agent: String,
        /// What failed.
        why: String,
    },
}

impl AgentError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotComponent { .. } => Some(
                "`wasm-worker build DIR` makes a component of a crate; `wasm-worker new NAME` makes such a crate"
                    .into(),
            ),
            Self::World { .. } => Some(
                "an agent exports `prewarm`, `decide`, `entrypoint` and `shutdown`; the SDK's `agent!` macro does that"
                    .into(),
            ),
            Self::Imports { .. } => {
                Some("agents have no files, sockets or processes; see guest-sdk/wit for what they have".into())
            }
            Self::Init { verdict, .. } => Some(verdict.code.advice().into()),
            Self::Invalid { .. } | Self::TooManyMemories { .. } | Self::Host { .. } => None,
        }
    }
}

/// An agent that can take jobs.
pub struct Agent {
    facts: Facts,
    template: Arc<Template>,
    /// Fills the shelf, where there is one; ends with the agent.
    _refill: Option<Refill>,
}

/// A job that runs.
pub struct Running {
    control: Arc<Control>,
    closed: oneshot::Receiver<Closed>,
}

impl Running {
    /// A handle to stop it with, beside waiting for it.
    pub fn handle(&self) -> JobHandle {
        JobHandle(self.control.clone())
    }

    /// Wait for its end. `None` when the runtime of the guests is gone.
    pub async fn closed(self) -> Option<Closed> {
        self.closed.await.ok()
    }
}

/// Stops one job.
#[derive(Clone)]
pub struct JobHandle(Arc<Control>);

impl JobHandle {
    /// Ask it to stop, within its grace.
    pub fn stop(&self, by: StopBy, reason: &str) {
        self.0.ask_to_stop(by, reason);
    }

    /// End it now.
    pub fn kill(&self) {
        self.0.kill_by_operator();
    }
}

impl Agent {
    /// Load a component: from the cache, or by checking, prewarming and compiling it.
    ///
    /// # Errors
    /// When it is not an agent, may not have what it imports, or cannot be prewarmed.
    pub async fn load(
        engine: &Engine,
        source: Source,
        config: &Config,
        cache: Option<&Cache>,
        events: &Events,
    ) -> Result<Self, AgentError> {
        let began = Instant::now();
        let name = source.name.clone();
        let loaded = Loader { engine, name: &name, config, cache }.load(source).await;
        match loaded {
            Ok((agent, cached)) => {
                events.publish(&Event::AgentLoaded {
                    agent: name,
                    prewarm: agent.facts.prewarm.as_str(),
                    cached,
                    took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                });
                Ok(agent)
            }
            Err(error) => {
                events.publish(&Event::AgentFailed { agent: name, error: error.to_string() });
                Err(error)
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.template.agent
    }

    /// What is known about it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Offer a job to the agent; when it accepts, the job runs, whether or not anybody waits for it.
    ///
    /// # Errors
    /// When the agent refuses, or cannot decide.
    pub async fn offer(&self, offer: Offer, events: &Arc<Events>) -> Result<Running, Refusal> {
        let (agent, job) = (self.name().to_owned(), offer.info.id.clone());
        let (admitted, answer) = oneshot::channel();
        let (closed, end) = oneshot::channel();
        let (template, for_job) = (self.template.clone(), events.clone());
        self.template.engine.guests().spawn(async move {
            match admit(template, offer).await {
                Err(refusal) => drop(admitted.send(Err(refusal))),
                // Whoever offered it may have given up meanwhile; then nobody runs a job that was counted as refused.
                Ok(job) if admitted.send(Ok(job.instance.control())).is_err() => drop(job),
                Ok(job) => drop(closed.send(supervise(job, for_job).await)),
            }
        });
        let lost = || Refusal::of(Crash::Host("the task that ran the offer ended".into()));
        match answer.await.unwrap_or_else(|_| Err(lost())) {
            Ok(control) => Ok(Running { control, closed: end }),
            Err(refusal) => {
                let Refusal { reason, detail, terminate, .. } = refusal.clone();
                events.publish(&Event::OfferRefused { agent, job, reason, detail, terminate });
                Err(refusal)
            }
        }
    }
}

/// The steps of loading one agent.
struct Loader<'a> {
    engine: &'a Engine,
    name: &'a str,
    config: &'a Config,
    cache: Option<&'a Cache>,
}

/// A component that is ready for its template.
struct Ready {
    component: Component,
    facts: Facts,
    /// Whether the same would come out of it another time, so that it is worth caching.
    keep: bool,
}

impl Loader<'_> {
    async fn load(&self, source: Source) -> Result<(Agent, bool), AgentError> {
        self.check_header(&source.bytes)?;
        let key = artifact::key(self.engine, &source.bytes, self.config.prewarm);
        let found = self.cache.and_then(|cache| cache.load(self.engine, &key));
        let cached = found.is_some();
        let ready = match found {
            Some((facts, component)) => Ready { component, facts, keep: false },
            None => self.make(source.bytes).await?,
        };
        let keep = ready.keep;
        let agent = self.assemble(ready).await?;
        if let Some(cache) = self.cache.filter(|_| keep) {
            cache.store(&key, &agent.facts, agent.template.pre.instance_pre().component());
        }
        Ok((agent, cached))
    }

    /// Check, prewarm and compile.
    async fn make(&self, bytes: Vec<u8>) -> Result<Ready, AgentError> {
        let mut facts = Facts {
            imports: Vec::new(),
            exports: Vec::new(),
            component_bytes: bytes.len(),
            snapshot_bytes: 0,
            compiled_bytes: 0,
            memory_start_bytes: 0,
            prewarm: PrewarmKind::Pool,
            prewarm_why: None,
            prewarm_fuel: 0,
            prewarm_cpu_us: 0,
        };
        let bytes = Arc::new(bytes);
        let mut keep = true;
        match self.config.prewarm {
            PrewarmMode::Pool => facts.prewarm_why = Some("the setting `prewarm` is `pool`".into()),
            PrewarmMode::Snapshot => match prewarm::snapshot(self, bytes.clone()).await? {
                prewarm::Outcome::Taken(snapshot) => {
                    facts.prewarm = PrewarmKind::Snapshot;
                    facts.snapshot_bytes = snapshot.bytes.len();
                    facts.prewarm_fuel = snapshot.cost.fuel;
                    facts.prewarm_cpu_us = snapshot.cost.cpu_us;
                    let component = self.compile(Arc::new(snapshot.bytes)).await?;
                    return Ok(self.describe(component, facts, keep));
                }
                prewarm::Outcome::Impossible { why, always } => {
                    tracing::warn!(target: "host", agent = self.name, why, "no snapshot, each job runs prewarm");
                    facts.prewarm_why = Some(why);
                    keep = always;
                }
            },
        }
        let component = self.compile(bytes).await?;
        self.check_world(&component)?;
        Ok(self.describe(component, facts, keep))
    }

    fn describe(&self, component: Component, mut facts: Facts, keep: bool) -> Ready {
        let engine = self.engine.wasmtime();
        let ty = component.component_type();
        facts.imports = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
        facts.exports = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let range = component.image_range();
        facts.compiled_bytes = (range.end as usize).saturating_sub(range.start as usize);
        let needs = component.resources_required();
        let pages = needs.and_then(|needs| needs.max_initial_memory_size).unwrap_or(0);
        facts.memory_start_bytes = pages * WASM_PAGE_BYTES;
        Ready { component, facts, keep }
    }

    /// Make the template, and one instance to prove that it works.
    async fn assemble(&self, ready: Ready) -> Result<Agent, AgentError> {
        let Ready { component, mut facts, .. } = ready;
        let shelf = match facts.prewarm {
            PrewarmKind::Snapshot => None,
            PrewarmKind::Pool => Some(Shelf::new(self.config.idle)),
        };
        let template = Arc::new(self.template(&component, shelf)?);
        let proof = template.clone();
        let proven = self.on_guest_runtime(async move {
            let mut instance = proof.empty(Stage::Live).await?;
            let control = instance.control();
            let make = async {
                instance.instantiate(&proof).await?;
                instance.prewarm(&proof).await
            };
            init_within(&control, &proof, make).await?;
            let cost = instance.prewarmed;
            if let Some(shelf) = proof.shelf.as_ref().filter(|shelf| shelf.target > 0) {
                shelf.put(instance);
            }
            Ok(cost)
        });
        if let Some(cost) = proven.await? {
            (facts.prewarm_fuel, facts.prewarm_cpu_us) = (cost.fuel, cost.cpu_us);
        }
        let refill = template.shelf.is_some().then(|| Refill::start(&template));
        Ok(Agent { facts, template, _refill: refill })
    }

    fn template(&self, component: &Component, shelf: Option<Shelf>) -> Result<Template, AgentError> {
        let slots =
            self.engine.slots_for(component).ok_or_else(|| AgentError::TooManyMemories { agent: self.name.into() })?;
        let linker = hostcalls::linker(self.engine).map_err(|error| self.host_error(&error))?;
        let pre = linker.instantiate_pre(component).map_err(|error| self.world_error(&error))?;
        Ok(Template {
            engine: self.engine.clone(),
            agent: self.name.into(),
            pre: AgentPre::new(pre).map_err(|error| self.world_error(&error))?,
            limits: Arc::new(self.config.limits.clone()),
            slots,
            shelf,
        })
    }

    fn check_header(&self, bytes: &[u8]) -> Result<(), AgentError> {
        const MAGIC: &[u8] = b"\0asm";
        const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
        let why = match (bytes.get(..4), bytes.get(4..8)) {
            (Some(MAGIC), Some(CORE_MODULE)) => "it is a core module; want a component",
            (Some(MAGIC), Some(_)) => return Ok(()),
            (Some(MAGIC), None) => "it ends within its first 8 bytes",
            _ => "it does not begin with `\\0asm`",
        };
        Err(AgentError::NotComponent { agent: self.name.into(), why: why.into() })
    }

    /// Every import and every export, all faults at once.
    fn check_world(&self, component: &Component) -> Result<(), AgentError> {
        let engine = self.engine.wasmtime();
        let ty = component.component_type();
        let imports: Vec<String> =
            ty.imports(engine).map(|(name, _)| name.to_owned()).filter(|name| !allowed(name)).collect();
        if !imports.is_empty() {
            return Err(AgentError::Imports { agent: self.name.into(), imports });
        }
        let missing: Vec<String> = EXPORTS
            .iter()
            .filter(|export| !ty.exports(engine).any(|(name, _)| name == **export))
            .map(|export| format!("`{export}`"))
            .collect();
        if !missing.is_empty() {
            let why = format!("it exports no {}", missing.join(", no "));
            return Err(AgentError::World { agent: self.name.into(), why });
        }
        Ok(())
    }

    /// Compile on a thread where nothing else waits.
    async fn compile(&self, bytes: Arc<Vec<u8>>) -> Result<Component, AgentError> {
        let engine = self.engine.wasmtime().clone();
        let compiled = tokio::task::spawn_blocking(move || Component::from_binary(&engine, &bytes)).await;
        compiled
            .map_err(|panic| self.host_error(&wasmtime::Error::msg(panic.to_string())))?
            .map_err(|error| AgentError::Invalid { agent: self.name.into(), why: chain(&error) })
    }

    /// Run a guest where guests run.
    async fn on_guest_runtime<T: Send + 'static>(
        &self,
        guest: impl Future<Output = Result<T, Crash>> + Send + 'static,
    ) -> Result<T, AgentError> {
        let joined = self.engine.guests().spawn(guest).await;
        joined.map_err(|panic| self.host_error(&wasmtime::Error::msg(panic.to_string())))?.map_err(|crash| {
            AgentError::Init { agent: self.name.into(), verdict: Box::new(verdict_outside_a_job(crash)) }
        })
    }

    fn host_error(&self, error: &wasmtime::Error) -> AgentError {
        AgentError::Host { agent: self.name.into(), why: chain(error) }
    }

    fn world_error(&self, error: &wasmtime::Error) -> AgentError {
        AgentError::World { agent: self.name.into(), why: chain(error) }
    }
}

/// Whether an agent may import this interface; the patch version does not matter.
fn allowed(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    interface.starts_with(CONTRACT) || (WASI_ALLOWED.contains(&interface) && version.starts_with("0.2."))
}

/// An error with its causes, in one line.
fn chain(error: &wasmtime::Error) -> String {
    let parts: Vec<String> = error.chain().map(ToString::to_string).collect();
    parts.join(": ").replace('\n', " ")
}
