//! Waits for a participant who never comes.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Block;

impl Agent for Block {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.wait_for_participant(Some("nobody")).await;
        Ok(())
    }
}

wasm_worker_sdk::agent!(Block);
