//! Polls what is ready, for ever, in one step.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PollLoop;

impl Agent for PollLoop {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let ready = wasip2::clocks::monotonic_clock::subscribe_duration(0);
        loop {
            wasip2::io::poll::poll(&[&ready]);
        }
    }
}

wasm_worker_sdk::agent!(PollLoop);
