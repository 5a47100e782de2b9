//! `wasm-worker test`: plays scenarios with an agent, under virtual time, and reports as test runners do.

mod report;

mod junit;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use super::settings::SettingFlags;
use super::{Exit, Failure, logging, print, say};
use crate::app::open_cache;
use crate::config::Config;
use crate::grants::grant_settings;
use crate::observers::{EventLines, publisher};
use report::{Played, Report};
use wasm_worker_core::duration;
use wasm_worker_core::observer::Events;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::recording::reader::{Ending, Reader};
use wasm_worker_sandbox::runtimes::Runtimes;
use wasm_worker_sandbox::scenario::{FILE_BYTES_MAX, FromRecordingError, Scenario, from_recording};

/// Most scenarios of one run.
const SCENARIOS_MAX: usize = 10_000;

#[derive(Args)]
pub(crate) struct TestArgs {
    /// A `.wasm` file, a `.wat` file, or the directory of an agent crate. cargo builds a directory, and runs its build scripts
    /// and macros: the code of a crate must be trusted
    #[arg(value_name = "AGENT", required_unless_present = "from")]
    agent: Option<PathBuf>,
    /// Scenarios: YAML files, directories of them, or `-` for standard input [default: the directory `tests` of the crate]
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Print the scenario of this recording, and play nothing: what reached the agent, and what it sent then
    #[arg(long, value_name = "RECORDING", conflicts_with_all = ["agent", "scenarios", "filter", "junit", "json"])]
    from: Option<PathBuf>,
    /// Play only scenarios whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write the results as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print a line of JSON for each scenario
    #[arg(long)]
    json: bool,
    /// Scenarios at once [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    jobs: Option<u32>,
    /// Real time after which a scenario is given up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    settings: SettingFlags,
}

/// Exits with [`Exit::Test`] where a scenario failed.
pub(crate) fn run(args: TestArgs) -> Result<Exit, Failure> {
    if let Some(recording) = &args.from {
        return print_scenario(recording);
    }
    let Some(agent) = args.agent else { return Err(Failure::usage("which agent?")) };
    let config = args.settings.load()?;
    let log = logging::start(&config, LevelFilter::OFF);
    let mut scenarios = read_all(&agent, &args.scenarios)?;
    let found = scenarios.len();
    if let Some(filter) = &args.filter {
        scenarios.retain(|scenario| scenario.name.contains(filter.as_str()));
        if scenarios.is_empty() {
            let why = format!("no name of the {found} scenarios contains `{filter}`");
            return Err(Failure::usage(why));
        }
    }
    let source = source::read(&agent)?;
    let lines = EventLines::open_all(&config)?;
    let runtimes = Runtimes::start()?;
    let jobs = args.jobs.unwrap_or_else(cores);
    let tested = runtimes.block_on(async {
        let tester = Tester::start(&runtimes, source, &config, &lines, jobs, args.timeout).await?;
        tester.test(&scenarios, found - scenarios.len(), jobs, args.json).await
    });
    runtimes.shut_down();
    lines.close();
    drop(log);
    let report = tested?;
    if let Some(path) = &args.junit {
        let written = std::fs::write(path, junit::xml(&report));
        written.map_err(|error| Failure {
            exit: Exit::Host,
            error: format!("`{}` cannot be written: {error}", path.display()).into(),
            hint: None,
        })?;
    }
    Ok(if report.failed() == 0 { Exit::Ok } else { Exit::Test })
}

fn print_scenario(recording: &Path) -> Result<Exit, Failure> {
    let unusable = |error: FromRecordingError| {
        let hint = match &error {
            FromRecordingError::Recording(error) => error.hint().map(str::to_owned),
            _ => None,
        };
        Failure { exit: Exit::Usage, error: error.into(), hint }
    };
    let mut reader = Reader::open(recording).map_err(FromRecordingError::from).map_err(unusable)?;
    print(from_recording(&mut reader).map_err(unusable)?.trim_end())?;
    if let Some(Ending::Cut(_) | Ending::Early(_)) = reader.ending() {
        say("warning: the recording ends before its job, and so does the scenario");
    }
    Ok(Exit::Ok)
}

fn cores() -> u32 {
    std::thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok()).unwrap_or(1)
}

