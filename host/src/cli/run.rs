//! `wasm-worker run`: a worker, several worker processes, or with `--job` some jobs of one agent without a server.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::job_spec::JobFlags;
use super::settings::SettingFlags;
use super::summary::{Summary, describe};
use super::{Exit, Failure, logging, print_json, say};
use crate::app::process::Supervised;
use crate::app::{Served, Worker, fleet, open_cache};
use crate::config::Config;
use crate::fleet::{FleetServed, GaveUp};
use crate::load::RustLoadFunction;
use crate::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::text::plural;
use wasm_worker_core::verdict::Verdict;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, AgentError, JobHandle, source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::admission::Offer;
use wasm_worker_sandbox::runtimes::Runtimes;

#[derive(Args)]
pub(crate) struct RunArgs {
    /// `.wasm` files, `.wat` files, or directories of agent crates; exactly one with `--job`
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<PathBuf>,
    /// Run one job without a server, print its record, and exit
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
    /// Index of this process of `--workers`; set by the supervisor
    #[arg(long, value_name = "INDEX", hide = true)]
    supervised: Option<usize>,
    /// Name of this process at the dispatcher; set by the supervisor
    #[arg(long, value_name = "ID", hide = true, requires = "supervised", default_value = "")]
    instance: String,
    #[command(flatten)]
    settings: SettingFlags,
}

/// The outcome of one offer.
enum Outcome {
    Closed(Box<JobRecord>),
    Refused {
        job: String,
        refusal: Refusal,
    },
    /// The run was interrupted before the offer.
    NotStarted,
    /// The runtime of the guests has ended.
    Lost,
}

/// `load` is the load function of the calling program, for a worker.
pub(crate) fn run(args: RunArgs, load: Option<RustLoadFunction>) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    if args.job {
        return run_jobs(&args.agents, args.count, args.concurrency, args.flags, &config);
    }
    if !args.flags.is_empty() {
        let failure = Failure::usage("`--room`, `--metadata`, `--attribute` and `--spec` need `--job`");
        return Err(failure.with_hint("a worker gets its jobs from a dispatcher: see `wasm-worker dispatch`"));
    }
    let log = logging::start(&config, LevelFilter::INFO);
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
    match builder.compiler(OWN_PROGRAM).handle_signals().start()?.run()? {
        Served { gave_up: Some(why), .. } => Err(no_server(&why)),
        Served { cut_short: 0, .. } => Ok(Exit::Ok),
        Served { cut_short, .. } => {
            say(&format!("{} cut short", plural(cut_short, "job")));
            Ok(Exit::Interrupted)
        }
    }
}

/// This very program, also when another one has taken its place on disk since it was started.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Several worker processes.
fn supervise(agents: &[PathBuf], config: &Config) -> Result<Exit, Failure> {
    match fleet::run(agents, config)? {
        FleetServed { gave_up: Some(GaveUp::Server { why }), .. } => Err(no_server(&why)),
        FleetServed { gave_up: Some(GaveUp::Dying { why }), .. } => {
            let error = format!("gave up, because worker processes keep dying; the last one {why}").into();
            Err(Failure { exit: Exit::Host, error, hint: None })
        }
        FleetServed { exit: 0, .. } => Ok(Exit::Ok),
        FleetServed { exit: 130, .. } => Ok(Exit::Interrupted),
        FleetServed { .. } => Ok(Exit::Host),
    }
}

fn no_server(why: &str) -> Failure {
    Failure {
        exit: Exit::Host,
        error: format!("no connection to the server: {why}").into(),
        hint: Some("check LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, and that the clocks agree".into()),
    }
}

/// Jobs of one agent without a server.
fn run_jobs(
    agents: &[PathBuf],
    count: u32,
    concurrency: u32,
    flags: JobFlags,
    config: &Config,
) -> Result<Exit, Failure> {
    let [agent] = agents else {
        return Err(Failure::usage("`--job` takes exactly one agent"));
    };
    let default = if count > 1 { LevelFilter::WARN } else { LevelFilter::INFO };
    let log = logging::start(config, default);
    let spec = flags.into_spec()?;
    let source = source::read(agent)?;
    let runtimes = Runtimes::start()?;
    let made = runtimes.block_on(async {
        let runner = Runner::start(&runtimes, source, config, concurrency).await?;
        let offers = spec.into_offers(runner.agent.name());
        runner.run(count, concurrency, offers).await
    });
    runtimes.shut_down();
    // The log is written before the summary.
    drop(log);
    let report = made?;
    say(&report.text);
    Ok(report.exit)
}

struct Report {
    text: String,
    exit: Exit,
}

struct Runner {
    engine: Engine,
    agent: Agent,
    events: Arc<Events>,
    running: Mutex<HashMap<String, JobHandle>>,
    interrupted: AtomicBool,
}

/// A line of standard output for an agent that cannot take jobs.
#[derive(Serialize)]
struct AgentRecord<'a> {
    record: &'static str,
    at: Timestamp,
    agent: &'a str,
    verdict: &'a Verdict,
}

