//! The command line: flags, help, output and exit status. Decisions about jobs are made elsewhere.

mod failure;
mod terminal;

mod settings;
mod logging;

mod table;
mod verdict;
mod waits;
mod in_room;
mod summary;

mod job_spec;
mod sound_files;
mod load_generator;

mod client;
mod remote;
mod local_jobs;
mod run;
mod serve;

mod job;
mod jobs;
mod workers;
mod rooms;
mod usage;
mod cancel;
mod dispatch;
mod token;

mod ps;
mod logs;
mod kill;
mod drain;
mod events;

mod bench;
mod capacity;
mod inspect;
mod prepare;
mod replay;
mod build;
mod new;
mod test;
mod compile;

mod config;
mod doctor;
mod explain;
mod completions;
mod man;
mod mock_models;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use strsim::damerau_levenshtein;

use wasm_worker_core::load::Sample;
use wasm_worker_core::verdict::Class;
use wasm_worker_sandbox::machine;

use crate::load::RustLoadFunction;
use failure::Failure;
use terminal::{print, print_exactly, print_json, say};

/// Run LiveKit agent jobs, each in its own WebAssembly instance.
#[derive(Parser)]
#[command(name = "wasm-worker", version, about, arg_required_else_help = true, after_help = EXIT_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run agents, with an embedded dispatcher or for a LiveKit server; `--job` runs one job and exits
    Run(Box<run::RunArgs>),
    /// Dispatch a job to an agent; `--wait` waits for its verdict
    Dispatch(Box<dispatch::DispatchArgs>),
    /// List dispatches: waiting, running and ended
    Jobs(Box<jobs::JobsArgs>),
    /// Show one dispatch: its attempts, what its job waits for, its verdict and its backtrace
    Job(Box<job::JobArgs>),
    /// List the workers of a dispatcher, with their loads and jobs
    Workers(Box<workers::WorkersArgs>),
    /// List the rooms of a server and who is in them, or follow the texts of one
    Rooms(Box<rooms::RoomsArgs>),
    /// Sum the bills of jobs that ended: time, CPU, fuel, network and models, by agent, API key or host
    Usage(Box<usage::UsageArgs>),
    /// Cancel dispatches; running jobs are asked to stop
    Cancel(Box<cancel::CancelArgs>),
    /// Run a dispatcher without agents; workers connect to it
    Serve(Box<serve::ServeArgs>),
    /// Print a token for a client or a worker
    Token(Box<token::TokenArgs>),
    /// Measure an agent: start time, job time, CPU, fuel, memory, jobs a second
    Bench(Box<bench::BenchArgs>),
    /// Compute how many jobs of an agent a machine runs at once, and the bottleneck
    Capacity(Box<capacity::CapacityArgs>),
    /// Compile an agent crate to a WebAssembly component
    Build(build::BuildArgs),
    /// Create an agent crate
    New(new::NewArgs),
    /// Play scenarios with an agent, under virtual time, and check what it does
    Test(Box<test::TestArgs>),
    /// Serve a stand-in for models, which answers as a script says
    MockModels(mock_models::MockModelsArgs),
    /// Show the imports, exports, sizes, limits and prewarm of an agent
    Inspect(Box<inspect::InspectArgs>),
    /// Compile agents into the cache and exit, so that a worker starts at once: for the build of a container
    Prepare(Box<prepare::PrepareArgs>),
    /// Replay recorded jobs: the same calls, fuel and end, or the first difference; show their timelines
    Replay(Box<replay::ReplayArgs>),
    /// List the workers of this machine, and their running jobs with what each waits for
    Ps(Box<ps::PsArgs>),
    /// Show the log lines of a job
    Logs(Box<logs::LogsArgs>),
    /// End running jobs by force
    Kill(Box<kill::KillArgs>),
    /// Drain workers: they take no more jobs, and end after their last one
    Drain(Box<drain::DrainArgs>),
    /// Follow the events of workers, one JSON object a line
    Events(Box<events::EventsArgs>),
    /// Check settings
    Config(config::ConfigArgs),
    /// Check what a worker needs of this machine and of its server; print the line to change
    Doctor(Box<doctor::DoctorArgs>),
    /// Compile the component on standard input; the program calls this itself
    #[command(hide = true)]
    Compile(compile::CompileArgs),
    /// Explain end codes and reasons of refusals, with advice
    Explain(explain::ExplainArgs),
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write those of all commands to a directory
    Man(man::ManArgs),
}

