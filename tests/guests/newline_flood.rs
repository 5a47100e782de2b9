//! Prints nothing but line breaks, in calls as large as they may be.

use std::io::Write;

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct NewlineFlood;

impl Agent for NewlineFlood {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let lines = [b'\n'; 64 << 10];
        loop {
            std::io::stdout().write_all(&lines)?;
        }
    }
}

wasm_worker_sdk::agent!(NewlineFlood);
