//! Opens handles and drops none.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct HandleLeak;

impl Agent for HandleLeak {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        loop {
            std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(1));
        }
    }
}

wasm_worker_sdk::agent!(HandleLeak);
