//! Leaves 140 MiB behind in its prewarm, more than the engine copies by default.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PrewarmLarge {
    memory: Vec<u8>,
}

impl Agent for PrewarmLarge {
    fn prewarm(&mut self) -> Result {
        self.memory = vec![7; 140 << 20];
        Ok(())
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let sum: u64 = self.memory.iter().step_by(1 << 20).map(|byte| u64::from(*byte)).sum();
        ctx.send_text("sum", &sum.to_string())
    }
}

wasm_worker_sdk::agent!(PrewarmLarge);
