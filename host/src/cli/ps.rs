//! `wasm-worker ps`: the workers that run, their agents, and their jobs.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wasm_worker_core::api::worker::{AgentStatus, FleetInfo, JobList, RunningJob, WorkerInfo};

use super::remote::{Audience, Remote, RemoteFlags, each};
use super::table::{Column, table, time};
use super::{Exit, Failure, in_room, print, print_json, waits};

#[derive(Args)]
pub(crate) struct PsArgs {
    /// Print one JSON object a line, for each worker
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteFlags,
}

/// One process that answers.
#[derive(Serialize)]
struct Process<'a> {
    /// The process id, or the URL.
    at: &'a str,
    /// The process id; absent for a worker that was named by its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    worker: Info,
    /// Absent for a supervisor.
    jobs: Option<JobList>,
}

/// A worker or a supervisor, by its fields.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Info {
    Worker(WorkerInfo),
    Fleet(FleetInfo),
}

pub(crate) fn run(args: PsArgs) -> Result<Exit, Failure> {
    let remotes = args.remote.of(Audience::Everybody)?;
    let mut processes = Vec::new();
    let asked = each(&remotes, |remote| {
        let process = ask(remote)?;
        if args.json {
            print_json(&process)?;
        }
        processes.push(process);
        Ok(())
    });
    if !args.json && !processes.is_empty() {
        print(&text(&processes))?;
    }
    asked.map(|()| Exit::Ok)
}

fn ask(remote: &Remote) -> Result<Process<'_>, Failure> {
    let worker = remote.get("/worker")?.done()?;
    let jobs = match worker {
        Info::Worker(_) => Some(remote.get("/jobs")?.done()?),
        Info::Fleet(_) => None,
    };
    Ok(Process { at: &remote.name, pid: remote.pid, worker, jobs })
}

const WORKERS: [Column; 5] = [
    Column::Left("WORKER"),
    Column::Right("LOAD"),
    Column::Right("JOBS"),
    Column::Left("AGENT"),
    Column::Left("STATUS"),
];

const JOBS: [Column; 8] = [
    Column::Left("WORKER"),
    Column::Left("JOB"),
    Column::Left("AGENT"),
    Column::Left("ROOM"),
    Column::Right("AGE"),
    Column::Right("CPU"),
    Column::Left("WAITS FOR"),
    Column::Left("IN ROOM"),
];

/// A table of the agents of all workers, and one of the jobs that run.
fn text(processes: &[Process<'_>]) -> String {
    let workers: Vec<_> = processes.iter().flat_map(worker_rows).collect();
    let now = Timestamp::now();
    let running = |process: &Process<'_>| {
        let at = process.at.to_owned();
        let jobs = process.jobs.as_ref().map(|jobs| jobs.running.clone()).unwrap_or_default();
        jobs.into_iter().map(move |job| job_row(&at, job, now))
    };
    let jobs: Vec<_> = processes.iter().flat_map(running).collect();
    let workers = table(WORKERS, &workers);
    if jobs.is_empty() { workers } else { format!("{workers}\n\n{}", table(JOBS, &jobs)) }
}

fn worker_rows(process: &Process<'_>) -> Vec<[String; 5]> {
    let at = process.at.to_owned();
    match &process.worker {
        Info::Fleet(FleetInfo { processes, running, registered, draining, .. }) => {
            let draining = drain_note(*draining);
            let status =
                format!("supervisor: {running} of {processes} processes run, {registered} registered{draining}");
            vec![[at, String::new(), String::new(), String::new(), status]]
        }
        Info::Worker(WorkerInfo { agents, worker_load, active_jobs, draining, .. }) => {
            let row = |AgentStatus { agent, worker, state }: &AgentStatus| {
                let registered = worker.as_ref().map_or("not connected".into(), |id| format!("registered as {id}"));
                let status = format!("{}, {registered}{}", state.as_str(), drain_note(*draining));
                [at.clone(), format!("{worker_load:.2}"), active_jobs.to_string(), agent.clone(), status]
            };
            agents.iter().map(row).collect()
        }
    }
}

const fn drain_note(draining: bool) -> &'static str {
    if draining { ", draining" } else { "" }
}

fn job_row(at: &str, job: RunningJob, now: Timestamp) -> [String; 8] {
    let RunningJob { job, agent, room, since, cpu_us, waits: waits_for, in_room, .. } = job;
    let waits = waits_for.as_ref().map(waits::text).unwrap_or_default();
    let in_room = in_room.as_ref().map(in_room::text).unwrap_or_default();
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    [at.into(), job, agent, room, time(age), format!("{:.1?}", Duration::from_micros(cpu_us)), waits, in_room]
}
