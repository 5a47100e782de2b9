//! Claims to have used ever more models.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct UsageFlood;

impl Agent for UsageFlood {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        for n in 0_u64.. {
            ctx.usage().add("llm", "provider", &format!("model{n}"), &[("input_tokens", 1.0)]);
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(UsageFlood);
