//! The loading of an agent: check its bytes, prewarm, compile, and create one instance as a proof.

use std::sync::Arc;

use tokio::task::block_in_place;
use wasm_worker_core::manifest::Manifest;
use wasmtime::component::Component;

use super::artifact::{self, Cache, Key};
use super::compile::Compiled;
use super::facts::{Facts, PrewarmKind, RANDOM_IN_PREWARM};
use super::manifest;
use super::prewarm;
use super::refill::Refill;
use super::source::{Format, Source};
use super::toolchain::Toolchain;
use super::{Agent, AgentError};
use crate::engine::mappings::{MAPPINGS_MAX, MAPPINGS_PER_MEMORY_MAX};
use crate::job::granted::Granted;
use crate::job::instance::{Template, WarmInstances};
use crate::recording::recorder::Recordings;
use crate::settings::PrewarmMode;

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// The loading of one agent.
pub(super) struct Loader<'a> {
    /// The steps that need no cache.
    pub(super) tools: Toolchain<'a>,
    /// Where compiled agents are kept.
    pub(super) cache: Option<&'a Cache>,
}

/// A component that is ready for its template.
struct Ready {
    compiled: Compiled,
    facts: Facts,
    /// Whether another load would give the same result, so that the result can be cached.
    cacheable: bool,
}

impl Ready {
    /// A component that the cache had.
    fn cached((facts, component): (Facts, Component)) -> Self {
        let compiled = Compiled { component, instance_bytes: facts.instance_bytes };
        Self { compiled, facts, cacheable: false }
    }
}

