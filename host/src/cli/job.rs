//! `wasm-worker job`: one dispatch, its attempts, and what its job waits for or how it ended.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use wasm_worker_core::api::dispatcher::{Attempt, Dispatch, DispatchState, Waiting};
use wasm_worker_core::api::worker::{JobDetail, RunningJob};
use wasm_worker_core::job::{RoomStatus, TaskReport, WaitsFor};
use wasm_worker_core::usage::UsageRecord;

use super::client::{ServerSettings, client_of};
use super::remote::{Answer, Audience, job_path, local};
use super::settings::{Choice, SettingFlags};
use super::terminal::paragraph;
use super::{Exit, Failure, in_room, print, print_json, verdict, waits};

#[derive(Args)]
pub(crate) struct JobArgs {
    /// Id of a dispatch, or of a job
    #[arg(value_name = "ID")]
    id: String,
    /// Print JSON, with metadata and usage
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<JobSettings>,
}

/// The settings that lead to the server, and to the workers of this machine.
struct JobSettings;

impl Choice for JobSettings {
    fn has(key: &str) -> bool {
        key == "cache-dir" || ServerSettings::has(key)
    }
}

/// A dispatch, and what its job waits for.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    dispatch: &'a Dispatch,
    /// Absent where no job runs, or none at a worker of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<WaitsFor>,
    /// Absent too where the job has not asked for its room.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_room: Option<RoomStatus>,
    /// Absent too where the agent has not reported its tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<TaskReport>,
}

pub(crate) fn run(args: JobArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    let dispatch = client_of(&config)?.job(&args.id)?;
    let job = running(&dispatch, &config.cache_dir);
    let (waits, in_room, tasks) = job.map(|job| (job.waits, job.in_room, job.tasks)).unwrap_or_default();
    print_all(&Shown { dispatch: &dispatch, waits, in_room, tasks }, args.json)?;
    Ok(Exit::Ok)
}

/// The job of a dispatch, from the worker of this machine that runs it. Another worker cannot be asked, and is not missed.
fn running(dispatch: &Dispatch, cache_dir: &Path) -> Option<Box<RunningJob>> {
    if matches!(dispatch.state, DispatchState::Pending | DispatchState::Ended) {
        return None;
    }
    let path = format!("/jobs/{}", job_path(&dispatch.job)?);
    local(cache_dir, Audience::Workers).iter().find_map(|worker| match worker.get(&path) {
        Ok(Answer::Done(JobDetail::Running(job))) => Some(job),
        _ => None,
    })
}

/// Print all of a dispatch.
pub(super) fn show(dispatch: &Dispatch, json: bool) -> Result<(), Failure> {
    print_all(&Shown { dispatch, waits: None, in_room: None, tasks: None }, json)
}

fn print_all(shown: &Shown<'_>, json: bool) -> Result<(), Failure> {
    let printed = if json { print_json(shown) } else { print(&text(shown)) };
    Ok(printed?)
}

/// The exit status for a dispatch that has ended.
pub(super) fn exit_of(dispatch: &Dispatch) -> Exit {
    dispatch.verdict.as_ref().map_or(Exit::Host, |verdict| verdict.code.class().into())
}

/// The state in one line.
pub(super) fn status(dispatch: &Dispatch) -> String {
    let Dispatch { state, worker, attempt, waiting, .. } = dispatch;
    let worker = worker.as_deref().unwrap_or("?");
    let state = state.as_str();
    match (dispatch.state, waiting) {
        (DispatchState::Pending, Some(Waiting { position, of, why })) if *position > 0 => {
            format!("{state}: {position} of {of}; {why}")
        }
        (DispatchState::Pending, Some(Waiting { why, .. })) => format!("{state}: {why}"),
        (DispatchState::Pending, None) => state.to_owned(),
        (DispatchState::Assigned | DispatchState::Running, _) => format!("{state}: worker {worker}, attempt {attempt}"),
        (DispatchState::Ended, _) => dispatch.verdict.as_ref().map_or_else(|| state.to_owned(), verdict::headline),
    }
}

/// `✔` or `✘` for a dispatch that has ended, else `·`.
pub(super) fn mark(dispatch: &Dispatch) -> &'static str {
    match (dispatch.state, &dispatch.verdict) {
        (DispatchState::Ended, Some(verdict)) => verdict::mark(verdict),
        (DispatchState::Ended, None) => "✘",
        (DispatchState::Pending | DispatchState::Assigned | DispatchState::Running, _) => "·",
    }
}

/// The time between two Unix times in nanoseconds.
pub(super) fn span(from_ns: i64, to_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(to_ns.saturating_sub(from_ns)).unwrap_or(0))
}

/// Now, as a Unix time in nanoseconds.
pub(super) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn text(Shown { dispatch, waits, in_room, tasks }: &Shown<'_>) -> String {
    let mut lines = vec![format!("{} {}", mark(dispatch), status(dispatch))];
    lines.extend(dispatch.verdict.iter().flat_map(verdict::details));
    let Dispatch { dispatch: id, agent, room, created_ns, assigned_ns, started_ns, ended_ns, .. } = dispatch;
    lines.push(format!("  dispatch {id} to agent `{agent}`, room `{room}`"));
    dispatch.attempts.iter().for_each(|attempt| lines.extend(attempt_lines(attempt)));
    lines.extend(waits.as_ref().map(|waits| format!("  waits    {}", waits::text(waits))));
    lines.extend(in_room.iter().flat_map(in_room::lines));
    lines.extend(tasks.iter().flat_map(waits::task_lines));
    let created = Timestamp::from_nanosecond((*created_ns).into()).unwrap_or_default();
    let waited = assigned_ns.map(|assigned| format!(", assigned after {:.1?}", span(*created_ns, assigned)));
    let ran = started_ns.or(*assigned_ns).zip(*ended_ns).map(|(from, to)| format!(", ran {:.1?}", span(from, to)));
    lines.push(format!("  time     created {created:.3}{}{}", waited.unwrap_or_default(), ran.unwrap_or_default()));
    paragraph(&lines)
}

fn attempt_lines(attempt: &Attempt) -> impl Iterator<Item = String> {
    let Attempt { job, attempt, worker, verdict, usage, .. } = attempt;
    let detail = |text: &str| if text.is_empty() { String::new() } else { format!(": {text}") };
    let end = verdict.as_ref().map(|verdict| format!(": {}{}", verdict.code, detail(&verdict.detail)));
    let end = end.unwrap_or_default();
    let line = format!("  attempt  {attempt}, job {job}, worker {worker}{end}");
    std::iter::once(line).chain(usage.as_ref().map(usage_line))
}

fn usage_line(usage: &UsageRecord) -> String {
    let micros = Duration::from_micros;
    let start = usage.start_us.map(|start| format!(", {:?} to its first step", micros(start))).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let memory = usage.memory_peak_bytes as f64 / f64::from(1 << 20);
    let (wall, cpu) = (micros(usage.wall_us), micros(usage.cpu_us));
    format!("  usage    {wall:.1?} in all, {cpu:.1?} of CPU{start}, {} fuel, {memory:.1} MiB at most", usage.fuel)
}
