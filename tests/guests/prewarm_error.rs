//! Returns an error from its prewarm.

use wasm_worker_sdk::{Agent, Result};

#[derive(Default)]
struct PrewarmError;

impl Agent for PrewarmError {
    fn prewarm(&mut self) -> Result {
        Err("the table is not there".into())
    }
}

wasm_worker_sdk::agent!(PrewarmError);
