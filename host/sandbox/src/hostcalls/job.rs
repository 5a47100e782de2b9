//! `wasm-worker:agent/job`: timer, end, budget, randomness, log fields, tasks, and the message of a panic.

use std::time::Duration;

use wasm_worker_core::job::Task;
use wasm_worker_core::record::LogLevel;
use wasm_worker_core::text::{clip, pairs_bytes};
use wasm_worker_core::usage;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{Interface, Own};
use crate::guest::bindings::wasm_worker::agent::job::{self, Budget, Gauge, Host, Task as ReportedTask};
use crate::guest::calls::Call;
use crate::guest::contract::Attributes;
use crate::guest::convert::exact;
use crate::guest::kill::Kill;
use crate::guest::meter::fuel_used;
use crate::guest::{HostState, Part};

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface { name: "wasm-worker:agent/job", add_to_linker }];

/// Most tasks of a report that are kept.
const TASKS_MAX: usize = 64;
/// Longest name of a task, and of its wait, that is kept, in bytes.
const TASK_NAME_BYTES_MAX: usize = 128;
/// Most random bytes of one call.
const RANDOM_BYTES_MAX: usize = 64 << 10;

impl Host for HostState {
    fn wake(&mut self, after_ms: Option<u32>) -> wasmtime::Result<()> {
        self.meter.calls.job.add(0);
        if self.part == Part::Job {
            self.calls.wake(after_ms);
        }
        Ok(())
    }

    fn finish(&mut self, outcome: Result<(), String>) -> wasmtime::Result<()> {
        self.meter.calls.job.add(outcome.as_ref().err().map_or(0, String::len));
        // The verdict keeps one line.
        let outcome = outcome.map_err(|error| clip(&error));
        if self.part == Part::Job {
            self.calls.finish(outcome);
        }
        Ok(())
    }

    fn shutdown(&mut self, reason: String) -> wasmtime::Result<()> {
        self.meter.calls.job.add(reason.len());
        // The life, the inbox and the verdict keep the reason, and none of them charges for it.
        let reason = clip(&reason);
        self.buffer(reason.len(), Call::Shutdown { reason })
    }

    fn get_budget(&mut self) -> wasmtime::Result<Budget> {
        self.meter.calls.job.add(0);
        if self.part != Part::Job {
            let none = Gauge { used: 0.0, limit: None };
            return Ok(Budget { fuel: none, memory_bytes: none, time_ms: none, cpu_ms: 0.0 });
        }
        let limits = self.meter.limits();
        let time = self.clock.since_launch();
        let millis = |duration: Duration| exact(usage::millis(duration));
        let budget = Budget {
            fuel: Gauge { used: exact(fuel_used(limits, self.fuel_left)), limit: limits.fuel.map(exact) },
            memory_bytes: Gauge {
                used: exact(self.meter.used_bytes() as u64),
                limit: Some(exact(limits.memory_bytes as u64)),
            },
            time_ms: Gauge { used: millis(time), limit: limits.max_duration.map(millis) },
            cpu_ms: millis(self.control.clock.cpu_before_call()),
        };
        Ok(self.tape.answer(budget))
    }

    fn random(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        let wanted = len as usize;
        if wanted > RANDOM_BYTES_MAX {
            let what = "bytes of randomness in one call";
            return Err(Kill::Hostcall { what, wanted, limit: RANDOM_BYTES_MAX }.into());
        }
        if self.part == Part::Prewarm { Ok(Vec::new()) } else { self.random_bytes(wanted) }
    }

    fn set_log_fields(&mut self, fields: Attributes) -> wasmtime::Result<()> {
        self.meter.calls.job.add(pairs_bytes(&fields));
        if self.part == Part::Job {
            let mut log = self.control.log();
            if let Err(why) = log.set_fields(fields) {
                log.write(LogLevel::Warn, &format!("the log fields stay as they are: {why}"), &[]);
            }
        }
        Ok(())
    }

    fn report_panic(&mut self, message: String, place: String) -> wasmtime::Result<()> {
        self.meter.calls.job.add(message.len() + place.len());
        let place = if place.is_empty() { String::new() } else { format!(" at {}", clip(&place)) };
        self.control.set_panic_message(format!("panicked{place}: {}", clip(&message)));
        Ok(())
    }

    fn report_tasks(&mut self, tasks: Vec<ReportedTask>) -> wasmtime::Result<()> {
        self.meter.calls.job.add(tasks.iter().map(|task| task.name.len() + task.waits_for.len()).sum());
        if self.part == Part::Job {
            let kept = tasks.into_iter().take(TASKS_MAX);
            let tasks = kept.map(|task| Task { name: short(&task.name), waits_for: short(&task.waits_for) });
            self.control.set_tasks(tasks.collect());
        }
        Ok(())
    }
}

/// One bounded line.
fn short(name: &str) -> String {
    let mut name = clip(name);
    name.truncate(name.floor_char_boundary(TASK_NAME_BYTES_MAX));
    name
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
