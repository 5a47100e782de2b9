//! `wasi:clocks`: the time of day and a monotonic clock, which both stand still during a step.

use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::{Interface, Own};
use crate::guest::HostState;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:clocks/monotonic-clock",
        add_to_linker: |linker| monotonic_clock::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:clocks/wall-clock",
        add_to_linker: |linker| wall_clock::add_to_linker::<_, Own>(linker, |state| state),
    },
];

impl wall_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.meter.calls.clock.add(0);
        let now = self.clock.now().since_1970();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.meter.calls.clock.add(0);
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}

impl monotonic_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        self.meter.calls.clock.add(0);
        Ok(u64::try_from(self.clock.monotonic().as_nanos())?)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        self.meter.calls.clock.add(0);
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: monotonic_clock::Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let until = Duration::from_nanos(when).saturating_sub(self.clock.monotonic());
        self.timer(until)
    }

    fn subscribe_duration(&mut self, when: monotonic_clock::Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.timer(Duration::from_nanos(when))
    }
}

impl HostState {
    fn timer(&mut self, after: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.meter.calls.clock.add(0);
        self.check_handle_allowed("wasi:clocks/monotonic-clock")?;
        let timer = self.table.push(if after.is_zero() { Timer::Due } else { Timer::Later })?;
        subscribe(&mut self.table, timer)
    }
}

/// A timer. Time stands still, so that one which is not due now is not due in this step.
enum Timer {
    Due,
    Later,
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        match self {
            Self::Due => {}
            Self::Later => std::future::pending().await,
        }
    }
}
