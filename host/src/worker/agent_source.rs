//! The source of an agent: its path and its settings, from which a worker loads the agent at the start and at each reload.

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

/// The source of one agent.
pub(crate) struct AgentSource {
    /// A component, or the directory of a crate.
    pub(crate) path: PathBuf,
    /// The name that the agent is registered under; events use it.
    pub(crate) name: String,
    pub(crate) engine: Engine,
    /// The settings of this agent.
    pub(crate) config: Arc<Config>,
    pub(crate) cache: Option<Arc<Cache>>,
    /// None where this process compiles agents itself.
    pub(crate) compiler: Option<Compiler>,
    pub(crate) events: Arc<Events>,
}

/// The agent cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A bug in wasm-worker.
    #[error("loading the agent panicked: {0}")]
    Panic(String),
}

impl LoadError {
    /// Whether a later load of the same component may succeed: the component is valid, and its prewarm failed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Agent(AgentError::Init { .. } | AgentError::Host { .. }))
    }
}

/// The version of a file, as its metadata shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    pub(super) modified: Option<SystemTime>,
    pub(super) bytes: u64,
}

impl AgentSource {
    /// Read, compile and prewarm the agent.
    pub(crate) async fn load(&self) -> Result<Agent, LoadError> {
        let path = self.path.clone();
        // A crate is built by cargo, which blocks.
        let read = tokio::task::spawn_blocking(move || source::read(&path)).await;
        let mut source = read.map_err(|panic| LoadError::Panic(panic.to_string()))??;
        source.name.clone_from(&self.name);
        let Self { engine, config, cache, compiler, events, .. } = self;
        Ok(Agent::load(engine, source, &config.agent, cache.as_deref(), compiler.as_ref(), events).await?)
    }

    /// The current version of the file; none for a crate and for a missing file.
    pub(crate) fn stamp(&self) -> Option<FileStamp> {
        let found = std::fs::metadata(&self.path).ok().filter(|found| found.is_file())?;
        Some(FileStamp { modified: found.modified().ok(), bytes: found.len() })
    }
}
