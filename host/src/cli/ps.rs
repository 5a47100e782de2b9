//! `wasm-worker ps`: the workers that run, and their jobs.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::remote::{Audience, Remote, RemoteFlags, each};
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct PsArgs {
    /// As JSON, one worker a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteFlags,
}

/// Of a worker's pages, what is printed.
#[derive(Deserialize)]
struct Worker {
    worker_load: f64,
    draining: bool,
    agents: Vec<Agent>,
}

/// Of a supervisor's.
#[derive(Deserialize)]
struct Supervisor {
    processes: usize,
    running: usize,
    registered: usize,
    draining: bool,
}

#[derive(Deserialize)]
struct Agent {
    agent: String,
    worker: Option<String>,
    state: String,
}

#[derive(Deserialize)]
struct Jobs {
    running: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    job: String,
    agent: String,
    room: String,
    since: Timestamp,
    cpu_us: u64,
}

pub(crate) fn run(args: PsArgs) -> Result<Exit, Failure> {
    each(&args.remote.of(Audience::Everybody)?, |remote| show(remote, args.json))?;
    Ok(Exit::Ok)
}

fn show(remote: &Remote, json: bool) -> Result<(), Failure> {
    let worker = remote.get("/worker")?.body;
    let supervisor: Option<Supervisor> = Supervisor::deserialize(&worker).ok();
    let jobs = if supervisor.is_none() { remote.get("/jobs")?.body } else { Value::Null };
    if json {
        return Ok(print(&json!({ "worker": worker, "at": remote.name, "jobs": jobs }).to_string())?);
    }
    if let Some(supervisor) = supervisor {
        return Ok(print(&supervisor.text(&remote.name))?);
    }
    let strange = |error: serde_json::Error| Failure {
        exit: Exit::Host,
        error: format!("the worker `{}` is of another version: {error}", remote.name).into(),
        hint: None,
    };
    let (worker, jobs) =
        (serde_json::from_value(worker).map_err(strange)?, serde_json::from_value(jobs).map_err(strange)?);
    Ok(print(&text(&remote.name, worker, jobs))?)
}

impl Supervisor {
    fn text(&self, name: &str) -> String {
        let Self { processes, running, registered, draining } = self;
        let draining = if *draining { ", draining" } else { "" };
        format!("supervisor {name}: {running} of {processes} processes run, the server has {registered}{draining}")
    }
}

fn text(name: &str, worker: Worker, jobs: Jobs) -> String {
    let Worker { worker_load, draining, agents } = worker;
    let draining = if draining { ", draining" } else { "" };
    let running = jobs.running.len();
    let mut lines = vec![format!("worker {name}: load {worker_load:.2}, {running} running{draining}")];
    for Agent { agent, worker, state } in agents {
        let registered = worker.map_or("not connected".into(), |id| format!("registered as {id}"));
        lines.push(format!("  agent {agent}: {state}, {registered}"));
    }
    for Job { job, agent, room, since, cpu_us } in jobs.running {
        let age = Timestamp::now().duration_since(since).as_secs();
        let cpu = Duration::from_micros(cpu_us);
        lines.push(format!("  {job}  {agent}  room `{room}`  {age}s  {cpu:?} of CPU"));
    }
    lines.join("\n")
}
