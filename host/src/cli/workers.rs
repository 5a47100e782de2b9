//! `wasm-worker workers`: the pool of a dispatcher.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::client::ClientFlags;
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct WorkersArgs {
    /// Print JSON, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Deserialize)]
struct Worker {
    worker: String,
    agent: String,
    job_type: String,
    deployment: String,
    version: String,
    state: String,
    load: f64,
    jobs: usize,
    since_ns: i64,
}

pub(crate) fn run(args: WorkersArgs) -> Result<Exit, Failure> {
    let page = args.client.client()?.page("/workers")?;
    let workers = page.get("workers").and_then(Value::as_array).cloned().unwrap_or_default();
    if args.json {
        for worker in workers {
            print(&worker.to_string())?;
        }
        return Ok(Exit::Ok);
    }
    if workers.is_empty() {
        print("no workers")?;
        return Ok(Exit::Ok);
    }
    print(&format!(
        "{:<16} {:<20} {:<10} {:>5} {:>6} {:>8}  {}",
        "worker", "agent", "state", "load", "jobs", "since", "version"
    ))?;
    for worker in workers {
        let worker: Worker = serde_json::from_value(worker).map_err(|error| Failure {
            exit: Exit::Host,
            error: format!("the dispatcher is of another version: {error}").into(),
            hint: None,
        })?;
        print(&worker.line())?;
    }
    Ok(Exit::Ok)
}

impl Worker {
    fn line(&self) -> String {
        let Self { worker, agent, state, load, jobs, version, .. } = self;
        let mut agent = agent.clone();
        if self.job_type != "room" {
            agent.push_str(&format!(" ({})", self.job_type));
        }
        if !self.deployment.is_empty() {
            agent.push_str(&format!(" [{}]", self.deployment));
        }
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let since = Duration::from_nanos(u64::try_from(now - self.since_ns).unwrap_or(0)).as_secs();
        format!("{worker:<16} {agent:<20} {state:<10} {load:>5.2} {jobs:>6} {since:>7}s  {version}")
    }
}
