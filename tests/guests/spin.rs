//! Never waits.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Spin;

impl Agent for Spin {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        for n in 0_u64.. {
            std::hint::black_box(n);
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Spin);
