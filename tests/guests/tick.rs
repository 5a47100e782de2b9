//! Waits for no time at all, as often as its metadata says.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Tick;

impl Agent for Tick {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let steps: u32 = ctx.job().metadata.parse()?;
        for _ in 0..steps {
            sleep(Duration::ZERO).await;
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Tick);
