//! What one job used, as it stands in its record.

use serde::Serialize;

use crate::hostcalls::HostState;
use crate::hostcalls::calls::HostCalls;
use crate::hostcalls::meter::fuel_used;
use crate::hostcalls::usage::ModelSums;

/// What running `prewarm` took, for a job whose instance had to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrewarmCost {
    /// Fuel units.
    pub fuel: u64,
    /// By the thread's clock, in microseconds.
    pub cpu_us: u64,
}

/// The bill of one job. Times are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UsageRecord {
    /// What running `prewarm` in this job's own instance took; nothing from a snapshot.
    pub prewarm: PrewarmCost,
    /// Fuel, about one unit for each WebAssembly instruction; the same for the same work.
    pub fuel: u64,
    /// From the admission to the call of the entrypoint; absent when it was never called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_us: Option<u64>,
    /// For a job that was killed on a deadline: from that deadline to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_lag_us: Option<u64>,
    /// From the admission to the end.
    pub wall_us: u64,
    /// What the job had a core for, by the thread's clock.
    pub cpu_us: u64,
    /// What the job was on a thread for, by the wall clock; the rest of `wall_us` it waited, or was queued.
    pub run_us: u64,
    /// What it waited for in host calls.
    pub wait_us: u64,
    /// Most that memories, tables and host-side buffers held at once.
    pub memory_peak_bytes: usize,
    /// Calls to the host and their bytes, by interface.
    pub hostcalls: HostCalls,
    /// Log lines written.
    pub log_lines: u64,
    /// Log lines over the rate limit, not written.
    pub log_dropped: u64,
    /// Events that did not fit in the inbox.
    pub inbox_dropped: u64,
    /// What the job's models used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelSums>,
}

impl UsageRecord {
    /// Read off an instance that will not run any more. `wall_us`, `start_us` and `kill_lag_us` are the caller's to fill in.
    pub(crate) fn of(state: &mut HostState, fuel_left: u64) -> Self {
        state.meter.spend(fuel_used(state.meter.limits(), fuel_left), state.control.clock.cpu());
        let (clock, log) = (&state.control.clock, state.control.log());
        let mut hostcalls = state.meter.calls.clone();
        hostcalls.stdio.calls += log.printed.calls;
        hostcalls.stdio.bytes += log.printed.bytes;
        Self {
            prewarm: PrewarmCost::default(),
            fuel: fuel_used(state.meter.limits(), fuel_left),
            start_us: None,
            kill_lag_us: None,
            wall_us: 0,
            cpu_us: micros(clock.cpu()),
            run_us: micros(clock.run()),
            wait_us: micros(clock.waited()),
            memory_peak_bytes: state.meter.peak_bytes(),
            hostcalls,
            log_lines: log.lines,
            log_dropped: log.dropped,
            inbox_dropped: state.control.inbox.dropped(),
            models: state.usage.sums(),
        }
    }
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
