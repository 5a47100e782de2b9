//! `wasm-worker completions`: the completions of a shell, from the definitions of the commands.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Exit, Failure};

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, program: &Command) -> Result<Exit, Failure> {
    let (name, mut program) = (program.get_name().to_owned(), visible(program).version(env!("CARGO_PKG_VERSION")));
    // The generator panics when its output fails; a vector does not.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, &name, &mut script);
    // For bash, the generator spells a program with a hyphen in two ways, and no verb is found (clap-rs/clap#6421).
    let (odd, usual) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
    let script = String::from_utf8_lossy(&script).replace(&odd, &usual);
    io::stdout().write_all(script.as_bytes())?;
    Ok(Exit::Ok)
}

/// The command without what is hidden: the generator offers that too.
fn visible(command: &Command) -> Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible);
    let about = command.get_about().cloned().unwrap_or_default();
    Command::new(command.get_name().to_owned()).about(about).args(args).subcommands(commands)
}
