//! The process that looks into agents: it parses their text, compiles them, and makes their snapshots.
//!
//! A compiler bounds neither its time nor its memory nor its stack, and agents are not trusted. So this program runs itself with
//! the hidden verb `compile`, which reads from standard input and writes to standard output. An embedding program without such a
//! process has the tasks done in its own, unbounded.
//!
//! Bounds: `compile-timeout` of wall time for each step, as much CPU time on each core, and `compile-memory` of data.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use wasm_worker_core::text::clip;
use wasmtime::component::Component;

use super::contents::Contents;
use super::tasks::{self, Task, TaskError};
use crate::engine::config::Purpose;
use crate::engine::{Engine, EngineSettings, chain};
use crate::machine;
use crate::settings::{AgentSettings, CompileLimits};

/// Exit status for a component that cannot be used. Other statuses than 0 are failures of the compiler.
pub const NOT_COMPILED: u8 = 3;
/// The words of a failed allocation: those of Rust's allocator, and those of wasmtime.
const OUT_OF_MEMORY: [&str; 2] = ["memory allocation of ", "out of memory (failed to allocate "];
/// Longest message of the compiler that is kept, in bytes.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;

/// The bounds of the compiling process, and the sizes of its engine.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest linear memory of a job, in bytes, as in [`EngineSettings`].
    pub job_memory_bytes: usize,
    /// Stack of WebAssembly frames, in bytes, as in [`EngineSettings`].
    pub stack_bytes: usize,
    /// Most data of the process, in bytes.
    pub memory_bytes: usize,
    /// Most CPU time of all threads of the process, in seconds.
    pub cpu_seconds: u64,
}

/// The reason why a task has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileError {
    #[error("{0}")]
    Invalid(String),
    #[error("the compilation took longer than `compile-timeout` ({limit:?})")]
    Slow { limit: Duration },
    /// An allocation failed beyond `compile-memory`. The process aborts, panics, or says so, as the place of the allocation
    /// has it.
    #[error(
        "the compiler may use {memory_bytes} bytes of memory (`compile-memory`), and needs more: \
         an allocation of {allocation_bytes} bytes failed"
    )]
    OutOfMemory { memory_bytes: usize, allocation_bytes: u64 },
    /// A signal ended the process.
    #[error(
        "signal {signal} ended the compiler, which may use {memory_bytes} bytes of memory (`compile-memory`): {message}"
    )]
    Killed { signal: i32, memory_bytes: usize, message: String },
    #[error("the compiler `{}` cannot be started: {source}{}", program.display(), machine::why(source))]
    Start { program: PathBuf, source: io::Error },
    #[error("the compiler failed: {0}")]
    Host(String),
}

/// The program that compiles agents.
pub struct Compiler {
    program: PathBuf,
}

/// Machine code that is loaded into the engine.
pub(super) struct Compiled {
    pub(super) component: Component,
    /// Memory of the engine's structures for each instance, in bytes.
    pub(super) instance_bytes: u64,
}

impl Compiler {
    /// Compile with the running program, even after its file was replaced.
    pub fn own() -> Self {
        Self::new(machine::own_program())
    }

    /// Compile with the program at `program`, which must have the verb `compile`.
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a few hundred cores")]
    pub(super) fn start(&self, task: Task, settings: &AgentSettings) -> Result<Child, CompileError> {
        let failed = |source| CompileError::Start { program: self.program.clone(), source };
        let cores = std::thread::available_parallelism().map_err(failed)?.get() as u32;
        // A snapshot has three steps, of which each has its time.
        let steps = if task == Task::Snapshot { 3 } else { 1 };
        let cpu = settings.compile.timeout.saturating_mul(cores.saturating_mul(steps)).as_secs().saturating_add(1);
        let mut command = Command::new(&self.program);
        command.args(["compile", task.as_str()]).args([
            settings.limits.memory_bytes.to_string(),
            settings.limits.stack_bytes.to_string(),
            settings.compile.memory_bytes.to_string(),
            cpu.to_string(),
        ]);
        // The worker handles a Ctrl-C of the terminal.
        command.process_group(0);
        // The worker's environment has secrets.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(failed)
    }
}

