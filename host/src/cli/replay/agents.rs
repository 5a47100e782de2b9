//! The agents of replays. Recordings of the same agent under the same limits share one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, Exit, Failure};
use wasm_worker_core::observer::Events;
use wasm_worker_core::text::with_causes;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::source::{self, Source};
use wasm_worker_sandbox::engine::{Engine, EngineSettings};
use wasm_worker_sandbox::recording::reader::Reader;
use wasm_worker_sandbox::runtimes::Runtimes;
use wasm_worker_sandbox::settings::AgentSettings;

/// Slots of an engine: the replay, and the proof of an agent that is loaded.
const SLOTS: u32 = 8;
/// Most agents that are kept. More of them would differ in each recording.
const AGENTS_MAX: usize = 16;
/// Least time after which a step is taken for one that never returns. The machine of the recording may have been faster.
const PATIENCE_MIN: Duration = Duration::from_secs(60);

/// The agents so far.
pub(super) struct Agents<'a> {
    runtimes: &'a Runtimes,
    config: &'a Config,
    events: Arc<Events>,
    /// The agent of the command line, in place of the recorded ones.
    other: Option<&'a Path>,
    /// Its contents, and their hash, once they were read.
    source: Option<(Source, String)>,
    cache: Option<Cache>,
    engines: HashMap<(usize, usize), Engine>,
    loaded: HashMap<String, Arc<Agent>>,
}

impl<'a> Agents<'a> {
    /// No agents yet.
    pub(super) fn new(
        runtimes: &'a Runtimes,
        config: &'a Config,
        events: Arc<Events>,
        other: Option<&'a Path>,
    ) -> Self {
        let (engines, loaded) = (HashMap::new(), HashMap::new());
        Self { runtimes, config, events, other, source: None, cache: None, engines, loaded }
    }

    /// The agent to replay a recording with, and whether it is another build.
    pub(super) async fn for_recording(&mut self, reader: &Reader) -> Result<(Arc<Agent>, bool), Failure> {
        let head = reader.head();
        let patience = self.config.agent.limits.unresponsive_timeout.max(PATIENCE_MIN);
        let settings = reader.settings(AgentSettings { idle: 0, ..self.config.agent.clone() }, patience)?;
        if let (Some(path), None) = (self.other, &self.source) {
            let source = source::read(path)?;
            let hash = blake3::hash(&source.bytes).to_hex().to_string();
            self.source = Some((source, hash));
        }
        let other_build = self.source.as_ref().is_some_and(|(_, hash)| *hash != head.component);
        let name = format!("{} {:?} {:?}", head.artifact, settings.limits, settings.prewarm);
        if let Some(agent) = self.loaded.get(&name) {
            return Ok((agent.clone(), other_build));
        }
        let agent = Arc::new(self.load(reader, &settings).await?);
        if self.loaded.len() >= AGENTS_MAX {
            self.loaded.clear();
        }
        self.loaded.insert(name, agent.clone());
        Ok((agent, other_build))
    }

    async fn load(&mut self, reader: &Reader, settings: &AgentSettings) -> Result<Agent, Failure> {
        let engine = self.engine(settings)?;
        if self.cache.is_none() {
            self.cache = Some(Cache::open(&self.config.cache_dir).map_err(|error| Failure {
                exit: Exit::Host,
                error: with_causes(&error).into(),
                hint: Some("--cache-dir names the directory of compiled agents".into()),
            })?);
        }
        let head = reader.head();
        if let Some((source, _)) = &self.source {
            let source = Source { name: head.agent.clone(), ..source.clone() };
            let cache = self.cache.as_ref();
            return Ok(Agent::load(&engine, source, settings, cache, Some(&Compiler::own()), &self.events).await?);
        }
        let cached = match &self.cache {
            Some(cache) => Agent::load_cached(&engine, &head.agent, &head.artifact, settings, cache).await?,
            None => None,
        };
        cached.ok_or_else(|| not_cached(reader, self.config))
    }

    fn engine(&mut self, settings: &AgentSettings) -> Result<Engine, Failure> {
        let limits = &settings.limits;
        match self.engines.entry((limits.memory_bytes, limits.stack_bytes)) {
            Entry::Occupied(engine) => Ok(engine.get().clone()),
            Entry::Vacant(place) => {
                let sizes =
                    EngineSettings { slots: SLOTS, memory_bytes: limits.memory_bytes, stack_bytes: limits.stack_bytes };
                let engine = Engine::new(sizes, self.runtimes.guests().clone(), self.runtimes.control().clone())?;
                Ok(place.insert(engine).clone())
            }
        }
    }
}

fn not_cached(reader: &Reader, config: &Config) -> Failure {
    let head = reader.head();
    let error = format!(
        "`{}` was recorded with the agent `{}`, whose artifact {} is not in the cache `{}`",
        reader.path().display(),
        head.agent,
        head.artifact,
        config.cache_dir.display(),
    );
    let own = env!("CARGO_PKG_VERSION");
    let other = if head.program == own {
        String::new()
    } else {
        format!("; version {} recorded it, this is {own}", head.program)
    };
    let hint = format!("name the component by --agent, or the directory by --cache-dir{other}");
    Failure { exit: Exit::Agent, error: error.into(), hint: Some(hint) }
}
