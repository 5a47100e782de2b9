//! The end of a step as a recording has it.

use wasmtime::Store;

use super::run::Crash;
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::kill::Kill;
use crate::guest::meter::fuel_used;
use crate::recording::record::StepEnd;
use crate::recording::recorder::Recorder;

/// Tell the recorder of a step that has ended. `outcome` is absent where the guest was dropped.
pub(super) fn record(
    recorder: &mut Recorder,
    events: &[Event],
    store: &mut Store<HostState>,
    outcome: Option<&Result<(), Crash>>,
) {
    let left = store.get_fuel().unwrap_or(0);
    let state = store.data_mut();
    let fuel = fuel_used(state.meter.limits(), left);
    let end = end_of(outcome, state.meter.admissions());
    recorder.step(events, state, fuel, end);
}

/// The end of a step with this outcome, which asked for so many admissions of memory.
pub(super) fn end_of(outcome: Option<&Result<(), Crash>>, admissions: u64) -> StepEnd {
    let crash = match outcome {
        Some(Ok(())) => return StepEnd::Returned,
        None => return StepEnd::Dropped,
        Some(Err(crash)) => crash.clone(),
    };
    match crash {
        Crash::Trap { kind, detail, backtrace } => StepEnd::Trapped { kind: kind.as_str().into(), detail, backtrace },
        Crash::Killed { kill, backtrace } => StepEnd::Killed {
            code: kill.code().as_str().into(),
            detail: kill.to_string(),
            backtrace,
            admissions: matches!(kill, Kill::Memory { .. }).then_some(admissions),
        },
        Crash::OutOfFuel { backtrace } => StepEnd::OutOfFuel { backtrace },
        Crash::Exit { status, .. } => StepEnd::Exited { status },
        Crash::NeedsHandle { import } => StepEnd::Failed { detail: format!("`{import}` was refused") },
        Crash::InitFailed(detail) | Crash::Host(detail) => StepEnd::Failed { detail },
    }
}
