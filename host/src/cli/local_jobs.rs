//! `wasm-worker run --job`: jobs of one agent without a server, offered to the agent as a worker does.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::job_spec::JobFlags;
use super::sound_files::SoundFiles;
use super::summary::{Summary, describe};
use super::terminal::is_styled;
use super::{Exit, Failure, logging, print_json, say};
use crate::app::open_cache;
use crate::app::process::{OF_COMMANDS, end_at_next_signal, handle_signals, survive_large_files};
use crate::config::Config;
use crate::grants::AgentNetworks;
use crate::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::text::plural;
use wasm_worker_core::verdict::Verdict;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, AgentError, source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::launch::JobHandle;
use wasm_worker_sandbox::job::offer::Offer;
use wasm_worker_sandbox::runtimes::Runtimes;

/// Run these jobs, and print a line of JSON for each outcome.
pub(super) fn run(
    agents: &[PathBuf],
    (count, concurrency): (u32, u32),
    flags: JobFlags,
    mut files: Option<SoundFiles>,
    config: &Config,
) -> Result<Exit, Failure> {
    let [agent] = agents else {
        return Err(Failure::usage("`--job` takes exactly one agent"));
    };
    let default = if count > 1 { LevelFilter::WARN } else { LevelFilter::INFO };
    let log = logging::start(config, default);
    let spec = flags.into_spec()?;
    let source = source::read(agent)?;
    let lines = EventLines::open_all(config)?;
    let runtimes = Runtimes::start()?;
    let made = runtimes.block_on(async {
        survive_large_files()?;
        let runner = Runner::start(&runtimes, (source, agent.is_dir()), config, &lines, concurrency).await?;
        let offers = spec.into_offers(runner.agent.name());
        let offers = || match &files {
            Some(files) => offers().with_sound(files.sound.clone()),
            None => offers(),
        };
        runner.run(count, concurrency, offers).await
    });
    runtimes.shut_down();
    lines.close();
    // The log is written before the summary.
    drop(log);
    let report = made?;
    say(&report.text);
    if let Some(files) = &mut files {
        files.write()?;
    }
    Ok(report.exit)
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

struct Report {
    text: String,
    exit: Exit,
}

struct Runner {
    engine: Engine,
    agent: Agent,
    /// Dropped, the requests of the jobs fail.
    _networks: AgentNetworks,
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
        (source, is_own): (source::Source, bool),
        config: &Config,
        lines: &Arc<EventLines>,
        concurrency: u32,
    ) -> Result<Self, Failure> {
        let settings = config.engine_settings(concurrency);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
        let events = publisher(lines, None);
        let (cache, own) = (open_cache(config), config.of_agent(&source.name));
        let loaded = Agent::load(&engine, source, &own.agent, cache.as_ref(), Some(&Compiler::own()), &events).await;
        if let Err(AgentError::Init { agent, verdict, .. }) = &loaded {
            print_json(&AgentRecord { record: "agent", at: Timestamp::now(), agent, verdict })?;
        }
        let (running, interrupted) = (Mutex::default(), AtomicBool::new(false));
        let (agent, networks) = (loaded?, AgentNetworks::default());
        let agent = networks.grant(agent, own, is_own)?;
        Ok(Self { engine, agent, _networks: networks, events, running, interrupted })
    }

    async fn run(&self, count: u32, concurrency: u32, offer: impl Fn() -> Offer) -> Result<Report, Failure> {
        let bar = progress_bar(count);
        let mut summary = Summary::begin();
        handle_signals(&OF_COMMANDS)?;
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
        end_at_next_signal();
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

    /// The first signal asks the jobs to stop, the second kills them, and the third ends the process.
    fn interrupt(&self) {
        let handles = self.handles();
        if self.interrupted.swap(true, Ordering::Relaxed) {
            end_at_next_signal();
            handles.values().for_each(JobHandle::kill);
            say(&format!("killing {}", plural(handles.len(), "job")));
        } else {
            handles.values().for_each(|handle| handle.stop(StopBy::Drain, INTERRUPTED));
            say(&format!("asking {} to stop; a second signal kills", plural(handles.len(), "job")));
        }
    }

    fn record(&self, outcome: &Outcome, summary: &mut Summary) -> Result<(), Failure> {
        match outcome {
            Outcome::Closed(closed) => {
                print_json(&JobLine { record: "job", closed }).map_err(unwritten)?;
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
                })
                .map_err(unwritten)?;
                summary.refused(refusal);
            }
            Outcome::NotStarted => summary.not_started += 1,
            Outcome::Lost => summary.lost += 1,
        }
        Ok(())
    }

    fn report(&self, count: u32, summary: &Summary) -> Report {
        let mut text = match (&summary.last, count) {
            (Some(closed), 1) => describe(closed, self.agent.facts().language),
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

/// A lost record is an error, also where nobody reads the records any more.
fn unwritten(error: io::Error) -> Failure {
    Failure { exit: Exit::Host, error: format!("the record of a job cannot be written: {error}").into(), hint: None }
}

const INTERRUPTED: &str = "interrupted";

/// Shown for several jobs, when standard error is a terminal with escape codes and the records go elsewhere.
fn progress_bar(count: u32) -> ProgressBar {
    if count == 1 || !is_styled() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs, {eta} left");
    let bar = ProgressBar::new(count.into());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
