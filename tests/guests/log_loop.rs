//! Logs for ever, which is no sign of life.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct LogLoop;

impl Agent for LogLoop {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        for n in 0_u64.. {
            log::info!("line {n}");
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(LogLoop);
