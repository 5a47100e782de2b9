//! Computes until its inbox is full, and then waits for a person.

use wasm_worker_sdk::{Agent, JobContext, Result};

/// About a second.
const ROUNDS: u64 = 1_000_000_000;

#[derive(Default)]
struct DeafMeeting;

impl Agent for DeafMeeting {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        for n in 0..ROUNDS {
            std::hint::black_box(n);
        }
        let who = ctx.wait_for_participant(None).await;
        ctx.send_text("met", &who.identity)
    }
}

wasm_worker_sdk::agent!(DeafMeeting);
