//! Draws a random number in its prewarm, which a snapshot gives to every job.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PrewarmRandom {
    drawn: u64,
}

impl Agent for PrewarmRandom {
    fn prewarm(&mut self) -> Result {
        self.drawn = wasip2::random::random::get_random_u64();
        Ok(())
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.send_text("drawn", &self.drawn.to_string())
    }
}

wasm_worker_sdk::agent!(PrewarmRandom);
