//! A load function: `wasm-worker run AGENT --load-fn examples/load`.
//!
//! It logs the cores in use every five seconds. The load is the highest CPU utilisation of the last ten seconds, or the
//! memory utilisation if that is higher, so that a short pause does not make a busy worker look free.

use std::collections::VecDeque;

use wasm_worker_sdk::LoadFunction;
use wasm_worker_sdk::types::Sample;

/// Ten seconds of samples, at two a second.
const SAMPLES_MAX: usize = 20;
const LOG_EVERY: u32 = 10;

#[derive(Default)]
struct PeakCpu {
    cpu: VecDeque<f64>,
    calls: u32,
}

impl LoadFunction for PeakCpu {
    fn load(&mut self, sample: &Sample) -> f64 {
        if self.cpu.len() == SAMPLES_MAX {
            self.cpu.pop_front();
        }
        self.cpu.push_back(sample.cpu);
        if self.calls.is_multiple_of(LOG_EVERY) {
            let Sample { cpu, cores, fuel_rate, jobs, .. } = sample;
            log::info!("{:.2} of {cores:.1} cores in use, {fuel_rate:.0} fuel a second, {jobs} jobs", cpu * cores);
        }
        self.calls = self.calls.wrapping_add(1);
        self.cpu.iter().copied().fold(sample.memory, f64::max)
    }
}

wasm_worker_sdk::load_function!(PeakCpu);
