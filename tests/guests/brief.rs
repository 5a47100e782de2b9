//! Says that it runs, and returns.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Brief;

impl Agent for Brief {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        log::info!("entered");
        Ok(())
    }
}

wasm_worker_sdk::agent!(Brief);
