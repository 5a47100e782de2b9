//! The same in its prewarm.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PrewarmLastWords;

impl Agent for PrewarmLastWords {
    fn prewarm(&mut self) -> Result {
        eprintln!("Traceback (most recent call last):");
        eprintln!("ModuleNotFoundError: no module named tables");
        load_tables()
    }

    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        Ok(())
    }
}

#[inline(never)]
fn load_tables() -> Result {
    std::process::abort()
}

wasm_worker_sdk::agent!(PrewarmLastWords);
