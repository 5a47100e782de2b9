//! Refuses every offer.

use wasm_worker_sdk::Agent;
use wasm_worker_sdk::types::{Decision, JobInfo};

#[derive(Default)]
struct Reject;

impl Agent for Reject {
    fn decide(&mut self, _: &JobInfo) -> Decision {
        Decision::reject("never in the mood", true)
    }
}

wasm_worker_sdk::agent!(Reject);
