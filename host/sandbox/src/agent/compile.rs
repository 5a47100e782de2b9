//! Compiles agents in a process of their own. Nothing in a compiler bounds its time, its memory or its stack, and the
//! component is somebody else's: so this program runs itself with the hidden verb `compile`, which reads a component from
//! standard input and writes machine code.
//!
//! Bounds: `compile-timeout` of wall time, so much CPU time on each core, and `compile-memory` of data.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use wasmtime::component::Component;

use super::load::chain;
use crate::engine::{self, Engine, EngineSettings};
use crate::settings::{AgentSettings, CompileLimits};

/// Exit status for a component that cannot be compiled; anything else but 0 is a failure of the compiler.
pub const NOT_COMPILED: u8 = 3;
/// Of what the compiler says.
const WORDS_BYTES_MAX: u64 = 4 << 10;

/// What the compiling process may use, and for which engine it compiles.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// As in [`EngineSettings`].
    pub job_memory_bytes: usize,
    /// As in [`EngineSettings`].
    pub stack_bytes: usize,
    /// Data of the process.
    pub memory_bytes: usize,
    /// CPU time of all its threads, in seconds.
    pub cpu_seconds: u64,
}

/// No machine code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileError {
    #[error("{0}")]
    Invalid(String),
    #[error("compiling it took longer than `compile-timeout` allows ({limit:?})")]
    Slow { limit: Duration },
    /// Past `compile-memory` an allocation fails, and that ends the process.
    #[error(
        "compiling it ended by signal {signal} with at most {memory_bytes} bytes of memory (`compile-memory`): {words}"
    )]
    Killed { signal: i32, memory_bytes: usize, words: String },
    #[error("the compiler failed: {0}")]
    Host(String),
}

/// Runs the compiler.
pub struct Compiler {
    program: PathBuf,
}

impl Compiler {
    /// Compiles with this very program, also when another one has taken its place on disk since it was started.
    pub fn own() -> Self {
        Self::new("/proc/self/exe".into())
    }
}

impl Compiler {
    /// This program must know the verb `compile`.
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Compile a component for this engine.
    pub(super) async fn compile(
        &self,
        engine: &Engine,
        settings: &AgentSettings,
        component: Arc<Vec<u8>>,
    ) -> Result<Component, CompileError> {
        let host = |error: io::Error| CompileError::Host(error.to_string());
        let mut child = self.start(settings).map_err(host)?;
        let run = communicate(&mut child, component, settings.compile.memory_bytes);
        let (status, code, words) = tokio::time::timeout(settings.compile.timeout, run)
            .await
            .map_err(|_| CompileError::Slow { limit: settings.compile.timeout })?
            .map_err(host)?;
        judge(status, words, settings.compile)?;
        let engine = engine.clone();
        let loaded = tokio::task::spawn_blocking(move || load(&engine, &code)).await;
        loaded.map_err(|panic| CompileError::Host(panic.to_string()))?
    }

    #[expect(clippy::cast_possible_truncation, reason = "a few hundred cores")]
    fn start(&self, settings: &AgentSettings) -> io::Result<Child> {
        let cores = std::thread::available_parallelism()?.get() as u32;
        let cpu = settings.compile.timeout.saturating_mul(cores).as_secs().saturating_add(1);
        let mut command = Command::new(&self.program);
        command.arg("compile").args([
            settings.limits.memory_bytes.to_string(),
            settings.limits.stack_bytes.to_string(),
            settings.compile.memory_bytes.to_string(),
            cpu.to_string(),
        ]);
        // A Ctrl-C of the terminal is the worker's to handle.
        command.process_group(0);
        // The worker's environment holds its secrets.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn()
    }
}

/// Feed the compiler, and take what it says.
async fn communicate(
    child: &mut Child,
    component: Arc<Vec<u8>>,
    code_bytes_max: usize,
) -> io::Result<(ExitStatus, Vec<u8>, String)> {
    let gone = || io::Error::other("a pipe is missing");
    let mut stdin = child.stdin.take().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    let stderr = child.stderr.take().ok_or_else(gone)?;
    let feed = async move {
        // It may stop reading at any time; why, it says elsewhere.
        drop(stdin.write_all(&component).await);
    };
    let (code, words) = (read(stdout, code_bytes_max as u64), read(stderr, WORDS_BYTES_MAX));
    let ((), code, words) = futures_util::future::join3(feed, code, words).await;
    let words = String::from_utf8_lossy(&words?).trim().replace('\n', " ");
    Ok((child.wait().await?, code?, words))
}

/// Who writes more finds the pipe closed.
async fn read(pipe: impl AsyncRead + Unpin, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(bytes_max).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn judge(status: ExitStatus, words: String, limits: CompileLimits) -> Result<(), CompileError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) if code == i32::from(NOT_COMPILED) => Err(CompileError::Invalid(words)),
        (_, Some(signal)) => Err(CompileError::Killed { signal, memory_bytes: limits.memory_bytes, words }),
        (_, None) => Err(CompileError::Host(format!("{status}: {words}"))),
    }
}

fn load(engine: &Engine, code: &[u8]) -> Result<Component, CompileError> {
    #[expect(unsafe_code, reason = "the only way to load compiled code")]
    // SAFETY: `code` was serialized by this very program, in a process that it started and that nobody else can write to
    // the standard output of. The engine itself checks that version and settings are its own.
    let component = unsafe { Component::deserialize(engine.wasmtime(), code) };
    // What is left is that one instance takes more than the engine's pool has for it.
    component.map_err(|error| CompileError::Invalid(chain(&error)))
}

/// The other side: what the verb `compile` does, in the process that was started.
///
/// # Errors
/// When the component cannot be compiled, or something of ours fails.
pub fn serve(task: Task) -> Result<(), ServeError> {
    let Task { job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds } = task;
    limit(Resource::Data, memory_bytes as u64)?;
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::Core, 0)?;
    let mut component = Vec::new();
    io::stdin().read_to_end(&mut component)?;
    let settings = EngineSettings { slots: 1, memory_bytes: job_memory_bytes, stack_bytes };
    let engine = engine::for_compiling(settings).map_err(|error| ServeError::Engine(chain(&error)))?;
    let code = engine.precompile_component(&component).map_err(|error| ServeError::Component(chain(&error)))?;
    Ok(io::stdout().write_all(&code)?)
}

/// As low as this, or as low as it is already: nobody may raise it again.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(setrlimit(resource, Rlimit { current: most, maximum: most })?)
}

/// No machine code was written.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Component(String),
    #[error("no engine to compile with: {0}")]
    Engine(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}