/// A line of standard output for an offer that was refused.
#[derive(Serialize)]
struct RefusalRecord<'a> {
    record: &'static str,
    at: Timestamp,
    job: &'a str,
    agent: &'a str,
    refused: &'a str,
    detail: &'a str,
    terminate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a Verdict>,
}

/// A line of standard output for a job that ran.
#[derive(Serialize)]
struct JobLine<'a> {
    record: &'static str,
    #[serde(flatten)]
    closed: &'a JobRecord,
}

impl Runner {
    async fn start(
        runtimes: &Runtimes,
        source: source::Source,
        config: &Config,
        concurrency: u32,
    ) -> Result<Self, Failure> {
        let settings = config.engine_settings(concurrency);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
        let events = publisher(&EventLines::open(&config.events)?, None);
        let cache = open_cache(config);
        let loaded = Agent::load(&engine, source, &config.agent, cache.as_ref(), Some(&Compiler::own()), &events).await;
        if let Err(AgentError::Init { agent, verdict }) = &loaded {
            print_json(&AgentRecord { record: "agent", at: Timestamp::now(), agent, verdict })?;
        }
        let (running, interrupted) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { engine, agent: loaded?, events, running, interrupted })
    }

    async fn run(&self, count: u32, concurrency: u32, offer: impl Fn() -> Offer) -> Result<Report, Failure> {
        let bar = progress_bar(count);
        let mut summary = Summary::begin();
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let jobs = futures_util::stream::iter(0..count).map(|_| self.one(&offer));
        let mut outcomes = std::pin::pin!(jobs.buffer_unordered(concurrency as usize));
        loop {
            tokio::select! {
                    // A signal must not wait behind ten thousand outcomes.
                biased;
                _ = interrupts.recv() => self.interrupt(),
                _ = terminations.recv() => self.interrupt(),
                outcome = outcomes.next() => match outcome {
                    None => break,
                    Some(outcome) => {
                        self.record(&outcome, &mut summary)?;
                        bar.inc(1);
                    }
                }
            }
        }
        bar.finish_and_clear();
        Ok(self.report(count, &summary))
    }

    async fn one(&self, offer: &impl Fn() -> Offer) -> Outcome {
        if self.interrupted.load(Ordering::Relaxed) {
            return Outcome::NotStarted;
        }
        let offer = offer();
        let job = offer.info.id.clone();
        let running = match self.agent.offer(offer, &self.events).await {
            Ok(running) => running,
            Err(refusal) => return Outcome::Refused { job, refusal },
        };
        self.handles().insert(job.clone(), running.handle());
        if self.interrupted.load(Ordering::Relaxed) {
            running.handle().stop(StopBy::Drain, INTERRUPTED);
        }
        let closed = running.closed().await;
        self.handles().remove(&job);
        closed.map_or(Outcome::Lost, |closed| Outcome::Closed(Box::new(closed)))
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<String, JobHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first signal asks the jobs to stop, and the second kills them.
    fn interrupt(&self) {
        let handles = self.handles();
        if self.interrupted.swap(true, Ordering::Relaxed) {
            say(&format!("killing {}", plural(handles.len(), "job")));
            handles.values().for_each(JobHandle::kill);
        } else {
            say(&format!("asking {} to stop; a second signal kills", plural(handles.len(), "job")));
            handles.values().for_each(|handle| handle.stop(StopBy::Drain, INTERRUPTED));
        }
    }

    fn record(&self, outcome: &Outcome, summary: &mut Summary) -> Result<(), Failure> {
        match outcome {
            Outcome::Closed(closed) => {
                print_json(&JobLine { record: "job", closed })?;
                summary.closed(closed);
            }
            Outcome::Refused { job, refusal } => {
                let Refusal { reason, detail, terminate, verdict } = refusal;
                print_json(&RefusalRecord {
                    record: "refusal",
                    at: Timestamp::now(),
                    job,
                    agent: self.agent.name(),
                    refused: reason.as_str(),
                    detail,
                    terminate: *terminate,
                    verdict: verdict.as_deref(),
                })?;
                summary.refused(refusal);
            }
            Outcome::NotStarted => summary.not_started += 1,
            Outcome::Lost => summary.lost += 1,
        }
        Ok(())
    }

    fn report(&self, count: u32, summary: &Summary) -> Report {
        let mut text = match (&summary.last, count) {
            (Some(closed), 1) => describe(closed),
            _ => summary.text(self.engine.ticker()),
        };
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        if interrupted {
            text.push_str(&format!(
                "\ninterrupted: {} not started, {} cut short",
                summary.not_started,
                summary.cut_short()
            ));
        }
        let cut_short = summary.not_started > 0 || summary.cut_short() > 0;
        let exit = if interrupted && cut_short { Exit::Interrupted } else { summary.exit() };
        Report { text, exit }
    }
}

const INTERRUPTED: &str = "interrupted";

/// Shown for several jobs, when standard error is a terminal and the records go elsewhere.
fn progress_bar(count: u32) -> ProgressBar {
    if count == 1 || !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs, {eta} left");
    let bar = ProgressBar::new(count.into());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
