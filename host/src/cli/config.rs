//! `wasm-worker config check`: the faults of the settings, or each value with its source.

use clap::{Args, Subcommand};

use super::settings::{SettingFlags, unknown_variable_warnings};
use super::{Exit, Failure, print, say};
use crate::config::{Config, ConfigError, Fault, SetBy};
use crate::worker::link::Server;
use wasm_worker_core::text::{one_line, plural};

#[derive(Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Print all faults of the settings, or each value that is set with its source
    Check {
        #[command(flatten)]
        settings: Box<SettingFlags>,
    },
}

pub(crate) fn run(args: ConfigArgs) -> Result<Exit, Failure> {
    let Act::Check { settings } = args.act;
    let config = settings.load()?;
    let faults = config.server_faults.iter().cloned().chain(faults_of_a_worker(&config));
    let faults: Vec<Fault> = faults.chain(fault_of_the_engine(&config)).collect();
    if !faults.is_empty() {
        return Err(ConfigError { faults }.into());
    }
    unknown_variable_warnings().for_each(|warning| say(&format!("warning: {warning}")));
    for SetBy { key, value, source } in &config.set_by {
        print(&one_line(&format!("{key} = {value}  ({source})")))?;
    }
    print(&format!(
        "the settings are valid: {} set, the others have their defaults",
        plural(config.set_by.len(), "value")
    ))?;
    Ok(Exit::Ok)
}

/// The fault of more jobs than this machine has room for, which a worker reports at its start.
fn fault_of_the_engine(config: &Config) -> Option<Fault> {
    let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
    let error = config.engine_settings(jobs).check().err()?;
    let hint = error.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    Some(Fault { what: "max-jobs".into(), source: "all sources together".into(), why: format!("{error}{hint}") })
}

/// The faults of the server in the settings that a worker would report.
fn faults_of_a_worker(config: &Config) -> Vec<Fault> {
    let Some(url) = &config.livekit.url else { return Vec::new() };
    let unusable = Server::new(url, String::new(), String::new()).err().map(|error| error.to_string());
    let pair = config.livekit.api_key.is_some() && config.livekit.api_secret.is_some();
    let keyless = (!pair).then(|| "want `api-key` and `api-secret` too: a server refuses workers without them".into());
    let fault = |why| Fault { what: "url".into(), source: "all sources together".into(), why };
    unusable.into_iter().chain(keyless).map(fault).collect()
}
