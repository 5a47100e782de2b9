//! Never decides.

use wasm_worker_sdk::Agent;
use wasm_worker_sdk::types::{Decision, JobInfo};

#[derive(Default)]
struct SpinDecide;

impl Agent for SpinDecide {
    fn decide(&mut self, _: &JobInfo) -> Decision {
        loop {
            std::hint::black_box(());
        }
    }
}

wasm_worker_sdk::agent!(SpinDecide);
