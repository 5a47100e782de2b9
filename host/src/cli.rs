//! The command line: what it accepts, and what its exit status means. No decisions about jobs are made here.

mod bench;
mod build;
mod cancel;
mod capacity;
mod client;
mod compile;
mod config;
mod dispatch;
mod drain;
mod events;
mod explain;
mod fleet;
mod inspect;
mod job;
mod job_spec;
mod jobs;
mod kill;
mod lanes;
mod logging;
mod new;
mod ps;
mod remote;
mod run;
mod serve;
mod settings;
mod summary;
mod token;
mod worker;
mod workers;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use wasm_worker_core::load::Sample;
use wasm_worker_core::verdict::Class;
use wasm_worker_sandbox::agent::AgentError;
use wasm_worker_sandbox::agent::artifact::{Cache, CacheError};
use wasm_worker_sandbox::agent::source::SourceError;
use wasm_worker_sandbox::engine::EngineError;

use crate::config::{Config, ConfigError};
use crate::load::RustLoadFunction;
use crate::observers::EventsError;

/// Run LiveKit agent jobs, each in its own WebAssembly instance.
#[derive(Parser)]
#[command(name = "wasm-worker", version, about, arg_required_else_help = true, after_help = EXIT_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run agents: with a dispatcher, for a LiveKit server, or with `--job` here and now
    Run(Box<run::RunArgs>),
    /// Have an agent run a job; wait for its verdict with `--wait`
    Dispatch(Box<dispatch::DispatchArgs>),
    /// Show the dispatches that wait, run, and have ended
    Jobs(Box<jobs::JobsArgs>),
    /// Show one dispatch, its attempts, and how it ended
    Job(Box<job::JobArgs>),
    /// Show the workers of the pool, with their loads and jobs
    Workers(Box<workers::WorkersArgs>),
    /// Stop dispatches
    Cancel(Box<cancel::CancelArgs>),
    /// Run the dispatcher alone; workers join it
    Serve(Box<serve::ServeArgs>),
    /// Make a token for a client or a worker
    Token(Box<token::TokenArgs>),
    /// Measure an agent: start, whole job, CPU, fuel, memory, jobs a second
    Bench(Box<bench::BenchArgs>),
    /// Say how many jobs of an agent a machine takes, and what binds it
    Capacity(Box<capacity::CapacityArgs>),
    /// Compile an agent crate to a WebAssembly component
    Build(build::BuildArgs),
    /// Make a new agent crate
    New(new::NewArgs),
    /// Show an agent's imports, exports, sizes, limits and prewarm
    Inspect(Box<inspect::InspectArgs>),
    /// Show the workers that run, and their jobs
    Ps(Box<ps::PsArgs>),
    /// End jobs that run, now
    Kill(Box<kill::KillArgs>),
    /// Have workers take no more jobs, and end when they have none
    Drain(Box<drain::DrainArgs>),
    /// Follow what workers publish, as lines of JSON
    Events(Box<events::EventsArgs>),
    /// Check settings
    Config(config::ConfigArgs),
    /// Compile a component from standard input; the program runs this itself
    #[command(hide = true)]
    Compile(compile::CompileArgs),
    /// Say what an end code, or the reason of a refusal, means and what to do about it
    Explain(explain::ExplainArgs),
}

const EXIT_HELP: &str = "\
Exit status:
   0  every job ended well (completed, terminated, drained)
   1  wasm-worker itself failed (host-fault, lost)
   2  wrong usage: flags, settings, a job's description
   3  the agent could not be built or loaded
   4  the agent refused the offer
  10  a job failed              11  a job trapped
  12  a limit ended a job       13  a job never began (init-timeout, init-failed)
  14  a job was killed, or did not stop in time
  15  a dispatch never became a job (rejected, cancelled, expired, unserved)
 130  interrupted, and something was cut short";

/// What the exit status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Host = 1,
    Usage = 2,
    Agent = 3,
    Refused = 4,
    Failed = 10,
    Trapped = 11,
    Limit = 12,
    Init = 13,
    Stopped = 14,
    Undelivered = 15,
    Interrupted = 130,
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Ok => Self::Ok,
            Class::Failed => Self::Failed,
            Class::Trapped => Self::Trapped,
            Class::Limit => Self::Limit,
            Class::Init => Self::Init,
            Class::Stopped => Self::Stopped,
            Class::Host => Self::Host,
            Class::Undelivered => Self::Undelivered,
        }
    }
}

/// A verb could not do its work.
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

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match &error {
            EngineError::TooManySlots { .. } | EngineError::TooManyMappings { .. } => Exit::Usage,
            EngineError::Wasmtime(_) | EngineError::Ticker(_) => Exit::Host,
        };
        let hint = error.hint();
        Self { exit, error: error.into(), hint }
    }
}

impl From<EventsError> for Failure {
    fn from(error: EventsError) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hint: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Host, error: error.into(), hint: None }
    }
}

/// Parse, run the verb, print what went wrong.
pub fn main() -> ExitCode {
    run_verb(None)
}

/// The same, for a program that brings its own load function for workers.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// // As full as its slots are, whatever the machine does.
/// fn main() -> ExitCode {
///     wasm_worker::cli::main_with_load(|sample| sample.jobs as f64 / sample.jobs_max as f64)
/// }
/// ```
pub fn main_with_load(load: impl Fn(&Sample) -> f64 + Send + Sync + 'static) -> ExitCode {
    run_verb(Some(Arc::new(load)))
}

fn run_verb(load: Option<RustLoadFunction>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            let usage = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return ExitCode::from(if printed.is_ok() { usage as u8 } else { Exit::Host as u8 });
        }
    };
    let done = match cli.verb {
        Verb::Run(args) => run::run(*args, load),
        Verb::Dispatch(args) => dispatch::run(*args),
        Verb::Jobs(args) => jobs::run(*args),
        Verb::Job(args) => job::run(*args),
        Verb::Workers(args) => workers::run(*args),
        Verb::Cancel(args) => cancel::run(*args),
        Verb::Serve(args) => serve::run(*args),
        Verb::Token(args) => token::run(*args),
        Verb::Bench(args) => bench::run(*args),
        Verb::Capacity(args) => capacity::run(*args),
        Verb::Build(args) => build::run(&args),
        Verb::New(args) => new::run(&args),
        Verb::Inspect(args) => inspect::run(*args),
        Verb::Ps(args) => ps::run(*args),
        Verb::Kill(args) => kill::run(*args),
        Verb::Drain(args) => drain::run(*args),
        Verb::Events(args) => events::run(*args),
        Verb::Config(args) => config::run(args),
        Verb::Compile(args) => Ok(compile::run(&args)),
        Verb::Explain(args) => explain::run(&args),
    };
    let exit = done.unwrap_or_else(|failure| {
        report(&failure);
        failure.exit
    });
    ExitCode::from(exit as u8)
}

/// `error: what: why`, and `hint:` on a line of its own.
fn report(failure: &Failure) {
    let mut text = format!("error: {}", failure.error);
    let mut cause = failure.error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  caused by: {error}"));
        cause = error.source();
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    say(&text);
}

/// A line for people. Nobody can be told when standard error is gone.
pub(crate) fn say(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// A line of data.
pub(crate) fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// The cache of compiled agents; without one the work is done again each time.
pub(crate) fn open_cache(config: &Config) -> Option<Cache> {
    let opened = Cache::open(&config.cache_dir);
    opened
        .map_err(|error: CacheError| {
            let why = error.source.to_string();
            tracing::warn!(target: "host", why, "{error}; agents are compiled each time (set --cache-dir)");
        })
        .ok()
}
