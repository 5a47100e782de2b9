//! The steps that loading an agent and taking a snapshot share: compile, check the world, make a template, run a guest.

use std::sync::Arc;

use wasm_worker_core::language::Language;
use wasmtime::component::Component;

use super::AgentError;
use super::compile::{self, CompileError, Compiled, Compiler};
use super::contents::Contents;
use super::contract::{self, Misfit};
use crate::engine::{Engine, chain};
use crate::guest::bindings::AgentPre;
use crate::hostcalls;
use crate::job::instance::{Template, WarmInstances};
use crate::job::run::Crash;
use crate::settings::AgentSettings;

/// What the steps of loading one agent need.
#[derive(Clone, Copy)]
pub(super) struct Toolchain<'a> {
    /// The engine that the agent runs on.
    pub(super) engine: &'a Engine,
    /// The name of the agent.
    pub(super) name: &'a str,
    /// The settings of the agent.
    pub(super) settings: &'a AgentSettings,
    /// Compiles in another process; without it compilation is in this process, and unbounded.
    pub(super) compiler: Option<&'a Compiler>,
    /// The language of the agent, once its component was read.
    pub(super) language: Option<Language>,
}

impl Toolchain<'_> {
    /// Parse WebAssembly text, in another process or on a thread that no task waits for.
    pub(super) async fn parse(&self, text: Vec<u8>) -> Result<Vec<u8>, AgentError> {
        let parsed = compile::parse(self.compiler, self.settings, Arc::new(text)).await;
        parsed.map_err(|error| match error {
            CompileError::Invalid(why) => AgentError::Text { agent: self.name.into(), why },
            error => self.compile_error(error),
        })
    }

    /// Compile, likewise.
    pub(super) async fn compile(&self, bytes: Arc<Vec<u8>>) -> Result<Compiled, AgentError> {
        let compiled = compile::compile(self.compiler, self.engine, self.settings, bytes).await;
        compiled.map_err(|error| self.compile_error(error))
    }

    /// Load machine code that another task has compiled.
    pub(super) async fn load(&self, code: Vec<u8>) -> Result<Compiled, AgentError> {
        compile::load_code(self.engine, code).await.map_err(|error| self.compile_error(error))
    }

    /// Read the names in a component, and check them against the contract. A component that cannot be read to its end is left to
    /// the compiler, which says why.
    pub(super) async fn check(&self, bytes: Arc<Vec<u8>>) -> Result<Contents, AgentError> {
        let contents = compile::contents(self.compiler, self.settings, bytes).await;
        let contents = contents.map_err(|error| self.compile_error(error))?;
        if contents.is_whole {
            contract::check(&contents, contract::EXPORTS).map_err(|misfit| self.misfit(misfit))?;
        }
        Ok(contents)
    }

    fn misfit(&self, misfit: Misfit) -> AgentError {
        let agent = self.name.into();
        match misfit {
            Misfit::Old { why } => AgentError::OldContract { agent, why },
            Misfit::Faults { why, hints } => AgentError::World { agent, why, hints },
        }
    }

    /// The template of a component's instances.
    pub(super) fn template(
        &self,
        component: &Component,
        instance_bytes: u64,
        warm: Option<WarmInstances>,
    ) -> Result<Template, AgentError> {
        let slots =
            self.engine.slots_for(component).ok_or_else(|| AgentError::TooManyMemories { agent: self.name.into() })?;
        let linker = hostcalls::linker(self.engine).map_err(|error| self.host_error(&error))?;
        let pre = linker.instantiate_pre(component).map_err(|error| self.world_error(&error))?;
        Ok(Template {
            engine: self.engine.clone(),
            agent: self.name.into(),
            pre: AgentPre::new(pre).map_err(|error| self.world_error(&error))?,
            limits: Arc::new(self.settings.limits.clone().with_bounded_times()),
            slots,
            instance_bytes: usize::try_from(instance_bytes).unwrap_or(usize::MAX),
            warm,
            recordings: None,
        })
    }

    /// Run a guest on the runtime of the guests.
    pub(super) async fn on_guest_runtime<T: Send + 'static>(
        &self,
        guest: impl Future<Output = Result<T, Crash>> + Send + 'static,
    ) -> Result<T, AgentError> {
        let joined = self.engine.guests().spawn(guest).await;
        joined
            .map_err(|panic| self.host_error(&wasmtime::Error::msg(panic.to_string())))?
            .map_err(|crash| self.init_error(crash))
    }

    /// The error of an agent whose start or `prewarm` failed.
    pub(super) fn init_error(&self, crash: Crash) -> AgentError {
        AgentError::Init { agent: self.name.into(), verdict: Box::new(crash.verdict()), language: self.language }
    }

    pub(super) fn compile_error(&self, error: CompileError) -> AgentError {
        let (agent, why) = (self.name.into(), error.to_string());
        match error {
            CompileError::Invalid(why) => AgentError::Invalid { agent, why },
            CompileError::Slow { .. } | CompileError::OutOfMemory { .. } | CompileError::Killed { .. } => {
                AgentError::TooMuch { agent, why }
            }
            CompileError::Start { .. } | CompileError::Host(_) => AgentError::Host { agent, why },
        }
    }

    fn host_error(&self, error: &wasmtime::Error) -> AgentError {
        AgentError::Host { agent: self.name.into(), why: chain(error) }
    }

    fn world_error(&self, error: &wasmtime::Error) -> AgentError {
        AgentError::World { agent: self.name.into(), why: chain(error), hints: Vec::new() }
    }
}
