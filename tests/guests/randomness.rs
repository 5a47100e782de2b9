//! Says which random numbers it got: from WASI, from the SDK, and from a hash map made in the job.

use wasm_worker_sdk::{Agent, JobContext, Result, random};

#[derive(Default)]
struct Randomness;

impl Agent for Randomness {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let sdk = random::u64();
        let wasi = wasip2::random::insecure_seed::insecure_seed();
        let bytes = random::bytes(8);
        ctx.send_text("random", &format!("{sdk} {wasi:?} {bytes:?}"))
    }
}

wasm_worker_sdk::agent!(Randomness);
