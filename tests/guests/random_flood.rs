//! Asks WASI for more randomness in one call than a call may carry.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct RandomFlood;

impl Agent for RandomFlood {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        log::info!("{}", wasip2::random::random::get_random_bytes(1 << 30).len());
        Ok(())
    }
}

wasm_worker_sdk::agent!(RandomFlood);
