//! `wasm-worker events`: follow the events of workers, one JSON object a line.

use std::io::{BufRead, BufReader};

use clap::Args;
use wasm_worker_core::text::escaped_json;

use super::remote::{Audience, RemoteFlags};
use super::{Exit, Failure, print_exactly, say};

#[derive(Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    remote: RemoteFlags,
}

/// Ends when all workers have ended.
pub(crate) fn run(args: EventsArgs) -> Result<Exit, Failure> {
    let workers = args.remote.of(Audience::Supervisors)?;
    let followed = workers.iter().map(|worker| worker.follow("/events")).collect::<Result<Vec<_>, _>>()?;
    std::thread::scope(|scope| {
        for lines in followed {
            scope.spawn(|| follow(BufReader::new(lines)));
        }
    });
    Ok(Exit::Ok)
}

/// Ends when the worker ends, or when nobody reads the output any more.
fn follow(lines: impl BufRead) {
    let mut missed = false;
    for line in lines.lines().map_while(Result::ok) {
        match line.strip_prefix("data: ") {
            Some(count) if missed => say(&format!("{count} events were dropped because they came too fast")),
            Some(event) if print_exactly(&escaped_json(event.to_owned())).is_err() => return,
            _ => {}
        }
        missed = line == "event: missed";
    }
}
