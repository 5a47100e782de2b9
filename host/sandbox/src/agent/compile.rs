//! The compilation of agents in a process of its own.
//!
//! A compiler bounds neither its time nor its memory nor its stack, and agents are not trusted. So this program runs itself with
//! the hidden verb `compile`, which reads a component from standard input and writes machine code to standard output.
//!
//! Bounds: `compile-timeout` of wall time, as much CPU time on each core, and `compile-memory` of data.

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

use crate::engine::{Engine, EngineSettings, chain, config};
use crate::settings::{AgentSettings, CompileLimits};

/// Exit status for a component that cannot be compiled. Other statuses than 0 are failures of the compiler.
pub const NOT_COMPILED: u8 = 3;
/// Longest message of the compiler that is kept, in bytes.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;

/// The bounds of the compiling process, and the sizes of its engine.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Largest linear memory of a job, in bytes, as in [`EngineSettings`].
    pub job_memory_bytes: usize,
    /// Stack of WebAssembly frames, in bytes, as in [`EngineSettings`].
    pub stack_bytes: usize,
    /// Most data of the process, in bytes.
    pub memory_bytes: usize,
    /// Most CPU time of all threads of the process, in seconds.
    pub cpu_seconds: u64,
}

/// The reason why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileError {
    #[error("{0}")]
    Invalid(String),
    #[error("the compilation took longer than `compile-timeout` ({limit:?})")]
    Slow { limit: Duration },
    /// A signal ended the process: beyond `compile-memory` an allocation fails, and the process aborts.
    #[error(
        "signal {signal} ended the compiler, which may use {memory_bytes} bytes of memory (`compile-memory`): {message}"
    )]
    Killed { signal: i32, memory_bytes: usize, message: String },
    #[error("the compiler failed: {0}")]
    Host(String),
}

/// The program that compiles agents.
pub struct Compiler {
    program: PathBuf,
}

impl Compiler {
    /// Compile with the running program, even after its file was replaced.
    pub fn own() -> Self {
        Self::new("/proc/self/exe".into())
    }

    /// Compile with the program at `program`, which must have the verb `compile`.
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
        let (status, code, message) = tokio::time::timeout(settings.compile.timeout, run)
            .await
            .map_err(|_| CompileError::Slow { limit: settings.compile.timeout })?
            .map_err(host)?;
        judge(status, message, settings.compile)?;
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
        // The worker handles a Ctrl-C of the terminal.
        command.process_group(0);
        // The worker's environment has secrets.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn()
    }
}

/// Send the component to the compiler, and receive its code and its message.
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
        // The compiler may stop reading at any time; its status and its message say why.
        drop(stdin.write_all(&component).await);
    };
    let (code, message) = (read(stdout, code_bytes_max as u64), read(stderr, MESSAGE_BYTES_MAX));
    let ((), code, message) = futures_util::future::join3(feed, code, message).await;
    let message = String::from_utf8_lossy(&message?).trim().replace('\n', " ");
    Ok((child.wait().await?, code?, message))
}

/// Read at most `bytes_max`; a further write fails.
async fn read(pipe: impl AsyncRead + Unpin, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(bytes_max).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn judge(status: ExitStatus, message: String, limits: CompileLimits) -> Result<(), CompileError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) if code == i32::from(NOT_COMPILED) => Err(CompileError::Invalid(message)),
        (_, Some(signal)) => Err(CompileError::Killed { signal, memory_bytes: limits.memory_bytes, message }),
        (_, None) => Err(CompileError::Host(format!("{status}: {message}"))),
    }
}

fn load(engine: &Engine, code: &[u8]) -> Result<Component, CompileError> {
    #[expect(unsafe_code, reason = "the only way to load compiled code")]
    // SAFETY: `code` was serialized by this very program, in a process that it started and that nobody else can write to
    // the standard output of. The engine itself checks that version and settings are its own.
    let component = unsafe { Component::deserialize(engine.wasmtime(), code) };
    // The remaining reason is an instance that exceeds the engine's pool.
    component.map_err(|error| CompileError::Invalid(chain(&error)))
}

/// Compile the component on standard input. This is the verb `compile`, in the process that a [`Compiler`] starts.
///
/// # Errors
/// When the component cannot be compiled, or the machine fails.
pub fn serve(task: Task) -> Result<(), ServeError> {
    let Task { job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds } = task;
    limit(Resource::Data, memory_bytes as u64)?;
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::Core, 0)?;
    let mut component = Vec::new();
    io::stdin().read_to_end(&mut component)?;
    let settings = EngineSettings { slots: 1, memory_bytes: job_memory_bytes, stack_bytes };
    let engine = config::new_engine(settings).map_err(|error| ServeError::Engine(chain(&error)))?;
    let code = engine.precompile_component(&component).map_err(|error| ServeError::Component(chain(&error)))?;
    Ok(io::stdout().write_all(&code)?)
}

/// Lower a limit for good. A limit that is lower already stays as it is.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(setrlimit(resource, Rlimit { current: most, maximum: most })?)
}

/// The reason why the verb `compile` wrote no machine code.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The component cannot be compiled.
    #[error("{0}")]
    Component(String),
    /// The engine cannot start.
    #[error("the engine for compilation cannot start: {0}")]
    Engine(String),
    /// Standard input, standard output or a limit failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
