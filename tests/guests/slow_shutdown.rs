//! Returns at once, and then hangs in a shutdown callback.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct SlowShutdown;

impl Agent for SlowShutdown {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.add_shutdown_callback(async |_| sleep(Duration::from_secs(3_600)).await);
        Ok(())
    }
}

wasm_worker_sdk::agent!(SlowShutdown);
