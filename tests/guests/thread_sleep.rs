//! Sleeps as a program does that owns its thread.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct ThreadSleep;

impl Agent for ThreadSleep {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        #[expect(clippy::disallowed_methods, reason = "this is what it does wrong")]
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

wasm_worker_sdk::agent!(ThreadSleep);
