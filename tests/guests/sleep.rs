//! Waits for an hour, and does not listen meanwhile.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Sleep;

impl Agent for Sleep {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        sleep(Duration::from_secs(3_600)).await;
        Ok(())
    }
}

wasm_worker_sdk::agent!(Sleep);
