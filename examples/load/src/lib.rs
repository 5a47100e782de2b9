//! A load function: `wasm-worker run AGENT --load-fn examples/load`.
//!
//! It tracks CPU and cores, prints them every five seconds, and lets a worker fill up when the machine is calm: the load is the
//! worst CPU of the last ten seconds, so a spike is not forgotten at once.

use std::cell::RefCell;
use std::collections::VecDeque;

use bindings::wasm_worker::agent::log::{Level, write};
use bindings::{Guest, Sample};

#[allow(unsafe_code, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated code")]
mod bindings {
    wit_bindgen::generate!({ path: "../../guest-sdk/wit", world: "load-function", pub_export_macro: true });
}

/// Ten seconds: it is called twice a second.
const REMEMBERED: usize = 20;
const PRINT_EVERY: u32 = 10;

#[derive(Default)]
struct Tracker {
    cpu: VecDeque<f64>,
    calls: u32,
}

thread_local! {
    static TRACKER: RefCell<Tracker> = RefCell::default();
}

struct Load;

impl Guest for Load {
    fn load(sample: Sample) -> f64 {
        TRACKER.with_borrow_mut(|tracker| tracker.load(&sample))
    }
}

impl Tracker {
    fn load(&mut self, sample: &Sample) -> f64 {
        if self.cpu.len() == REMEMBERED {
            self.cpu.pop_front();
        }
        self.cpu.push_back(sample.cpu);
        if self.calls.is_multiple_of(PRINT_EVERY) {
            let Sample { cpu, cores, fuel_rate, jobs, .. } = sample;
            let line =
                format!("{:.2} of {cores:.1} cores in use, {fuel_rate:.0} fuel a second, {jobs} jobs", cpu * cores);
            write(Level::Info, &line, &[]);
        }
        self.calls = self.calls.wrapping_add(1);
        self.cpu.iter().copied().fold(sample.memory, f64::max)
    }
}

#[allow(unsafe_code, reason = "generated code")]
mod exported {
    super::bindings::export!(Load with_types_in super::bindings);
    use super::Load;
}