/// Parse WebAssembly text.
pub(super) async fn parse(
    compiler: Option<&Compiler>,
    settings: &AgentSettings,
    text: Arc<Vec<u8>>,
) -> Result<Vec<u8>, CompileError> {
    match compiler {
        Some(compiler) => perform(compiler, Task::Text, settings, text).await,
        None => here(move || tasks::text(&text)).await,
    }
}

/// Read the names in a component.
pub(super) async fn contents(
    compiler: Option<&Compiler>,
    settings: &AgentSettings,
    component: Arc<Vec<u8>>,
) -> Result<Contents, CompileError> {
    let json = match compiler {
        Some(compiler) => perform(compiler, Task::Contents, settings, component).await?,
        None => here(move || tasks::contents(&component)).await?,
    };
    serde_json::from_slice(&json).map_err(|error| CompileError::Host(error.to_string()))
}

/// Compile a component for this engine.
pub(super) async fn compile(
    compiler: Option<&Compiler>,
    engine: &Engine,
    settings: &AgentSettings,
    component: Arc<Vec<u8>>,
) -> Result<Compiled, CompileError> {
    let code = match compiler {
        Some(compiler) => perform(compiler, Task::Code, settings, component).await?,
        None => {
            let engine = engine.clone();
            here(move || tasks::code(engine.wasmtime(), &component)).await?
        }
    };
    load_code(engine, code).await
}

/// Load what [`tasks::code`] gave, on a thread that no other task waits for.
pub(super) async fn load_code(engine: &Engine, code: Vec<u8>) -> Result<Compiled, CompileError> {
    let engine = engine.clone();
    let loaded = tokio::task::spawn_blocking(move || load(&engine, &code)).await;
    loaded.map_err(|panic| CompileError::Host(panic.to_string()))?
}

/// Do a task in this process, on a thread that no other task waits for.
async fn here<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, CompileError> {
    let done = tokio::task::spawn_blocking(task).await;
    done.map_err(|panic| CompileError::Host(panic.to_string()))?.map_err(CompileError::from)
}

impl From<TaskError> for CompileError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Component(why) => Self::Invalid(why),
            TaskError::Engine(_) | TaskError::Io(_) => Self::Host(error.to_string()),
        }
    }
}

/// Do a task in a process of its own.
async fn perform(
    compiler: &Compiler,
    task: Task,
    settings: &AgentSettings,
    input: Arc<Vec<u8>>,
) -> Result<Vec<u8>, CompileError> {
    let mut child = compiler.start(task, settings)?;
    let run = communicate(&mut child, input, settings.compile.memory_bytes);
    let (status, output, message) = tokio::time::timeout(settings.compile.timeout, run)
        .await
        .map_err(|_| CompileError::Slow { limit: settings.compile.timeout })?
        .map_err(|error| CompileError::Host(error.to_string()))?;
    judge(status, message, settings.compile)?;
    Ok(output)
}

/// Send the input to the compiler, and receive its output and its message.
async fn communicate(
    child: &mut Child,
    input: Arc<Vec<u8>>,
    output_bytes_max: usize,
) -> io::Result<(ExitStatus, Vec<u8>, String)> {
    let gone = || io::Error::other("a pipe is missing");
    let mut stdin = child.stdin.take().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    let stderr = child.stderr.take().ok_or_else(gone)?;
    let feed = async move {
        // The compiler may stop reading at any time; its status and its message say why.
        drop(stdin.write_all(&input).await);
    };
    let (output, message) = (read(stdout, output_bytes_max as u64), read_message(stderr));
    let ((), output, message) = futures_util::future::join3(feed, output, message).await;
    Ok((child.wait().await?, output?, message?))
}

/// Read at most `bytes_max`; a further write fails.
async fn read(pipe: impl AsyncRead + Unpin, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(bytes_max).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The message of a compiler, in one line.
pub(super) async fn read_message(stderr: impl AsyncRead + Unpin) -> io::Result<String> {
    let bytes = read(stderr, MESSAGE_BYTES_MAX).await?;
    Ok(clip(String::from_utf8_lossy(&bytes).trim()))
}

/// The failure that the status of a compiler means.
pub(super) fn judge(status: ExitStatus, message: String, limits: CompileLimits) -> Result<(), CompileError> {
    if status.success() {
        return Ok(());
    }
    if let Some(allocation_bytes) = failed_allocation(&message) {
        return Err(CompileError::OutOfMemory { memory_bytes: limits.memory_bytes, allocation_bytes });
    }
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(NOT_COMPILED) => Err(CompileError::Invalid(message)),
        (_, Some(signal)) => Err(CompileError::Killed { signal, memory_bytes: limits.memory_bytes, message }),
        (_, None) => Err(CompileError::Host(format!("{status}: {message}"))),
    }
}

