//! From a component's bytes to an agent: check, prewarm, compile, and prove it with one instance.

use std::sync::Arc;

use tokio::task::block_in_place;
use wasmparser::{ElementItems, ElementKind, Parser, Payload};
use wasmtime::component::Component;

use super::artifact::{self, Cache};
use super::compile::{CompileError, Compiler};
use super::pool::Refill;
use super::prewarm;
use super::source::Source;
use super::{Agent, AgentError, Facts, PrewarmKind};
use crate::engine::{Engine, MAPPINGS_MOST};
use crate::hostcalls::bindings::AgentPre;
use crate::hostcalls::{self, WASI_ALLOWED};
use crate::job::admission::init_within;
use crate::job::instance::{Shelf, Template};
use crate::job::run::Crash;
use crate::settings::{AgentSettings, PrewarmMode};

/// What an agent must export.
const EXPORTS: [&str; 4] = ["prewarm", "decide", "entrypoint", "shutdown"];
/// Package of the contract; an agent may import every interface of it.
const CONTRACT: &str = "wasm-worker:agent/";
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// No toolchain makes passive segments of elements. A component may have 64 core instances, and each element takes 16 bytes of each.
pub(super) const PASSIVE_ELEMENTS_MAX: usize = 20_000;

/// The steps of loading one agent.
pub(super) struct Loader<'a> {
    pub(super) engine: &'a Engine,
    pub(super) name: &'a str,
    pub(super) settings: &'a AgentSettings,
    pub(super) cache: Option<&'a Cache>,
    pub(super) compiler: Option<&'a Compiler>,
}

/// A component that is ready for its template.
struct Ready {
    component: Component,
    facts: Facts,
    /// Whether the same would come out of it another time, so that it is worth caching.
    keep: bool,
}

