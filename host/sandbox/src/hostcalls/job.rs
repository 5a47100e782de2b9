//! `wasm-worker:agent/job`: facts, budget, shutdown, log fields, and the message of a panic.

use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::job::{self, Budget, Gauge, Host};
use crate::guest::contract;
use crate::guest::control::StopBy;
use crate::guest::meter::{exact, fuel_used};
use wasm_worker_core::text::{clip, pairs_bytes};

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface { name: "wasm-worker:agent/job", add_to_linker }];

impl Host for HostState {
    fn get_info(&mut self) -> wasmtime::Result<contract::JobInfo> {
        self.meter.calls.job.add(0);
        Ok(self.info.clone())
    }

    fn get_budget(&mut self) -> wasmtime::Result<Budget> {
        self.meter.calls.job.add(0);
        let limits = self.meter.limits();
        let time = self.meter.launched.map(|at| at.elapsed()).unwrap_or_default();
        let millis = |duration: Duration| exact(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        Ok(Budget {
            fuel: Gauge { used: exact(fuel_used(limits, self.fuel_left)), limit: limits.fuel.map(exact) },
            memory_bytes: Gauge {
                used: exact(self.meter.used_bytes() as u64),
                limit: Some(exact(limits.memory_bytes as u64)),
            },
            time_ms: Gauge { used: millis(time), limit: limits.max_duration.map(millis) },
            cpu_ms: millis(self.control.clock.cpu_in_poll()),
        })
    }

    fn shutdown(&mut self, reason: String) -> wasmtime::Result<()> {
        self.meter.calls.job.add(reason.len());
        // The life, the inbox and the verdict keep the reason, and none of them charges for it.
        self.control.ask_to_stop(StopBy::Guest, clip(&reason));
        Ok(())
    }

    fn set_log_fields(&mut self, fields: contract::Attributes) -> wasmtime::Result<Result<(), String>> {
        self.meter.calls.job.add(pairs_bytes(&fields));
        Ok(self.control.log().set_fields(fields))
    }

    fn report_panic(&mut self, message: String, place: String) -> wasmtime::Result<()> {
        self.meter.calls.job.add(message.len() + place.len());
        let place = if place.is_empty() { String::new() } else { format!(" at {}", clip(&place)) };
        self.control.set_panic_message(format!("panicked{place}: {}", clip(&message)));
        Ok(())
    }
}

/// Add the interface. `get-budget` is the one call that needs the store itself, for the fuel that is left.
fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    job::add_to_linker::<_, Own>(linker, |state| state)?;
    linker.allow_shadowing(true);
    linker.instance("wasm-worker:agent/job@0.1.0")?.func_wrap(
        "get-budget",
        |mut ctx: StoreContextMut<'_, HostState>, (): ()| {
            // The bindings trace every other call in the same way.
            let _span = tracing::trace_span!("import", module = "job", function = "get-budget").entered();
            let fuel_left = ctx.get_fuel()?;
            let state = ctx.data_mut();
            state.fuel_left = fuel_left;
            Ok((state.get_budget()?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
