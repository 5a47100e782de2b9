//! `wasm-worker man`: the manual pages, from the definitions of the commands.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::{Exit, Failure};

#[derive(Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages of all commands; created if it is missing [default: print the page of the program]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs, program: Command) -> Result<Exit, Failure> {
    let program = program.disable_help_subcommand(true);
    match &args.dir {
        Some(dir) => write_all(dir, program)?,
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
    }
    Ok(Exit::Ok)
}

fn write_all(dir: &Path, program: Command) -> Result<(), Failure> {
    let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(program, dir));
    written.map_err(|error| Failure {
        exit: Exit::Host,
        error: format!("the pages cannot be written to `{}`: {error}", dir.display()).into(),
        hint: None,
    })
}
