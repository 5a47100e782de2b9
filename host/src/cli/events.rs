//! `wasm-worker events`: follow what workers publish, as lines of JSON.

use std::io::{BufRead, BufReader};

use clap::Args;

use super::remote::{Audience, RemoteFlags};
use super::{Exit, Failure, print, say};

#[derive(Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    remote: RemoteFlags,
}

/// Until all workers are gone.
pub(crate) fn run(args: EventsArgs) -> Result<Exit, Failure> {
    let workers = args.remote.of(Audience::Heads)?;
    let followed = workers.iter().map(|worker| worker.follow("/events")).collect::<Result<Vec<_>, _>>()?;
    std::thread::scope(|scope| {
        for lines in followed {
            scope.spawn(|| follow(BufReader::new(lines)));
        }
    });
    Ok(Exit::Ok)
}

fn follow(lines: impl BufRead) {
    let mut missed = false;
    // The worker is gone, or nobody reads this any more.
    for line in lines.lines().map_while(Result::ok) {
        match line.strip_prefix("data: ") {
            Some(count) if missed => say(&format!("{count} events were missed: they came too fast")),
            Some(event) if print(event).is_err() => return,
            _ => {}
        }
        missed = line == "event: missed";
    }
}
