//! Accepts, and wants to be called by a name that no server would take.

use wasm_worker_sdk::Agent;
use wasm_worker_sdk::types::{Acceptance, Decision, JobInfo};

#[derive(Default)]
struct LongName;

impl Agent for LongName {
    fn decide(&mut self, _: &JobInfo) -> Decision {
        Decision::Accept(Acceptance {
            identity: Some("x".repeat(1_000)),
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
        })
    }
}

wasm_worker_sdk::agent!(LongName);
