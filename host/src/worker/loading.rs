//! Where an agent of a worker comes from, so that it can be loaded again: after a failure, on SIGHUP, when its file has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use wasm_worker_core::observer::Events;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::source::{self, SourceError};
use wasm_worker_sandbox::agent::{Agent, AgentError};
use wasm_worker_sandbox::engine::Engine;

use crate::config::Config;

/// What loading takes.
pub(crate) struct Loading {
    /// A component, or the directory of a crate.
    pub(crate) path: PathBuf,
    /// What it is registered under, and so what its events are about.
    pub(crate) name: String,
    pub(crate) engine: Engine,
    /// The settings of this agent.
    pub(crate) config: Arc<Config>,
    pub(crate) cache: Option<Arc<Cache>>,
    /// None where this process compiles agents itself.
    pub(crate) compiler: Option<Compiler>,
    pub(crate) events: Arc<Events>,
}

/// No agent can be had from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A bug of ours.
    #[error("reading the agent failed: {0}")]
    Panic(String),
}

impl LoadError {
    /// Whether the same component may do better another time: it is one that can run here, and its prewarm failed.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Agent(AgentError::Init { .. } | AgentError::Host { .. }))
    }
}

/// What changes when somebody writes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Loading {
    pub(crate) async fn load(&self) -> Result<Agent, LoadError> {
        let path = self.path.clone();
        // It may run cargo.
        let read = tokio::task::spawn_blocking(move || source::read(&path)).await;
        let mut source = read.map_err(|panic| LoadError::Panic(panic.to_string()))??;
        source.name.clone_from(&self.name);
        let Self { engine, config, cache, compiler, events, .. } = self;
        Ok(Agent::load(engine, source, &config.agent, cache.as_deref(), compiler.as_ref(), events).await?)
    }

    /// None for a crate, whose files cargo knows, and for a file that is gone.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let found = std::fs::metadata(&self.path).ok().filter(|found| found.is_file())?;
        Some(Stamp { modified: found.modified().ok(), bytes: found.len() })
    }
}
