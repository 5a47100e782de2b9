//! `wasm-worker build`: compiles an agent crate to a component.

use std::path::PathBuf;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::{Exit, Failure, logging, print_exactly, say};
use crate::config::Config;
use crate::grants;
use wasm_worker_sandbox::agent::source;

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Directory of the crate
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// Prints the path of the component, as the one line of standard output.
pub(crate) fn run(args: &BuildArgs) -> Result<Exit, Failure> {
    let _log = logging::start(&Config::default(), LevelFilter::INFO);
    // Before the build, which takes longer.
    grants::check(&args.dir.display().to_string(), &source::manifest(&args.dir)?)?;
    let component = source::build(&args.dir)?;
    let bytes = std::fs::metadata(&component)?.len();
    say(&format!("built a component of {bytes} bytes; run it with `wasm-worker run {} --job`", component.display()));
    print_exactly(&component.display().to_string())?;
    Ok(Exit::Ok)
}
