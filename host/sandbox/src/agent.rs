//! Agents: from a component's bytes to the template of its jobs.
//!
//! A loaded agent has been instantiated once, so an admitted job can run.
//!
//! Bounds: the size of a file, `compile-timeout` and `compile-memory` for everything that looks into it, `init-timeout` for the
//! first instance.

mod facts;
mod file;

pub mod manifest;

pub mod cargo;
pub mod source;

pub mod artifact;

mod start_cost;
mod contents;
mod contract;
pub mod tasks;
pub mod compile;
mod instrument;

mod toolchain;

mod prewarm;
mod refill;

mod loader;

mod play;

pub mod load_function;

use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::{Engine, EngineError};
use crate::job::granted::Granted;
use crate::job::instance::Template;
use crate::job::launch::{self, Accepted, Running};
use crate::job::offer::Offer;
use crate::job::replay::{self, How, ReplayError, Replayed};
use crate::recording::reader::Reader;
use crate::settings::AgentSettings;
use artifact::{Cache, Key};
use compile::Compiler;
pub use facts::{Facts, PrewarmKind};
use loader::Loader;
use refill::Refill;
use source::Source;
use toolchain::Toolchain;
use wasm_worker_core::event::Event;
use wasm_worker_core::language::Language;
use wasm_worker_core::observer::Events;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::usage::millis;
use wasm_worker_core::verdict::Verdict;

/// The reason why an agent cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The bytes are no component.
    #[error("agent `{agent}` is not a WebAssembly component: {why}")]
    NotComponent {
        /// The name of the agent.
        agent: String,
        /// The difference.
        why: String,
    },
    /// The file ends in `.wat`, and its contents are no WebAssembly text.
    #[error("agent `{agent}` is not WebAssembly text: {why}")]
    Text {
        /// The name of the agent.
        agent: String,
        /// The fault, with its line and column.
        why: String,
    },
    /// The engine refuses the component.
    #[error("agent `{agent}` is not a component that can run here: {why}")]
    Invalid {
        /// The name of the agent.
        agent: String,
        /// The error of the engine.
        why: String,
    },
    /// The compilation exceeded a bound.
    #[error("agent `{agent}` cannot be compiled: {why}")]
    TooMuch {
        /// The name of the agent.
        agent: String,
        /// The bound.
        why: String,
    },
    /// The component was built for an older contract.
    #[error("agent `{agent}` was built for an older version of `wasm-worker:agent`: {why}")]
    OldContract {
        /// The name of the agent.
        agent: String,
        /// What shows it.
        why: String,
    },
    /// The component does not implement the world of agents.
    #[error("agent `{agent}` does not implement `wasm-worker:agent`: {why}")]
    World {
        /// The name of the agent.
        agent: String,
        /// All differences.
        why: String,
        /// What to change; empty where the tools give no names to go by.
        hints: Vec<String>,
    },
    /// The manifest in the component cannot be read.
    #[error("the `agent.toml` in agent `{agent}` cannot be read: {why}")]
    Manifest {
        /// The name of the agent.
        agent: String,
        /// The fault, with its line.
        why: String,
    },
    /// One instance takes more slots than the engine has.
    #[error("agent `{agent}` has more memories or tables than one job may have")]
    TooManyMemories {
        /// The name of the agent.
        agent: String,
    },
    /// The prewarm or the first instance failed.
    #[error("agent `{agent}` cannot take jobs: {}: {}", verdict.code, verdict.detail)]
    Init {
        /// The name of the agent.
        agent: String,
        /// The verdict, as for a job.
        verdict: Box<Verdict>,
        /// The language of the agent, where its component names it.
        language: Option<Language>,
    },
    /// The kernel's limit does not allow as many instances as the settings ask for.
    #[error("agent `{agent}` needs too many memory mappings")]
    Mappings {
        /// The name of the agent.
        agent: String,
        /// The limit and the need.
        source: EngineError,
    },
    /// wasm-worker or the machine failed.
    #[error("agent `{agent}` could not be loaded: {why}")]
    Host {
        /// The name of the agent.
        agent: String,
        /// The failure.
        why: String,
    },
}

