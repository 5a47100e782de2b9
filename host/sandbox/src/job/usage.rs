//! Reads what a job used from its instance.

use wasm_worker_core::network::traffic::NetworkUse;
use wasm_worker_core::usage::{AudioUse, PrewarmCost, UsageRecord, micros};

use crate::guest::HostState;
use crate::guest::meter::fuel_used;

/// The use of an instance that no longer runs. The caller sets `wall_us`, `start_us`, `prewarm`, `network` and `audio`.
pub(super) fn read(state: &mut HostState, fuel_left: u64) -> UsageRecord {
    let fuel = fuel_used(state.meter.limits(), fuel_left);
    state.meter.spend(fuel, state.control.clock.cpu());
    let (clock, log) = (&state.control.clock, state.control.log());
    let mut hostcalls = state.meter.calls.clone();
    hostcalls.stdio.calls += log.printed.calls;
    hostcalls.stdio.bytes += log.printed.bytes;
    UsageRecord {
        prewarm: PrewarmCost::default(),
        fuel,
        start_us: None,
        wall_us: 0,
        cpu_us: micros(clock.cpu()),
        run_us: micros(clock.run()),
        wait_us: micros(clock.waited()),
        memory_peak_bytes: state.meter.peak_bytes(),
        hostcalls,
        log_lines: log.lines,
        log_dropped: log.dropped,
        inbox_dropped: state.control.inbox.dropped(),
        network: NetworkUse::default(),
        audio: AudioUse::default(),
        models: state.usage.sums().to_vec(),
    }
}
