//! Looks away until its inbox is full, and then waits for a person.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct DeafMeeting;

impl Agent for DeafMeeting {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        subscribe_duration(1_000_000_000).block();
        let who = ctx.wait_for_participant(None).await;
        ctx.send_text("met", &who.identity)
    }
}

wasm_worker_sdk::agent!(DeafMeeting);
