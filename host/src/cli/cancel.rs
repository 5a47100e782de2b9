//! `wasm-worker cancel`: stop dispatches; one that runs is asked to, within its grace.

use clap::Args;

use super::client::{ClientFlags, escaped};
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct CancelArgs {
    /// Dispatches or jobs
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    client: ClientFlags,
}

pub(crate) fn run(args: CancelArgs) -> Result<Exit, Failure> {
    let client = args.client.client()?;
    for id in args.ids {
        client.act(&format!("/jobs/{}/cancel", escaped(&id)))?;
        print(&format!("{id}: cancelled"))?;
    }
    Ok(Exit::Ok)
}