/// The size of the allocation that a message calls failed, in bytes.
fn failed_allocation(message: &str) -> Option<u64> {
    let (_, size) = OUT_OF_MEMORY.iter().find_map(|words| message.split_once(words))?;
    size.split(' ').next()?.parse().ok()
}

fn load(engine: &Engine, output: &[u8]) -> Result<Compiled, CompileError> {
    let split = output.split_first_chunk::<{ tasks::INSTANCE_BYTES_LENGTH }>();
    let (instance_bytes, code) = split.ok_or_else(|| CompileError::Host("its output is truncated".into()))?;
    #[expect(unsafe_code, reason = "the only way to load compiled code")]
    // SAFETY: `code` was serialized by this very program, in a process that it started and that nobody else can write to
    // the standard output of. The engine itself checks that version and settings are its own.
    let component = unsafe { Component::deserialize(engine.wasmtime(), code) };
    let component = component.map_err(|error| match machine::refused(&error) {
        true => CompileError::Host(format!("the system does not let it load machine code: {}", chain(&error))),
        // The remaining reason is an instance that exceeds the engine's pool.
        false => CompileError::Invalid(chain(&error)),
    })?;
    Ok(Compiled { component, instance_bytes: u64::from_le_bytes(*instance_bytes) })
}

/// Do a task between standard input and standard output. This is the verb `compile`, in the process that a [`Compiler`] starts.
///
/// # Errors
/// When the component cannot be used, or the machine fails.
pub fn serve(task: Task, bounds: Bounds) -> Result<(), TaskError> {
    let Bounds { job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds } = bounds;
    limit(Resource::Data, memory_bytes as u64)?;
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::Core, 0)?;
    start_threads()?;
    let settings = EngineSettings { slots: 1, memory_bytes: job_memory_bytes, stack_bytes };
    let input = || {
        let mut input = Vec::new();
        io::stdin().read_to_end(&mut input).map(|_| input)
    };
    let output = match task {
        Task::Snapshot => return tasks::snapshot(settings, io::stdin(), io::stdout()),
        Task::Text => tasks::text(&input()?)?,
        Task::Contents => tasks::contents(&input()?)?,
        Task::Code => tasks::code(&tasks::engine(settings, Purpose::Jobs)?, &input()?)?,
    };
    Ok(io::stdout().write_all(&output)?)
}

/// Start the threads of the compiler: one for each core, or none where the system allows no more. By itself the compiler would
/// panic then.
fn start_threads() -> io::Result<()> {
    // A global pool whose threads cannot start is not built again, so the threads are tried in a pool that is dropped.
    let allowed = rayon::ThreadPoolBuilder::new().build().is_ok();
    let pool = rayon::ThreadPoolBuilder::new();
    let pool = if allowed { pool } else { pool.num_threads(1).use_current_thread() };
    pool.build_global().map_err(io::Error::other)
}

/// Lower a limit for good. A limit that is lower already stays as it is.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(setrlimit(resource, Rlimit { current: most, maximum: most })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_allocation_is_named_however_the_compiler_ends() {
        let limits = CompileLimits::default();
        let judged = |status: i32, message: &str| judge(ExitStatus::from_raw(status), message.into(), limits);
        let aborted = (6, "memory allocation of 4096 bytes failed");
        let panicked =
            (101 << 8, "map.rs:116:31: unhandled error: out of memory (failed to allocate 4096 bytes) note: run");
        let said = (i32::from(NOT_COMPILED) << 8, "out of memory (failed to allocate 4096 bytes)");
        for (status, message) in [aborted, panicked, said] {
            let judged = judged(status, message).unwrap_err();
            assert!(matches!(judged, CompileError::OutOfMemory { allocation_bytes: 4096, .. }), "{message}: {judged}");
        }
        assert!(matches!(judged(9, ""), Err(CompileError::Killed { signal: 9, .. })));
        assert!(matches!(judged(101 << 8, "index out of bounds"), Err(CompileError::Host(_))));
        assert!(judged(0, "").is_ok());
    }
}
