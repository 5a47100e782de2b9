//! Aborts.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Abort;

impl Agent for Abort {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        std::process::abort()
    }
}

wasm_worker_sdk::agent!(Abort);
