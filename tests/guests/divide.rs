//! Divides by zero, past the check of the language.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Divide;

impl Agent for Divide {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let zero = std::hint::black_box(0_u32);
        log::info!("{}", 7 / zero);
        Ok(())
    }
}

wasm_worker_sdk::agent!(Divide);
