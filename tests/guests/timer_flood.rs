//! Polls 150 timers that are due, for ever, in one step.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::{Pollable, poll};
use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct TimerFlood;

impl Agent for TimerFlood {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let timers: Vec<Pollable> = (0..150).map(|_| subscribe_duration(0)).collect();
        let all: Vec<&Pollable> = timers.iter().collect();
        loop {
            poll(&all);
        }
    }
}

wasm_worker_sdk::agent!(TimerFlood);
