//! `wasm-worker config check`: whether settings can be used, and where each came from.

use clap::{Args, Subcommand};

use super::settings::SettingFlags;
use super::{Exit, Failure, print};
use crate::config::{SetBy, plural};

#[derive(Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Say every fault of the settings at once, or what is set and where
    Check {
        #[command(flatten)]
        settings: Box<SettingFlags>,
    },
}

pub(crate) fn run(args: ConfigArgs) -> Result<Exit, Failure> {
    let Act::Check { settings } = args.act;
    let config = settings.load()?;
    config.check_server()?;
    for SetBy { key, value, source } in &config.set_by {
        print(&format!("{key} = {value}  ({source})"))?;
    }
    print(&format!("the settings can be used: {} set, the rest as by default", plural(config.set_by.len(), "value")))?;
    Ok(Exit::Ok)
}
