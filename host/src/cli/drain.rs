//! `wasm-worker drain`: have workers take no more jobs, and end when they have none.

use clap::Args;

use super::remote::{Audience, RemoteFlags, each};
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    remote: RemoteFlags,
}

pub(crate) fn run(args: DrainArgs) -> Result<Exit, Failure> {
    each(&args.remote.of(Audience::Heads)?, |worker| {
        worker.post("/drain")?;
        Ok(print(&format!("draining {}", worker.name))?)
    })?;
    Ok(Exit::Ok)
}
