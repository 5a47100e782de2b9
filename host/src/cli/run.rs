//! `wasm-worker run`: a worker, several worker processes, or with `--job` the jobs of [`local_jobs`].

use std::path::PathBuf;

use clap::Args;
use tracing::level_filters::LevelFilter;
use wasm_worker_core::text::plural;

use super::job_spec::JobFlags;
use super::settings::{SettingFlags, log_unknown_variables};
use super::sound_files::SoundFlags;
use super::{Exit, Failure, local_jobs, logging, say};
use crate::app::process::Supervised;
use crate::app::{Served, Worker, fleet};
use crate::config::Config;
use crate::fleet::{FleetOutcome, GaveUp};
use crate::load::RustLoadFunction;
use wasm_worker_sandbox::machine::own_program;

#[derive(Args)]
pub(crate) struct RunArgs {
    /// `.wasm` files, `.wat` files, or directories of agent crates; exactly one with `--job`. cargo builds a directory, and runs
    /// its build scripts and macros: the code of a crate must be trusted
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<PathBuf>,
    /// Run one job, or `--count` jobs, without a server; print the records, and exit
    #[arg(long)]
    job: bool,
    /// Number of jobs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), requires = "job")]
    count: u32,
    /// Number of jobs at once, up to 20000 or as many as the kernel's memory mappings allow
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20_000), requires = "job")]
    concurrency: u32,
    #[command(flatten)]
    flags: JobFlags,
    #[command(flatten)]
    sound: SoundFlags,
    /// Index of this process of `--workers`; set by the supervisor
    #[arg(long, value_name = "INDEX", hide = true)]
    supervised: Option<usize>,
    /// Name of this process at the dispatcher; set by the supervisor
    #[arg(long, value_name = "ID", hide = true, requires = "supervised", default_value = "")]
    instance: String,
    #[command(flatten)]
    settings: SettingFlags,
}

/// `load` is the load function of the calling program, for a worker.
pub(crate) fn run(args: RunArgs, load: Option<RustLoadFunction>) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    if args.job {
        let sound = args.sound.read(args.count)?;
        return local_jobs::run(&args.agents, (args.count, args.concurrency), args.flags, sound, &config);
    }
    if !args.flags.is_empty() {
        let failure = Failure::usage("`--room`, `--metadata`, `--attribute` and `--spec` need `--job`");
        return Err(failure.with_hint("a worker gets its jobs from a dispatcher: see `wasm-worker dispatch`"));
    }
    let log = logging::start(&config, LevelFilter::INFO);
    if args.supervised.is_none() {
        log_unknown_variables();
    }
    let supervised = args.supervised.map(|index| Supervised { index, instance: args.instance });
    let served = match supervised {
        None if config.workers > 1 => supervise(&args.agents, &config),
        supervised => serve(args.agents, config, supervised, load),
    };
    drop(log);
    served
}

/// One worker process, of its own or of a supervisor.
fn serve(
    agents: Vec<PathBuf>,
    config: Config,
    supervised: Option<Supervised>,
    load: Option<RustLoadFunction>,
) -> Result<Exit, Failure> {
    let mut builder = agents.into_iter().fold(Worker::builder(config), |builder, agent| builder.agent(agent));
    if let Some(load) = load {
        builder = builder.load_function(move |sample| load(sample));
    }
    if let Some(process) = supervised {
        builder = builder.supervised(process);
    }
    match builder.compiler(own_program()).handle_signals().start()?.run()? {
        Served { gave_up: Some(why), .. } => Err(no_server(&why)),
        Served { cut_short: 0, .. } => Ok(Exit::Ok),
        Served { cut_short, killed, .. } => {
            say(&format!("{} cut short, {killed} killed", plural(cut_short, "job")));
            // A drain whose jobs ended when they were asked to is a success: a service manager asked for it.
            Ok(if killed == 0 { Exit::Ok } else { Exit::Interrupted })
        }
    }
}

/// Several worker processes.
fn supervise(agents: &[PathBuf], config: &Config) -> Result<Exit, Failure> {
    match fleet::run(agents, config)? {
        FleetOutcome { gave_up: Some(GaveUp::Server { why }), .. } => Err(no_server(&why)),
        FleetOutcome { gave_up: Some(GaveUp::Dying { why }), .. } => {
            let error = format!("worker processes keep dying; gave up; the last one {why}").into();
            Err(Failure { exit: Exit::Host, error, hint: None })
        }
        FleetOutcome { exit: 0, .. } => Ok(Exit::Ok),
        FleetOutcome { exit: 130, .. } => Ok(Exit::Interrupted),
        FleetOutcome { .. } => Ok(Exit::Host),
    }
}

fn no_server(why: &str) -> Failure {
    Failure {
        exit: Exit::Host,
        error: format!("no connection to the server: {why}").into(),
        hint: Some("check LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, and that the clocks agree".into()),
    }
}