const EXIT_HELP: &str = "\
Exit status:
   0  success: every job ended as intended (completed, terminated, drained)
   1  wasm-worker or the machine failed (host-fault, lost)
   2  wrong usage: flags, settings, or the description of a job
   3  the agent cannot be built or loaded
   4  the agent refused the offer
  10  a job failed              11  a job trapped
  12  a limit ended a job       13  a job did not start (init-timeout, init-failed)
  14  a job was killed, or did not stop in time
  15  a dispatch did not become a job (rejected, cancelled, expired, unserved)
  16  a replay differs from its recording
  17  a scenario of `test` failed
 130  a signal ended the command before its time, and jobs were killed or not started";

/// The exit status.
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
    Differs = 16,
    Test = 17,
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

/// The program `wasm-worker`: parse the command line, run the verb, and print its error.
pub fn main() -> ExitCode {
    run_verb(None)
}

/// The same with a load function of the calling program. See [`crate::app`] for a worker without this command line.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// // The share of `max-jobs` in use, whatever the machine does.
/// fn main() -> ExitCode {
///     wasm_worker::cli::main_with_load(|sample| sample.jobs as f64 / sample.jobs_max as f64)
/// }
/// ```
pub fn main_with_load(load: impl Fn(&Sample) -> f64 + Send + Sync + 'static) -> ExitCode {
    run_verb(Some(Arc::new(load)))
}

/// The error of an unknown verb, with the verbs that are one edit away: clap's own measure knows no similar word for one of three
/// letters.
fn with_similar_verbs(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
        && let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand)
    {
        let command = Cli::command();
        let names = command.get_subcommands().map(|verb| verb.get_name().to_owned());
        let similar: Vec<String> = names.filter(|name| damerau_levenshtein(given, name) == 1).collect();
        if !similar.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(similar));
        }
    }
    error
}

fn run_verb(load: Option<RustLoadFunction>) -> ExitCode {
    machine::return_large_buffers();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = with_similar_verbs(error);
            let usage = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return ExitCode::from(match error.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Host as u8,
                Ok(()) | Err(_) => usage as u8,
            });
        }
    };
    let done = match cli.verb {
        Verb::Run(args) => run::run(*args, load),
        Verb::Dispatch(args) => dispatch::run(*args),
        Verb::Jobs(args) => jobs::run(*args),
        Verb::Job(args) => job::run(*args),
        Verb::Workers(args) => workers::run(*args),
        Verb::Rooms(args) => rooms::run(*args),
        Verb::Usage(args) => usage::run(*args),
        Verb::Cancel(args) => cancel::run(*args),
        Verb::Serve(args) => serve::run(*args),
        Verb::MockModels(args) => mock_models::run(args),
        Verb::Token(args) => token::run(*args),
        Verb::Bench(args) => bench::run(*args),
        Verb::Capacity(args) => capacity::run(*args),
        Verb::Build(args) => build::run(&args),
        Verb::New(args) => new::run(&args),
        Verb::Test(args) => test::run(*args),
        Verb::Inspect(args) => inspect::run(*args),
        Verb::Prepare(args) => prepare::run(*args),
        Verb::Replay(args) => replay::run(*args),
        Verb::Ps(args) => ps::run(*args),
        Verb::Logs(args) => logs::run(*args),
        Verb::Kill(args) => kill::run(*args),
        Verb::Drain(args) => drain::run(*args),
        Verb::Events(args) => events::run(*args),
        Verb::Config(args) => config::run(args),
        Verb::Doctor(args) => doctor::run(*args),
        Verb::Compile(args) => Ok(compile::run(&args)),
        Verb::Explain(args) => explain::run(&args),
        Verb::Completions(args) => completions::run(&args, &Cli::command()),
        Verb::Man(args) => man::run(&args, Cli::command()),
    };
    let exit = match done {
        Ok(exit) => exit,
        // The reader has what it wants.
        Err(failure) if failure.is_closed_pipe() => Exit::Ok,
        Err(failure) => {
            report(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// Print `error:`, its causes, the backtrace of an agent that did not start, and `hint:`, each on a line of its own.
fn report(failure: &Failure) {
    let mut text = format!("error: {}", failure.error);
    let mut cause = failure.error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  caused by: {error}"));
        cause = error.source();
    }
    if let Some(verdict) = failure.init_verdict() {
        verdict::frames(verdict).iter().for_each(|frame| text.push_str(&format!("\n{frame}")));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    say(&text);
}
