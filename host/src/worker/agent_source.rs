//! The source of an agent: its path and its settings, from which a worker loads the agent at the start and at each reload.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasm_worker_core::observer::Events;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::source::{self, SourceError};
use wasm_worker_sandbox::agent::{Agent, AgentError};
use wasm_worker_sandbox::engine::Engine;

use crate::config::Config;
use crate::grants::{AgentNetworks, GrantError};

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
    pub(crate) networks: Arc<AgentNetworks>,
}

/// The agent cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Grant(#[from] GrantError),
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

/// The version of a file, as its metadata shows it. Another file may have the same size and time, and a file may be written
/// again with its former time; its device, its inode or the time of its last change differ then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileStamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// Seconds and nanoseconds of the last modification.
    pub(super) modified: (i64, i64),
    /// Seconds and nanoseconds of the last change of the file or its metadata.
    pub(super) changed: (i64, i64),
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
        let agent = Agent::load(engine, source, &config.agent, cache.as_deref(), compiler.as_ref(), events).await?;
        Ok(self.networks.grant(agent, config, self.path.is_dir())?)
    }

    /// The current version of the file; none for a crate and for a missing file.
    pub(crate) fn stamp(&self) -> Option<FileStamp> {
        FileStamp::of(&self.path)
    }
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok().filter(|found| found.is_file())?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_size_and_time_is_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.wasm"), dir.path().join("agent.wasm"));
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        write(&path, "one");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let first = FileStamp::of(&link).unwrap();
        assert_eq!(FileStamp::of(&link), Some(first));
        // The link leads to another file.
        let other = dir.path().join("b.wasm");
        write(&other, "two");
        let swapped = dir.path().join("swapped");
        std::os::unix::fs::symlink(&other, &swapped).unwrap();
        std::fs::rename(&swapped, &link).unwrap();
        let second = FileStamp::of(&link).unwrap();
        assert_eq!((second.bytes, second.modified), (first.bytes, first.modified));
        assert_ne!(second, first);
        // The same file is written again, with its former time.
        std::fs::write(&other, "six").unwrap();
        while FileStamp::of(&link) == Some(second) {
            write(&other, "six");
        }
    }
}
