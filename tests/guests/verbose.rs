//! Accepts, with metadata that no frame would hold once it is escaped.

use wasm_worker_sdk::Agent;
use wasm_worker_sdk::types::{Acceptance, Decision, JobInfo};

#[derive(Default)]
struct Verbose;

impl Agent for Verbose {
    fn decide(&mut self, _: &JobInfo) -> Decision {
        Decision::Accept(Acceptance {
            identity: None,
            name: String::new(),
            metadata: "\u{1}".repeat(300_000),
            attributes: Vec::new(),
        })
    }
}

wasm_worker_sdk::agent!(Verbose);
