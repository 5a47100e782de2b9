//! Burns fuel, and waits between its steps for as many milliseconds as its metadata says, or only as long as others have a turn.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Burn;

impl Agent for Burn {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let pause = Duration::from_millis(ctx.job().metadata.parse().unwrap_or(0));
        loop {
            (0..100_000_u64).for_each(|n| {
                std::hint::black_box(n);
            });
            sleep(pause).await;
        }
    }
}

wasm_worker_sdk::agent!(Burn);
