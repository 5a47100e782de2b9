//! `wasm-worker cancel`: stop dispatches. A job that runs is asked to stop, and has its grace.

use clap::Args;

use super::client::ClientFlags;
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct CancelArgs {
    /// Ids of dispatches or of their jobs
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    client: ClientFlags,
}

pub(crate) fn run(args: CancelArgs) -> Result<Exit, Failure> {
    let client = args.client.client()?;
    for id in args.ids {
        client.cancel(&id)?;
        print(&format!("{id}: cancelled"))?;
    }
    Ok(Exit::Ok)
}
