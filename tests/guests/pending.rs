//! Awaits what nobody completes.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Pending;

impl Agent for Pending {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        std::future::pending().await
    }
}

wasm_worker_sdk::agent!(Pending);
