//! Panics in its prewarm.

use wasm_worker_sdk::{Agent, Result};

#[derive(Default)]
struct PrewarmPanic;

impl Agent for PrewarmPanic {
    fn prewarm(&mut self) -> Result {
        panic!("the table is upside down")
    }
}

wasm_worker_sdk::agent!(PrewarmPanic);
