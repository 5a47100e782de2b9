//! `wasm-worker replay`: runs recorded jobs again, compares each step with the recording, and shows what happened.

mod agents;
mod result;
mod directory;
mod timeline;
mod page;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::settings::{OfReplay, SettingFlags};
use super::{Exit, Failure, logging, print, print_json, say};
use crate::config::Config;
use crate::observers::{EventLines, publisher};
use agents::Agents;
use wasm_worker_sandbox::job::replay::{How, ReplayError, Replayed};
use wasm_worker_sandbox::recording::reader::{Ending, Reader, RecordingError};
use wasm_worker_sandbox::runtimes::Runtimes;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct ReplayArgs {
    /// A file that `--record` or `--record-failed` has written, or a directory of such files
    #[arg(value_name = "RECORDING")]
    path: PathBuf,
    /// Agent to replay with: a `.wasm` file, a `.wat` file, or the directory of an agent crate, whose build must be trusted. Of
    /// another build the calls are compared, and not the fuel [default: the agent of the recording, from the cache]
    #[arg(long, value_name = "AGENT")]
    agent: Option<PathBuf>,
    /// Last step to run and to show
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    until: Option<u32>,
    /// Print the events, the calls, the fuel and the time of each step
    #[arg(long)]
    timeline: bool,
    /// Print the job, each step and the result as lines of JSON
    #[arg(long)]
    json: bool,
    /// Write the timeline to this file, as one page that needs no server
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags<OfReplay>,
}

/// A line of JSON with the result.
#[derive(Serialize)]
struct ResultLine<'a> {
    record: &'static str,
    file: &'a Path,
    same: bool,
    #[serde(flatten)]
    replayed: &'a Replayed,
    /// Why the recording is not whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

pub(crate) fn run(args: ReplayArgs) -> Result<Exit, Failure> {
    let is_dir = std::fs::metadata(&args.path).is_ok_and(|found| found.is_dir());
    if is_dir && (args.timeline || args.html.is_some()) {
        return Err(Failure::usage("`--timeline` and `--html` are of one recording, and this is a directory"));
    }
    if !is_dir {
        show(&args)?;
    }
    let ReplayArgs { path, agent, until, json, settings, .. } = args;
    let config = settings.load()?;
    let _log = logging::start(&config, LevelFilter::WARN);
    let lines = EventLines::open_all(&config)?;
    let runtimes = Runtimes::start()?;
    let mut agents = Agents::new(&runtimes, &config, publisher(&lines, None), agent.as_deref());
    let done = if is_dir {
        directory::run(&path, until, json, &mut agents, &runtimes)
    } else {
        one(&path, until, json, &mut agents, &runtimes)
    };
    drop(agents);
    runtimes.shut_down();
    lines.close();
    done
}

/// Show what the file has, whether or not it can be replayed.
fn show(args: &ReplayArgs) -> Result<(), Failure> {
    let (path, until) = (&args.path, args.until);
    if args.timeline {
        timeline::print_all(&mut Reader::open(path)?, until)?;
    }
    if args.json {
        timeline::print_json_lines(&mut Reader::open(path)?, until)?;
    }
    if let Some(to) = &args.html {
        let page = page::page(&mut Reader::open(path)?, until)?;
        // It has the contents of a recording, and is as private.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
        file.and_then(|mut file| file.write_all(page.as_bytes())).map_err(|error| Failure {
            exit: Exit::Host,
            error: format!("`{}` cannot be written: {error}", to.display()).into(),
            hint: None,
        })?;
    }
    Ok(())
}

/// Replay one file, and print the result.
fn one(
    path: &Path,
    until: Option<u32>,
    json: bool,
    agents: &mut Agents<'_>,
    runtimes: &Runtimes,
) -> Result<Exit, Failure> {
    let Done { replayed, warning, reader, other_build } = runtimes.block_on(replay(path, until, agents))?;
    if let Some(warning) = &warning {
        say(&format!("warning: {warning}"));
    }
    let same = replayed.difference.is_none();
    if json {
        print_json(&ResultLine { record: "replay", file: path, same, replayed: &replayed, warning })?;
    } else {
        print(&result::text(&replayed, &reader, until, other_build))?;
    }
    Ok(if same { Exit::Ok } else { Exit::Differs })
}

/// A replay that was made.
struct Done {
    replayed: Replayed,
    /// Why the recording is not whole.
    warning: Option<String>,
    reader: Reader,
    other_build: bool,
}

/// Replay one file.
async fn replay(path: &Path, until: Option<u32>, agents: &mut Agents<'_>) -> Result<Done, Failure> {
    let reader = Reader::open(path)?;
    let (agent, other_build) = agents.for_recording(&reader).await?;
    let (mut reader, replayed) = agent.replay(reader, How { other_build, until }).await?;
    let replayed = replayed?;
    // What is behind the last step says how the job ended.
    if until.is_none() && replayed.difference.is_none() {
        while reader.next_view()?.is_some() {}
    }
    let warning = warning(&reader, replayed.steps);
    Ok(Done { replayed, warning, reader, other_build })
}

/// Why a recording is not whole.
fn warning(reader: &Reader, steps: u32) -> Option<String> {
    let file = reader.path().display();
    match reader.ending()? {
        Ending::Whole => None,
        Ending::Early(why) => Some(format!("`{file}` ends before its job: {why}; it was replayed to step {steps}")),
        Ending::Cut(at) => {
            Some(format!("`{file}` is cut short at byte {at}; it was replayed to its last whole step, {steps}"))
        }
    }
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { exit: Exit::Usage, error: error.into(), hint }
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Recording(error) => error.into(),
            ReplayError::Impossible { .. } => {
                let hint = Some("`--timeline`, `--json` and `--html` show what is in it".into());
                Self { exit: Exit::Usage, error: error.into(), hint }
            }
            ReplayError::Host(_) => Self { exit: Exit::Host, error: error.into(), hint: None },
        }
    }
}