impl Loader<'_> {
    /// Load the agent from the cache or from its bytes.
    pub(super) async fn load(&self, source: Source) -> Result<Agent, AgentError> {
        if source.format == Format::Binary {
            self.check_header(&source.bytes)?;
        }
        // A large agent takes a while, and this runtime has the timers.
        let (key, found) = block_in_place(|| {
            let key = artifact::key(self.tools.engine, &source.bytes, self.tools.settings.prewarm);
            let found = self.cache.and_then(|cache| cache.load(self.tools.engine, &key));
            (key, found)
        });
        let recordings = Recordings::start(self.tools.settings, self.tools.name, key.hash(), &source.bytes);
        let from_cache = found.is_some();
        let ready = match found {
            Some(found) => Ready::cached(found),
            None => {
                let bytes = match source.format {
                    Format::Binary => source.bytes,
                    Format::Text => self.tools.parse(source.bytes).await?,
                };
                self.check_header(&bytes)?;
                self.make(bytes).await?
            }
        };
        let cacheable = ready.cacheable;
        let agent = Agent { from_cache, ..self.assemble(ready, recordings).await? };
        if let Some(cache) = self.cache.filter(|_| cacheable) {
            block_in_place(|| cache.store(&key, &agent.facts, agent.template.pre.instance_pre().component()));
        }
        Ok(agent)
    }

    /// Load the agent that the cache has under this key, without its bytes.
    pub(super) async fn load_cached(&self, key: &Key) -> Result<Option<Agent>, AgentError> {
        let found = block_in_place(|| self.cache.and_then(|cache| cache.load(self.tools.engine, key)));
        let Some(found) = found else { return Ok(None) };
        let agent = self.assemble(Ready::cached(found), None).await?;
        Ok(Some(Agent { from_cache: true, ..agent }))
    }

    /// Prewarm, check and compile.
    async fn make(&self, bytes: Vec<u8>) -> Result<Ready, AgentError> {
        let bytes = Arc::new(bytes);
        let contents = self.tools.check(bytes.clone()).await?;
        let tools = Toolchain { language: contents.language, ..self.tools };
        let mut facts = Facts {
            imports: Vec::new(),
            exports: Vec::new(),
            component_bytes: bytes.len(),
            snapshot_bytes: 0,
            compiled_bytes: 0,
            memory_start_bytes: 0,
            instance_bytes: 0,
            memory_mappings: MAPPINGS_MAX,
            prewarm: PrewarmKind::Pool,
            prewarm_why: None,
            prewarm_fuel: 0,
            prewarm_cpu_us: 0,
            prewarm_random: false,
            memories: 1,
            tables: 1,
            language: contents.language,
            manifest: self.manifest(contents.manifest.as_deref())?,
        };
        let mut cacheable = true;
        match self.tools.settings.prewarm {
            PrewarmMode::Pool => facts.prewarm_why = Some("the setting `prewarm` is `pool`".into()),
            PrewarmMode::Snapshot => match prewarm::snapshot(tools, bytes.clone()).await? {
                prewarm::Outcome::Taken(snapshot) => {
                    facts.prewarm = PrewarmKind::Snapshot;
                    facts.snapshot_bytes = snapshot.bytes;
                    facts.prewarm_fuel = snapshot.cost.fuel;
                    facts.prewarm_cpu_us = snapshot.cost.cpu_us;
                    facts.memory_mappings = snapshot.mappings;
                    facts.prewarm_random = snapshot.asked_random;
                    return Ok(self.describe(snapshot.compiled, facts, cacheable));
                }
                prewarm::Outcome::Impossible { why, always } => {
                    facts.prewarm_why = Some(why);
                    cacheable = always;
                }
            },
        }
        let compiled = tools.compile(bytes).await?;
        if let (PrewarmMode::Snapshot, Some(why)) = (self.tools.settings.prewarm, &facts.prewarm_why) {
            tracing::warn!(target: "host", agent = self.tools.name, why, "no snapshot, each job runs prewarm");
        }
        Ok(self.describe(compiled, facts, cacheable))
    }

    fn manifest(&self, text: Option<&str>) -> Result<Manifest, AgentError> {
        let text = text.unwrap_or_default();
        let read =
            if text.len() > manifest::TEXT_BYTES_MAX { Err("it is too long".into()) } else { manifest::parse(text) };
        read.map_err(|why| AgentError::Manifest { agent: self.tools.name.into(), why })
    }

    /// Complete the facts of a compiled component.
    fn describe(&self, compiled: Compiled, mut facts: Facts, cacheable: bool) -> Ready {
        let component = &compiled.component;
        let engine = self.tools.engine.wasmtime();
        let ty = component.component_type();
        facts.imports = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
        facts.exports = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let range = component.image_range();
        facts.compiled_bytes = (range.end as usize).saturating_sub(range.start as usize);
        let needs = component.resources_required();
        let pages = needs.as_ref().and_then(|needs| needs.max_initial_memory_size).unwrap_or(0);
        facts.memory_start_bytes = pages * WASM_PAGE_BYTES;
        facts.instance_bytes = compiled.instance_bytes;
        facts.memories = needs.as_ref().map_or(1, |needs| needs.num_memories);
        facts.tables = needs.map_or(1, |needs| needs.num_tables);
        facts.memory_mappings += facts.memories.saturating_sub(1) * MAPPINGS_PER_MEMORY_MAX;
        Ready { compiled, facts, cacheable }
    }

    /// Make the template, and create one instance as a proof that the agent works.
    async fn assemble(&self, ready: Ready, recordings: Option<Arc<Recordings>>) -> Result<Agent, AgentError> {
        let Ready { compiled, mut facts, .. } = ready;
        let fits = self.tools.engine.check_mappings(facts.memory_mappings);
        fits.map_err(|source| AgentError::Mappings { agent: self.tools.name.into(), source })?;
        let warm = match facts.prewarm {
            PrewarmKind::Snapshot => None,
            PrewarmKind::Pool => Some(WarmInstances::new(self.tools.settings.idle)),
        };
        let tools = Toolchain { language: facts.language, ..self.tools };
        let template = tools.template(&compiled.component, compiled.instance_bytes, warm)?;
        let template = Arc::new(Template { recordings, ..template });
        let proof = template.clone();
        let proven = tools.on_guest_runtime(async move {
            let mut instance = proof.empty_within_init().await?;
            let control = instance.control();
            let create = async {
                instance.instantiate(&proof).await?;
                instance.prewarm(&proof).await
            };
            proof.init_within(&control, create).await?;
            let (cost, random) = (instance.prewarmed, instance.store.data().asked_random);
            if let Some(warm) = proof.warm.as_ref().filter(|warm| warm.target > 0) {
                warm.put(instance);
            }
            Ok((cost, random))
        });
        if let (Some(cost), random) = proven.await? {
            (facts.prewarm_fuel, facts.prewarm_cpu_us) = (cost.fuel, cost.cpu_us);
            facts.prewarm_random = random;
        }
        self.warn(&facts, template.slots);
        let refill = template.warm.is_some().then(|| Refill::start(&template));
        Ok(Agent { facts, from_cache: false, template, granted: Granted::default(), _refill: refill })
    }

    /// Warn of facts that make jobs differ from what their author expects.
    fn warn(&self, facts: &Facts, slots: u32) {
        let agent = self.tools.name;
        if facts.prewarm_random {
            tracing::warn!(target: "host", agent, "{RANDOM_IN_PREWARM}");
        }
        if slots > 1 {
            let jobs = self.tools.engine.slots() / slots;
            tracing::warn!(target: "host", agent, slots, jobs, "each job takes several slots of the pool, which has room for so many jobs of this agent");
        }
    }

    fn check_header(&self, bytes: &[u8]) -> Result<(), AgentError> {
        const MAGIC: &[u8] = b"\0asm";
        const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
        let why = match (bytes.get(..4), bytes.get(4..8)) {
            (Some(MAGIC), Some(CORE_MODULE)) => "it is a core module; want a component",
            (Some(MAGIC), Some(_)) => return Ok(()),
            (Some(MAGIC), None) => "it ends within its first 8 bytes",
            _ if bytes.is_empty() => "it is empty",
            _ => "it does not begin with `\\0asm`",
        };
        Err(AgentError::NotComponent { agent: self.tools.name.into(), why: why.into() })
    }
}
