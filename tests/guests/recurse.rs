//! Recurses until its stack is used up.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Recurse;

impl Agent for Recurse {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        deeper(1);
        Ok(())
    }
}

fn deeper(depth: u64) -> u64 {
    if std::hint::black_box(false) {
        return 0;
    }
    let here = std::hint::black_box([depth; 8]);
    deeper(depth + 1) + here[7]
}

wasm_worker_sdk::agent!(Recurse);
