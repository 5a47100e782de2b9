//! The agents of a worker: their names, which all differ, and how they are loaded.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use wasm_worker_core::duration::LONGEST;
use wasm_worker_protocol::registration::Registration;
use wasm_worker_sandbox::agent::artifact::{Cache, CacheError};
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::load_function::LoadComponent;
use wasm_worker_sandbox::agent::source::name;
use wasm_worker_sandbox::engine::Engine;

use super::error::AppError;
use crate::config::Config;
use crate::load::{LoadFunction, LoadMonitor, RustLoadFunction};
use crate::worker::agent_source::AgentSource;
use crate::worker::agent_worker::AgentWorker;
use crate::worker::context::WorkerContext;
use crate::worker::link::Server;
use crate::worker::reload::LoadedAgent;

/// An agent to serve.
pub(crate) struct NamedAgent {
    path: PathBuf,
    /// The agent's own name, by which its table in the settings is found.
    own: String,
    /// The name that the agent is registered under. The empty name is one.
    registered: String,
}

impl NamedAgent {
    /// The name in events and on the pages of the worker.
    pub(crate) fn name(&self) -> &str {
        if self.registered.is_empty() { &self.own } else { &self.registered }
    }
}

/// The agents with their names, which all differ: the server could not tell them apart.
pub(crate) fn named(paths: &[PathBuf], config: &Config) -> Result<Vec<NamedAgent>, AppError> {
    let mut taken = HashSet::new();
    let mut named: Vec<NamedAgent> = Vec::new();
    for path in paths {
        let own = name(path)?;
        let registered = config.of_agent(&own).livekit.agent_name.clone().unwrap_or_else(|| own.clone());
        if !taken.insert(registered.clone()) {
            return Err(AppError::SameName { name: registered });
        }
        named.push(NamedAgent { path: path.clone(), own, registered });
    }
    if named.is_empty() {
        return Err(AppError::NoAgent);
    }
    if let Some(table) = config.agents.keys().find(|table| named.iter().all(|agent| agent.own != **table)) {
        let served = named.iter().map(|agent| agent.own.clone()).collect();
        return Err(AppError::UnknownTable { table: table.clone(), served });
    }
    Ok(named)
}

/// The cache of compiled agents. Without one, agents are compiled at each start.
pub(crate) fn open_cache(config: &Config) -> Option<Cache> {
    let opened = Cache::open(&config.cache_dir);
    opened
        .map_err(|error: CacheError| {
            let why = error.source.to_string();
            tracing::warn!(target: "host", why, "{error}; agents are compiled at each start (set --cache-dir)");
        })
        .ok()
}

/// Loads the agents of one worker, and what combines the figures of its load.
pub(super) struct AgentLoader {
    pub(super) engine: Engine,
    pub(super) config: Arc<Config>,
    /// The program that compiles agents; absent where this process does.
    pub(super) compiler: Option<PathBuf>,
    pub(super) server: Server,
    /// The name of this process at its dispatcher.
    pub(super) instance: String,
    pub(super) context: WorkerContext,
}

impl AgentLoader {
    /// The load monitor, with the load function of the settings, else that of the embedding program, else the default.
    pub(super) async fn monitor(&self, rust: Option<RustLoadFunction>) -> Result<LoadMonitor, AppError> {
        let Self { engine, config, .. } = self;
        let function = match &config.load_function {
            None => rust.map_or(LoadFunction::Largest, LoadFunction::Rust),
            Some(path) => {
                let loaded = LoadComponent::load_file(engine, path, &config.agent).await;
                let loaded = loaded.map_err(|why| AppError::LoadFunction { path: path.clone(), why: why.to_string() });
                LoadFunction::Component(Box::new(loaded?))
            }
        };
        Ok(LoadMonitor::new(engine.clone(), config.cores, config.max_jobs, function))
    }

    /// Load every agent. An agent whose prewarm fails is loaded again later; an agent that can never run here is an error.
    pub(super) async fn load(&self, agents: Vec<NamedAgent>) -> Result<Vec<AgentWorker>, AppError> {
        let cache = open_cache(&self.config).map(Arc::new);
        let mut loaded = Vec::new();
        for agent in agents {
            loaded.push(self.load_one(agent, cache.clone()).await?);
        }
        Ok(loaded)
    }

    async fn load_one(&self, agent: NamedAgent, cache: Option<Arc<Cache>>) -> Result<AgentWorker, AppError> {
        let name = agent.name().to_owned();
        let NamedAgent { path, own, registered } = agent;
        let Self { engine, config, compiler, server, instance, context } = self;
        let source = AgentSource {
            path,
            name,
            engine: engine.clone(),
            config: Arc::new(config.of_agent(&own).clone()),
            cache,
            compiler: compiler.clone().map(Compiler::new),
            events: context.events.clone(),
            networks: context.networks.clone(),
        };
        let stamp = source.stamp();
        let result = match source.load().await {
            Err(error) if !error.is_transient() => return Err(error.into()),
            result => result,
        };
        let registration = Registration {
            agent_name: registered,
            deployment: config.livekit.deployment.clone(),
            job_kind: config.livekit.job_type,
            report_load: config.livekit.report_load,
            permissions: config.livekit.permissions.clone(),
            assignment_within: config.livekit.assignment_timeout.min(LONGEST),
            instance: instance.clone(),
        };
        let loaded = LoadedAgent { result, stamp };
        Ok(AgentWorker::new(source, loaded, server.clone(), registration, config, context.clone()))
    }
}