impl AgentError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotComponent { .. } => Some(
                "`wasm-worker build DIR` makes a component of a crate; `wasm-tools component new` makes one of a core module of another language"
                    .into(),
            ),
            Self::World { hints, .. } if hints.is_empty() => {
                Some("the types of its functions differ from those of guest-sdk/wit: build it against that version".into())
            }
            Self::World { hints, .. } => Some(hints.join("; ")),
            Self::OldContract { .. } => Some(
                "build it again: with the SDK of this version, or with the guest-sdk/wit of this version".into(),
            ),
            Self::TooMuch { .. } => {
                Some("raise --compile-timeout or --compile-memory if you trust the agent".into())
            }
            Self::Init { verdict, language, .. } => Some(verdict.advice(*language).into()),
            Self::Mappings { source, .. } => source.hint(),
            Self::Invalid { .. } => Some(
                "the file may be truncated, or use features that agents may not use; `wasm-worker build DIR` makes a component that runs here"
                    .into(),
            ),
            Self::Text { .. } | Self::Manifest { .. } | Self::TooManyMemories { .. } | Self::Host { .. } => None,
        }
    }
}

/// An agent that can take jobs.
pub struct Agent {
    facts: Facts,
    /// Whether the cache had its machine code.
    from_cache: bool,
    template: Arc<Template>,
    granted: Granted,
    /// Keeps warm instances, for an agent without a snapshot. Ends with the agent.
    _refill: Option<Refill>,
}

impl Agent {
    /// Load a component: from the cache, or by checks, prewarm and compilation. Without a compiler the compilation is in this
    /// process, and unbounded.
    ///
    /// # Errors
    /// When the bytes are no agent, an import is not allowed, or the compilation or the prewarm fails.
    pub async fn load(
        engine: &Engine,
        source: Source,
        settings: &AgentSettings,
        cache: Option<&Cache>,
        compiler: Option<&Compiler>,
        events: &Events,
    ) -> Result<Self, AgentError> {
        let began = Instant::now();
        let name = source.name.clone();
        let loaded = Loader { tools: Toolchain { engine, name: &name, settings, compiler, language: None }, cache }
            .load(source)
            .await;
        match loaded {
            Ok(agent) => {
                events.publish(&Event::AgentLoaded {
                    agent: name,
                    prewarm: agent.facts.prewarm.as_str(),
                    cached: agent.from_cache,
                    took_ms: millis(began.elapsed()),
                });
                Ok(agent)
            }
            Err(error) => {
                events.publish(&Event::AgentFailed { agent: name, error: error.to_string() });
                Err(error)
            }
        }
    }

    /// Load an agent that the cache has under the name of its artifact, for a replay. `None` where the cache does not have it.
    ///
    /// # Errors
    /// When the agent does not fit into the engine, or its first instance fails.
    pub async fn load_cached(
        engine: &Engine,
        name: &str,
        artifact: &str,
        settings: &AgentSettings,
        cache: &Cache,
    ) -> Result<Option<Self>, AgentError> {
        let Some(key) = Key::named(artifact) else { return Ok(None) };
        let tools = Toolchain { engine, name, settings, compiler: None, language: None };
        Loader { tools, cache: Some(cache) }.load_cached(&key).await
    }

    /// Replay a recording to its end, or to its first difference. The reader comes back for what follows.
    pub async fn replay(
        &self,
        reader: Reader,
        how: How,
    ) -> Result<(Reader, Result<Replayed, ReplayError>), ReplayError> {
        let replayed = self.template.engine.guests().spawn(replay::replay(self.template.clone(), reader, how)).await;
        replayed.map_err(|panic| ReplayError::Host(panic.to_string()))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.template.agent
    }

    /// Whether the cache had its machine code.
    pub fn is_from_cache(&self) -> bool {
        self.from_cache
    }

    /// The same agent, whose jobs have this from now on.
    #[must_use]
    pub fn granted(self, granted: Granted) -> Self {
        Self { granted, ..self }
    }

    /// The facts.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Offer a job to the agent. An accepted job runs at once, whether or not anybody waits for its end.
    ///
    /// # Errors
    /// When no slot is free, or the agent rejects the job or fails to decide.
    pub async fn offer(&self, offer: Offer, events: &Arc<Events>) -> Result<Running, Refusal> {
        launch::run((&self.template, &self.granted), offer, events).await
    }

    /// Offer a job to the agent. An accepted job holds its slot until it is launched or dropped.
    ///
    /// # Errors
    /// When no slot is free, or the agent rejects the job or fails to decide.
    pub async fn decide(&self, offer: Offer, events: &Arc<Events>) -> Result<Accepted, Refusal> {
        launch::decide((&self.template, &self.granted), offer, events).await
    }
}
