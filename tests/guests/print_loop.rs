//! Prints for ever, without a line break.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PrintLoop;

impl Agent for PrintLoop {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        for _ in 0_u64.. {
            print!("x");
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(PrintLoop);
