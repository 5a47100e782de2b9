//! Waits for a request to stop, and for nothing else.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct WaitsForStop;

impl Agent for WaitsForStop {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.shutdown_requested().await;
        Ok(())
    }
}

wasm_worker_sdk::agent!(WaitsForStop);
