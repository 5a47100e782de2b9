//! Panics, with a message.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Panic;

impl Agent for Panic {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let words: Vec<&str> = "one two".split(' ').collect();
        panic!("no third word in {words:?}")
    }
}

wasm_worker_sdk::agent!(Panic);
