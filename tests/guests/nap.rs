//! Waits for as many milliseconds as its metadata says, 50 where it says nothing.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Nap;

impl Agent for Nap {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let millis = ctx.job().metadata.parse().unwrap_or(50);
        sleep(Duration::from_millis(millis)).await;
        Ok(())
    }
}

wasm_worker_sdk::agent!(Nap);
