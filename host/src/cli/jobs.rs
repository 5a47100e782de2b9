//! `wasm-worker jobs`: the dispatches of a dispatcher.

use clap::{Args, ValueEnum};
use wasm_worker_core::api::dispatcher::{Dispatch, DispatchList};

use super::client::ClientFlags;
use super::job::{mark, now_ns, span, status};
use super::table::{Column, table, time};
use super::{Exit, Failure, print, print_json};
use crate::app::client::escaped;

#[derive(Args)]
pub(crate) struct JobsArgs {
    /// List the dispatches of this room only
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// List only the dispatches that have not ended, or only those that have
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// List at most N dispatches, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Open,
    Ended,
}

pub(crate) fn run(args: JobsArgs) -> Result<Exit, Failure> {
    let mut path = format!("/jobs?limit={}", args.limit);
    if let Some(state) = args.state {
        path.push_str(match state {
            State::Open => "&state=open",
            State::Ended => "&state=ended",
        });
    }
    if let Some(room) = &args.room {
        path.push_str(&format!("&room={}", escaped(room)));
    }
    let DispatchList { jobs } = args.client.client()?.get(&path)?;
    if args.json {
        jobs.iter().try_for_each(print_json)?;
    } else if jobs.is_empty() {
        print("no dispatches")?;
    } else {
        let now_ns = now_ns();
        let rows: Vec<_> = jobs.iter().map(|dispatch| row(dispatch, now_ns)).collect();
        print(&table(COLUMNS, &rows))?;
    }
    Ok(Exit::Ok)
}

const COLUMNS: [Column; 8] = [
    Column::Left(""),
    Column::Left("DISPATCH"),
    Column::Left("JOB"),
    Column::Left("AGENT"),
    Column::Left("ROOM"),
    Column::Right("AGE"),
    Column::Right("DURATION"),
    Column::Left("STATUS"),
];

/// The duration is that of the current job, up to now while it runs.
fn row(dispatch: &Dispatch, now_ns: i64) -> [String; 8] {
    let Dispatch { dispatch: id, job, agent, room, created_ns, assigned_ns, started_ns, ended_ns, .. } = dispatch;
    let began = started_ns.or(*assigned_ns);
    let ran = began.map(|began| time(span(began, ended_ns.unwrap_or(now_ns)))).unwrap_or_default();
    [
        mark(dispatch).into(),
        id.clone(),
        job.clone(),
        agent.clone(),
        room.clone(),
        time(span(*created_ns, now_ns)),
        ran,
        status(dispatch),
    ]
}
