//! Burns fuel, and waits often enough to be responsive.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Burn;

impl Agent for Burn {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        loop {
            (0..100_000_u64).for_each(|n| {
                std::hint::black_box(n);
            });
            sleep(Duration::ZERO).await;
        }
    }
}

wasm_worker_sdk::agent!(Burn);
