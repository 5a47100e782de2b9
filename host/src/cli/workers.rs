//! `wasm-worker workers`: the workers that are connected to a dispatcher.

use clap::Args;
use wasm_worker_core::api::dispatcher::{PoolWorker, PoolWorkerList};
use wasm_worker_core::job::JobKind;

use super::client::ClientFlags;
use super::job::{now_ns, span};
use super::table::{Column, table, time};
use super::{Exit, Failure, print, print_json};

#[derive(Args)]
pub(crate) struct WorkersArgs {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(crate) fn run(args: WorkersArgs) -> Result<Exit, Failure> {
    let PoolWorkerList { workers } = args.client.client()?.get("/workers")?;
    if args.json {
        workers.iter().try_for_each(print_json)?;
    } else if workers.is_empty() {
        print("no workers")?;
    } else {
        let now_ns = now_ns();
        let rows: Vec<_> = workers.iter().map(|worker| row(worker, now_ns)).collect();
        print(&table(COLUMNS, &rows))?;
    }
    Ok(Exit::Ok)
}

const COLUMNS: [Column; 7] = [
    Column::Left("WORKER"),
    Column::Left("AGENT"),
    Column::Left("STATE"),
    Column::Right("LOAD"),
    Column::Right("JOBS"),
    Column::Right("AGE"),
    Column::Left("VERSION"),
];

/// An agent that takes other jobs than those of rooms has their kind in parentheses, and its deployment in brackets. A full worker
/// has the reason in parentheses.
fn row(worker: &PoolWorker, now_ns: i64) -> [String; 7] {
    let mut agent = worker.agent.clone();
    match worker.job_type {
        JobKind::Room => {}
        JobKind::Publisher => agent.push_str(" (publisher)"),
        JobKind::Participant => agent.push_str(" (participant)"),
    }
    if !worker.deployment.is_empty() {
        agent.push_str(&format!(" [{}]", worker.deployment));
    }
    let scarce = worker.scarce.map(|scarce| format!(" ({scarce})")).unwrap_or_default();
    [
        worker.worker.clone(),
        agent,
        format!("{}{scarce}", worker.state.as_str()),
        format!("{:.2}", worker.load),
        worker.jobs.to_string(),
        time(span(worker.since_ns, now_ns)),
        worker.version.clone(),
    ]
}
