//! `wasm-worker serve`: a dispatcher without agents.

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::settings::{OfDispatcher, SettingFlags, log_unknown_variables};
use super::{Exit, Failure, logging, print};
use crate::app::dispatcher;

#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingFlags<OfDispatcher>,
}

pub(crate) fn run(args: ServeArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    let log = logging::start(&config, LevelFilter::INFO);
    log_unknown_variables();
    let served = dispatcher::run(&config, print);
    drop(log);
    Ok(served.map(|()| Exit::Ok)?)
}
