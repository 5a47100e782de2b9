//! `wasm-worker jobs`: the dispatches that a dispatcher has, and had.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::client::{ClientFlags, escaped};
use super::job::Job;
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct JobsArgs {
    /// Only those of this room
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// Only those that are not over, or that are
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// How many, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON, one a line
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
    let page = args.client.client()?.page(&path)?;
    for job in page.get("jobs").and_then(Value::as_array).into_iter().flatten() {
        print(&if args.json { job.to_string() } else { line(&Job::read(job)?) })?;
    }
    Ok(Exit::Ok)
}

fn line(job: &Job) -> String {
    format!("{} {}  {}  agent `{}`  room `{}`  {}", job.mark(), job.dispatch, job.job, job.agent, job.room, job.news())
}
