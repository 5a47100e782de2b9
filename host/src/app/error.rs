//! Why a worker, a supervisor or a dispatcher cannot serve.

use std::io;
use std::path::PathBuf;

use wasm_worker_core::text::with_causes;
use wasm_worker_dispatcher::DispatcherError;
use wasm_worker_sandbox::agent::AgentError;
use wasm_worker_sandbox::agent::source::SourceError;
use wasm_worker_sandbox::engine::EngineError;
use wasm_worker_sandbox::runtimes::RuntimesError;

use crate::config::ConfigError;
use crate::observers::EventsError;
use crate::worker::agent_source::LoadError;

/// Why a worker, a supervisor or a dispatcher cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The settings are not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The worker was given no agent.
    #[error("there is no agent to serve")]
    NoAgent,
    /// The server could not tell two agents apart.
    #[error("two agents would be registered as `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// The settings have a table for an agent that is not served.
    #[error("the settings have a table for the agent `{table}`, which is not served")]
    UnknownTable {
        /// The name of the table.
        table: String,
        /// The names of the agents that are served.
        served: Vec<String>,
    },
    /// An agent cannot be read or built.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An agent cannot take jobs here.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The settings of an agent and its `agent.toml` do not fit together.
    #[error("{0}")]
    Grant(String),
    /// The load function cannot be loaded.
    #[error("the load function `{}` cannot be used: {why}", path.display())]
    LoadFunction {
        /// The path of the component.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The threads of the program cannot be started.
    #[error(transparent)]
    Runtimes(#[from] RuntimesError),
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An event sink cannot be opened.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The address for HTTP is not available.
    #[error("HTTP cannot be served at `{address}`")]
    Http {
        /// The address.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A server is named, but not the key or the secret for it.
    #[error("the API {what} (`--api-{what}`) is missing")]
    MissingKey {
        /// `key` or `secret`.
        what: &'static str,
    },
    /// The URL of the server is not usable.
    #[error("{0}")]
    ServerUrl(String),
    /// The embedded dispatcher cannot start.
    #[error(transparent)]
    Dispatcher(#[from] DispatcherError),
    /// The embedded dispatcher ended although nobody stopped it.
    #[error("the dispatcher ended unexpectedly; this is a bug in wasm-worker")]
    DispatcherEnded,
    /// The operating system refused something else: a thread, a signal handler, an address.
    #[error("the operating system refused a resource")]
    System(#[from] io::Error),
    /// wasm-worker has a bug.
    #[error("an agent cannot be loaded because of a bug in wasm-worker: {0}")]
    Bug(String),
}

impl AppError {
    /// Advice for the operator, where there is any.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SameName { .. } => {
                Some("give each an `agent-name` in its own table, [agents.NAME], of the `--config` file".into())
            }
            Self::UnknownTable { served, .. } => Some(format!("the agents are: {}", served.join(", "))),
            Self::Source(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::LoadFunction { .. } => {
                Some("it exports `load`; see guest-sdk/wit/load.wit, and examples/load".into())
            }
            Self::Runtimes(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Http { .. } => Some("choose another address with --http, or `--http off`".into()),
            Self::MissingKey { .. } => Some(
                "set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or unset LIVEKIT_URL to start an embedded dispatcher"
                    .into(),
            ),
            Self::Dispatcher(error) => error.hint(),
            Self::DispatcherEnded | Self::Bug(_) => Some("report the bug with the log".into()),
            Self::Config(_)
            | Self::NoAgent
            | Self::Events(_)
            | Self::Grant(_)
            | Self::ServerUrl(_)
            | Self::System(_) => None,
        }
    }
}

impl From<LoadError> for AppError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Source(error) => Self::Source(error),
            LoadError::Agent(error) => Self::Agent(error),
            LoadError::Grant(error) => Self::Grant(with_causes(&error)),
            LoadError::Panic(why) => Self::Bug(why),
        }
    }
}
