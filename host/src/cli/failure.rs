//! Why a verb failed: its exit status, the error, and the advice. Each error of the lower modules has its exit status here.

use std::error::Error;
use std::io;

use wasm_worker_core::verdict::Verdict;
use wasm_worker_sandbox::agent::AgentError;
use wasm_worker_sandbox::agent::source::SourceError;
use wasm_worker_sandbox::engine::EngineError;
use wasm_worker_sandbox::runtimes::RuntimesError;

use super::Exit;
use crate::app::AppError;
use crate::config::ConfigError;
use crate::grants::GrantError;
use crate::observers::EventsError;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: Box<dyn Error>,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn usage(why: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: why.into().into(), hint: None }
    }

    /// Whether nobody reads standard output any more, as in `wasm-worker jobs | head -1`.
    pub(super) fn is_closed_pipe(&self) -> bool {
        self.error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The verdict on an agent whose start or prewarm failed.
    pub(super) fn init_verdict(&self) -> Option<&Verdict> {
        match self.error.downcast_ref()? {
            AgentError::Init { verdict, .. } => Some(verdict),
            _ => None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hint: None }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let hint = error.hint();
        Self { exit: Exit::Agent, error: error.into(), hint }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let hint = error.hint();
        let exit = match &error {
            AgentError::Init { verdict, .. } => verdict.code.class().into(),
            AgentError::Host { .. } => Exit::Host,
            AgentError::Mappings { .. } => Exit::Usage,
            _ => Exit::Agent,
        };
        Self { exit, error: error.into(), hint }
    }
}

impl From<GrantError> for Failure {
    fn from(error: GrantError) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hint: None }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match &error {
            EngineError::TooManySlots { .. }
            | EngineError::TooManyMappings { .. }
            | EngineError::TooManyAddresses { .. } => Exit::Usage,
            EngineError::MachineCode(_) | EngineError::Wasmtime(_) | EngineError::Ticker(_) => Exit::Host,
        };
        let hint = error.hint();
        Self { exit, error: error.into(), hint }
    }
}

impl From<RuntimesError> for Failure {
    fn from(error: RuntimesError) -> Self {
        let hint = error.hint();
        Self { exit: Exit::Host, error: error.into(), hint }
    }
}

impl From<EventsError> for Failure {
    fn from(error: EventsError) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hint: None }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let hint = error.hint();
        let exit = match error {
            AppError::Agent(error) => return error.into(),
            AppError::Engine(error) => return error.into(),
            AppError::Source(_) | AppError::LoadFunction { .. } => Exit::Agent,
            AppError::Runtimes(_) | AppError::DispatcherEnded | AppError::System(_) | AppError::Bug(_) => Exit::Host,
            AppError::Config(_)
            | AppError::NoAgent
            | AppError::SameName { .. }
            | AppError::UnknownTable { .. }
            | AppError::Events(_)
            | AppError::Grant(_)
            | AppError::Http { .. }
            | AppError::MissingKey { .. }
            | AppError::ServerUrl(_)
            | AppError::Dispatcher(_) => Exit::Usage,
        };
        Self { exit, error: error.into(), hint }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Host, error: error.into(), hint: None }
    }
}
