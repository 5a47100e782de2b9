//! Executes `unreachable`.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Unreachable;

impl Agent for Unreachable {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        std::process::abort()
    }
}

wasm_worker_sdk::agent!(Unreachable);