/// Read every scenario, in the order of the arguments and of the names in a directory. All files with a fault are told at once.
fn read_all(agent: &Path, paths: &[PathBuf]) -> Result<Vec<Scenario>, Failure> {
    let default = agent.join("tests");
    let paths = match paths {
        [] if default.is_dir() => std::slice::from_ref(&default),
        [] => {
            let failure = Failure::usage("which scenarios? name YAML files, or a directory of them");
            return Err(failure.with_hint("without names, those in the directory `tests` of an agent crate are played"));
        }
        paths => paths,
    };
    let (mut scenarios, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        for file in files_of(path)? {
            let read =
                contents(&file, FILE_BYTES_MAX).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
            let text = read.map_err(|error| unreadable(&file, &error))?;
            let mut beside =
                |name: &str, max| contents(&file.with_file_name(name), max).map_err(|error| error.to_string());
            match Scenario::parse(&file.display().to_string(), &text, &mut beside) {
                Ok(of_file) => scenarios.extend(of_file),
                Err(error) => faults.push(error.to_string()),
            }
        }
        if scenarios.len() > SCENARIOS_MAX {
            return Err(Failure::usage(format!("more than {SCENARIOS_MAX} scenarios")));
        }
    }
    match faults.is_empty() {
        true if scenarios.is_empty() => Err(Failure::usage("there is no `.yaml` or `.yml` file")),
        true => Ok(scenarios),
        false => Err(Failure::usage(faults.join("\n")).with_hint("guest-sdk/docs/testing.md describes scenarios")),
    }
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| unreadable(path, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("`{}` cannot be read: {error}", path.display()))
}

/// The bytes of a file. One that is too large is cut after its bound, which its reader tells.
fn contents(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, max) = (Vec::new(), max as u64 + 1);
    if path == Path::new("-") {
        io::stdin().take(max).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(max).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Plays scenarios.
struct Tester<'a> {
    agent: Agent,
    events: Arc<Events>,
    config: &'a Config,
    timeout: Duration,
}

impl<'a> Tester<'a> {
    async fn start(
        runtimes: &Runtimes,
        source: source::Source,
        config: &'a Config,
        lines: &Arc<EventLines>,
        jobs: u32,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let engine = Engine::new(config.engine_settings(jobs), runtimes.guests().clone(), runtimes.control().clone())?;
        let events = publisher(lines, None);
        let config_of_agent = config.of_agent(&source.name);
        let cache = open_cache(config);
        let compiler = Compiler::own();
        let agent =
            Agent::load(&engine, source, &config_of_agent.agent, cache.as_ref(), Some(&compiler), &events).await?;
        let agent = grant_settings(agent, &config_of_agent.grants)?;
        Ok(Self { agent, events, config, timeout })
    }

    /// Play all of them, and print each in their order.
    async fn test(&self, scenarios: &[Scenario], skipped: usize, jobs: u32, json: bool) -> Result<Report, Failure> {
        let began = Instant::now();
        if !json {
            print(&report::head(self.agent.name(), scenarios.len()))?;
        }
        let mut report = Report::new(self.agent.name().to_owned(), skipped);
        let playing = futures_util::stream::iter(scenarios).map(|scenario| self.play(scenario));
        let mut playing = std::pin::pin!(playing.buffered(jobs as usize));
        while let Some(played) = playing.next().await {
            let played = played?;
            if json {
                report::print_line(&played)?
            } else {
                print(&report::in_words(&played))?
            }
            report.add(played);
        }
        report.took = began.elapsed();
        if json {
            say(&report.summary())
        } else {
            print(&report.summary())?
        }
        Ok(report)
    }

    async fn play(&self, scenario: &Scenario) -> Result<Played, Failure> {
        let settings = &self.config.of_agent(self.agent.name()).agent;
        let limits = scenario.limits(&settings.limits).map_err(|error| Failure::usage(error.to_string()))?;
        let (began, handle) = (Instant::now(), OnceLock::new());
        let begun = |running| drop(handle.set(running));
        let mut playing = std::pin::pin!(self.agent.play(scenario, limits, &self.events, begun));
        let (outcome, is_late) = tokio::select! {
            // What is over in time is no failure.
            biased;
            outcome = &mut playing => (outcome, false),
            () = tokio::time::sleep(self.timeout) => {
                handle.get().into_iter().for_each(wasm_worker_sandbox::job::launch::JobHandle::kill);
                (playing.await, true)
            }
        };
        Ok(Played::new(scenario, outcome, began.elapsed(), is_late.then_some(self.timeout)))
    }
}
