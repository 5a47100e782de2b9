//! `wasm-worker:agent/job`: facts, budget, shutdown, log fields, last words.

use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::HostState;
use super::bindings::wasm_worker::agent::job::{Budget, Gauge, Host};
use super::calls::Interface;
use super::contract;
use super::control::StopBy;
use super::meter::{exact, fuel_used};
use wasm_worker_core::text::{clip, pairs_bytes};

impl Host for HostState {
    fn get_info(&mut self) -> wasmtime::Result<contract::JobInfo> {
        self.meter.count(Interface::Job, 0);
        Ok(self.info.clone())
    }

    fn get_budget(&mut self) -> wasmtime::Result<Budget> {
        self.meter.count(Interface::Job, 0);
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
        self.meter.count(Interface::Job, reason.len());
        // It is kept by the life, the inbox and the verdict, none of which charges for it.
        self.control.ask_to_stop(StopBy::Guest, clip(&reason));
        Ok(())
    }

    fn set_log_fields(&mut self, fields: contract::Attributes) -> wasmtime::Result<Result<(), String>> {
        self.meter.count(Interface::Job, pairs_bytes(&fields));
        Ok(self.control.log().set_fields(fields))
    }

    fn report_panic(&mut self, message: String, place: String) -> wasmtime::Result<()> {
        self.meter.count(Interface::Job, message.len() + place.len());
        let place = if place.is_empty() { String::new() } else { format!(" at {}", clip(&place)) };
        self.control.set_last_words(format!("panicked{place}: {}", clip(&message)));
        Ok(())
    }
}

/// `get-budget` is the one call that needs the store itself, for the fuel that is left.
pub(super) fn add_budget(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasm-worker:agent/job@0.1.0")?.func_wrap(
        "get-budget",
        |mut ctx: StoreContextMut<'_, HostState>, (): ()| {
            // As the bindings trace every other call.
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
