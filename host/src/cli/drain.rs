//! `wasm-worker drain`: workers take no more jobs, and end after their last one.

use clap::Args;
use wasm_worker_core::api::worker::Draining;
use wasm_worker_core::text::one_line;

use super::remote::{Audience, RemoteFlags, each};
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    remote: RemoteFlags,
}

pub(crate) fn run(args: DrainArgs) -> Result<Exit, Failure> {
    each(&args.remote.of(Audience::Supervisors)?, |worker| {
        let Draining { state } = worker.post("/drain")?.done()?;
        Ok(print(&one_line(&format!("{state} {}", worker.name)))?)
    })?;
    Ok(Exit::Ok)
}
