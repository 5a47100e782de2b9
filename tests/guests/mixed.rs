//! Computes as many rounds as its metadata says, for ever, or not at all; or waits.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::timeout};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Default)]
struct Mixed;

impl Agent for Mixed {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let rounds = match ctx.job().metadata.as_str() {
            "loop" => u64::MAX,
            "return" => 0,
            "wait" => {
                timeout(DAY, ctx.shutdown_requested()).await;
                0
            }
            rounds => rounds.parse()?,
        };
        for n in 0..rounds {
            std::hint::black_box(n);
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Mixed);
