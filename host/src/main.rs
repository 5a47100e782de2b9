//! Parse the command line, run the verb, say how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    wasm_worker::cli::main()
}
