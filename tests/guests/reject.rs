//! Refuses every offer.

use wasm_worker_sdk::Agent;
use wasm_worker_sdk::types::{Decision, JobInfo, Rejection};

#[derive(Default)]
struct Reject;

impl Agent for Reject {
    fn decide(&mut self, _: &JobInfo) -> Decision {
        Decision::Reject(Rejection { reason: "never in the mood".into(), terminate: true })
    }
}

wasm_worker_sdk::agent!(Reject);
