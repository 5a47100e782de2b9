//! Hears that it should stop, and goes on.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct IgnoreStop;

impl Agent for IgnoreStop {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let request = ctx.shutdown_requested().await;
        log::info!("asked to stop within {} ms, which is not convenient", request.grace_ms);
        loop {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

wasm_worker_sdk::agent!(IgnoreStop);
