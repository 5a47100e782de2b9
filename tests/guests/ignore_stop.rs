//! Hears that it should stop, and goes on.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct IgnoreStop;

impl Agent for IgnoreStop {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let request = ctx.shutdown_requested().await;
        log::info!("asked to stop within {} ms, which is not convenient", request.grace_ms);
        loop {
            // Not an await, so the SDK cannot end it either.
            wasip2::clocks::monotonic_clock::subscribe_duration(5_000_000).block();
        }
    }
}

wasm_worker_sdk::agent!(IgnoreStop);
