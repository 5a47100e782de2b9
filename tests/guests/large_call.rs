//! Sends more in one call than a call may carry.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct LargeCall;

impl Agent for LargeCall {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.send_text("large", &"x".repeat(8 << 20))
    }
}

wasm_worker_sdk::agent!(LargeCall);