impl Loader<'_> {
    pub(super) async fn load(&self, source: Source) -> Result<(Agent, bool), AgentError> {
        self.check_header(&source.bytes)?;
        // A large agent takes a while, and timers are on this runtime.
        let (key, found) = block_in_place(|| {
            let key = artifact::key(self.engine, &source.bytes, self.settings.prewarm);
            let found = self.cache.and_then(|cache| cache.load(self.engine, &key));
            (key, found)
        });
        let cached = found.is_some();
        let ready = match found {
            Some((facts, component)) => Ready { component, facts, keep: false },
            None => {
                self.check_elements(&source.bytes)?;
                self.make(source.bytes).await?
            }
        };
        let keep = ready.keep;
        let agent = self.assemble(ready).await?;
        if let Some(cache) = self.cache.filter(|_| keep) {
            block_in_place(|| cache.store(&key, &agent.facts, agent.template.pre.instance_pre().component()));
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
            memory_mappings: MAPPINGS_MOST,
            prewarm: PrewarmKind::Pool,
            prewarm_why: None,
            prewarm_fuel: 0,
            prewarm_cpu_us: 0,
        };
        let bytes = Arc::new(bytes);
        let mut keep = true;
        match self.settings.prewarm {
            PrewarmMode::Pool => facts.prewarm_why = Some("the setting `prewarm` is `pool`".into()),
            PrewarmMode::Snapshot => match prewarm::snapshot(self, bytes.clone()).await? {
                prewarm::Outcome::Taken(snapshot) => {
                    facts.prewarm = PrewarmKind::Snapshot;
                    facts.snapshot_bytes = snapshot.bytes.len();
                    facts.prewarm_fuel = snapshot.cost.fuel;
                    facts.prewarm_cpu_us = snapshot.cost.cpu_us;
                    facts.memory_mappings = snapshot.mappings;
                    let component = self.compile(Arc::new(snapshot.bytes)).await?;
                    return Ok(self.describe(component, facts, keep));
                }
                prewarm::Outcome::Impossible { why, always } => {
                    facts.prewarm_why = Some(why);
                    keep = always;
                }
            },
        }
        let component = self.compile(bytes).await?;
        self.check_world(&component)?;
        // Not before: what cannot run at all has no prewarm to speak of.
        if let (PrewarmMode::Snapshot, Some(why)) = (self.settings.prewarm, &facts.prewarm_why) {
            tracing::warn!(target: "host", agent = self.name, why, "no snapshot, each job runs prewarm");
        }
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
        let fits = self.engine.check_mappings(facts.memory_mappings);
        fits.map_err(|source| AgentError::Mappings { agent: self.name.into(), source })?;
        let shelf = match facts.prewarm {
            PrewarmKind::Snapshot => None,
            PrewarmKind::Pool => Some(Shelf::new(self.settings.idle)),
        };
        let template = Arc::new(self.template(&component, shelf)?);
        let proof = template.clone();
        let proven = self.on_guest_runtime(async move {
            let mut instance = proof.empty_within_init().await?;
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

    pub(super) fn template(&self, component: &Component, shelf: Option<Shelf>) -> Result<Template, AgentError> {
        let slots =
            self.engine.slots_for(component).ok_or_else(|| AgentError::TooManyMemories { agent: self.name.into() })?;
        let linker = hostcalls::linker(self.engine).map_err(|error| self.host_error(&error))?;
        let pre = linker.instantiate_pre(component).map_err(|error| self.world_error(&error))?;
        Ok(Template {
            engine: self.engine.clone(),
            agent: self.name.into(),
            pre: AgentPre::new(pre).map_err(|error| self.world_error(&error))?,
            limits: Arc::new(self.settings.limits.clone()),
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

    /// Each instance has its own copy of what passive segments hold, in memory that no limiter is asked about.
    fn check_elements(&self, bytes: &[u8]) -> Result<(), AgentError> {
        match passive_elements(bytes) {
            count if count > PASSIVE_ELEMENTS_MAX => Err(AgentError::Elements { agent: self.name.into(), count }),
            _ => Ok(()),
        }
    }

    /// Every import and every export, all faults at once.
    pub(super) fn check_world(&self, component: &Component) -> Result<(), AgentError> {
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

    /// Compile in another process, or on a thread where nothing else waits.
    pub(super) async fn compile(&self, bytes: Arc<Vec<u8>>) -> Result<Component, AgentError> {
        if let Some(compiler) = self.compiler {
            let compiled = compiler.compile(self.engine, self.settings, bytes).await;
            return compiled.map_err(|error| self.compile_error(error));
        }
        let engine = self.engine.wasmtime().clone();
        let compiled = tokio::task::spawn_blocking(move || Component::from_binary(&engine, &bytes)).await;
        compiled
            .map_err(|panic| self.host_error(&wasmtime::Error::msg(panic.to_string())))?
            .map_err(|error| AgentError::Invalid { agent: self.name.into(), why: chain(&error) })
    }

    /// Run a guest where guests run.
    pub(super) async fn on_guest_runtime<T: Send + 'static>(
        &self,
        guest: impl Future<Output = Result<T, Crash>> + Send + 'static,
    ) -> Result<T, AgentError> {
        let joined = self.engine.guests().spawn(guest).await;
        joined
            .map_err(|panic| self.host_error(&wasmtime::Error::msg(panic.to_string())))?
            .map_err(|crash| AgentError::Init { agent: self.name.into(), verdict: Box::new(crash.verdict()) })
    }

    fn compile_error(&self, error: CompileError) -> AgentError {
        let (agent, why) = (self.name.into(), error.to_string());
        match error {
            CompileError::Invalid(why) => AgentError::Invalid { agent, why },
            CompileError::Slow { .. } | CompileError::Killed { .. } => AgentError::TooMuch { agent, why },
            CompileError::Host(_) => AgentError::Host { agent, why },
        }
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
pub(super) fn chain(error: &wasmtime::Error) -> String {
    let parts: Vec<String> = error.chain().map(ToString::to_string).collect();
    parts.join(": ").replace('\n', " ")
}

/// Elements of all passive segments of a component's modules. What cannot be read is refused elsewhere.
fn passive_elements(bytes: &[u8]) -> usize {
    let payloads = Parser::new(0).parse_all(bytes).map_while(Result::ok);
    let segments = payloads.filter_map(|payload| match payload {
        Payload::ElementSection(section) => Some(section.into_iter().map_while(Result::ok)),
        _ => None,
    });
    let passive = segments.flatten().filter(|segment| matches!(segment.kind, ElementKind::Passive));
    let counts = passive.map(|segment| match segment.items {
        ElementItems::Functions(functions) => functions.count() as usize,
        ElementItems::Expressions(_, expressions) => expressions.count() as usize,
    });
    counts.fold(0, usize::saturating_add)
}
