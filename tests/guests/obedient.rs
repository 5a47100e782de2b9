//! Stops when asked, and says so.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Obedient;

impl Agent for Obedient {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let request = ctx.shutdown_requested().await;
        ctx.send_text("end", &request.reason)
    }
}

wasm_worker_sdk::agent!(Obedient);
