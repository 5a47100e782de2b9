//! Never ends its prewarm.

use wasm_worker_sdk::{Agent, Result};

#[derive(Default)]
struct PrewarmSpin;

impl Agent for PrewarmSpin {
    fn prewarm(&mut self) -> Result {
        for n in 0_u64.. {
            std::hint::black_box(n);
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(PrewarmSpin);
