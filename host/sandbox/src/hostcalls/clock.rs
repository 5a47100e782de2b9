//! `wasi:clocks`: the time of day, a monotonic clock that begins with the instance, and timers.

use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::Instant;
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

/// Longest timer. For one job, a longer wait is a wait for ever.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

impl wall_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.meter.calls.clock.add(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
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
        Ok(u64::try_from(self.monotonic().as_nanos())?)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        self.meter.calls.clock.add(0);
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: monotonic_clock::Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let until = Duration::from_nanos(when).saturating_sub(self.monotonic());
        self.timer(until)
    }

    fn subscribe_duration(&mut self, when: monotonic_clock::Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.timer(Duration::from_nanos(when))
    }
}

impl HostState {
    fn monotonic(&self) -> Duration {
        self.clock_origin + self.started.elapsed()
    }

    fn timer(&mut self, after: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.meter.calls.clock.add(0);
        self.check_handle_allowed("wasi:clocks/monotonic-clock")?;
        let timer = if after.is_zero() {
            Timer::Now
        } else {
            Timer::At { due: Instant::now() + after.min(FOREVER), timers: self.timers.clone() }
        };
        let timer = self.table.push(timer)?;
        subscribe(&mut self.table, timer)
    }
}

enum Timer {
    Now,
    At { due: Instant, timers: Handle },
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        match self {
            Self::Now => {}
            Self::At { due, timers } => {
                let sleep = {
                    let _timers = timers.enter();
                    tokio::time::sleep_until(*due)
                };
                sleep.await;
            }
        }
    }
}
