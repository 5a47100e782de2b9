//! Exits with status 7, which WASI 0.2 carries as 1.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct ExitSeven;

impl Agent for ExitSeven {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        eprintln!("no model is left");
        std::process::exit(7)
    }
}

wasm_worker_sdk::agent!(ExitSeven);
