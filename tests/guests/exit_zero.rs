//! Exits with status 0 instead of returning.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct ExitZero;

impl Agent for ExitZero {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        std::process::exit(0)
    }
}

wasm_worker_sdk::agent!(ExitZero);
