//! Panics over an offer.

use wasm_worker_sdk::Agent;
use wasm_worker_sdk::types::{Decision, JobInfo};

#[derive(Default)]
struct PanicDecide;

impl Agent for PanicDecide {
    fn decide(&mut self, offer: &JobInfo) -> Decision {
        panic!("cannot decide on {}", offer.id)
    }
}

wasm_worker_sdk::agent!(PanicDecide);
