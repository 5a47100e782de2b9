//! Takes memory until there is none.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct MemoryBomb;

impl Agent for MemoryBomb {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        loop {
            taken.push(std::hint::black_box(vec![1; 1 << 20]));
        }
    }
}

wasm_worker_sdk::agent!(MemoryBomb);
