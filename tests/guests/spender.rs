//! Reports as many tokens of a model as its metadata says, and waits for a moment.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, LlmUsage, Result, time::sleep};

#[derive(Default)]
struct Spender;

impl Agent for Spender {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let tokens: u64 = ctx.job().metadata.parse().unwrap_or(0);
        let used = LlmUsage { input_tokens: tokens - tokens / 4, output_tokens: tokens / 4, ..LlmUsage::default() };
        ctx.usage().llm("nobody", "small", used);
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }
}

wasm_worker_sdk::agent!(Spender);
