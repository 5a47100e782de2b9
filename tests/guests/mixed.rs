//! Computes for a millisecond or so, or, where its metadata says so, for ever.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Mixed;

impl Agent for Mixed {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let rounds = if ctx.job().metadata == "loop" { u64::MAX } else { 1_000_000 };
        for n in 0..rounds {
            std::hint::black_box(n);
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Mixed);
