//! Fills the host with texts instead of its own memory.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct TextFlood;

impl Agent for TextFlood {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let text = "x".repeat(256 << 10);
        loop {
            ctx.send_text("flood", &text)?;
        }
    }
}

wasm_worker_sdk::agent!(TextFlood);
