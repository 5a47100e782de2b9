//! Fills the host with texts instead of its own memory: a few in each step, or all in one where its metadata says so.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct TextFlood;

impl Agent for TextFlood {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let text = "x".repeat(256 << 10);
        loop {
            ctx.send_text("flood", &text)?;
            if ctx.job().metadata != "at once" {
                sleep(Duration::ZERO).await;
            }
        }
    }
}

wasm_worker_sdk::agent!(TextFlood);
