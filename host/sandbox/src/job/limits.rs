//! The limits that bind a guest while it runs: fuel, memory, bytes and handles of host calls, and the check at each epoch.

use std::time::Duration;

use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::engine::FUEL_SLICE;
use crate::hostcalls::HostState;
use crate::hostcalls::bindings::wasm_worker::agent::inbox::BudgetKind;
use crate::hostcalls::kill::{Kill, Warning};
use crate::hostcalls::meter::fuel_used;
use crate::settings::Limits;

/// Put every limit on a new store. Without this a guest would trap at its first instruction: fuel and the epoch deadline
/// start at zero.
pub(crate) fn arm(store: &mut Store<HostState>) -> wasmtime::Result<()> {
    let (hostcall_bytes, handles) = {
        let limits = store.data().meter.limits();
        (limits.hostcall_bytes, limits.handles)
    };
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(hostcall_bytes);
    store.set_max_component_handles(handles);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(check);
    refuel(store)
}

/// Give a store its whole fuel budget, and have it stop after each slice, where its turn may end.
pub(crate) fn refuel(store: &mut Store<HostState>) -> wasmtime::Result<()> {
    let fuel = store.data().meter.limits().fuel.unwrap_or(u64::MAX);
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(FUEL_SLICE))
}

/// Runs in the guest's thread, once in each epoch in which it runs. An error ends the guest there.
fn check(mut ctx: StoreContextMut<'_, HostState>) -> wasmtime::Result<UpdateDeadline> {
    let fuel_left = ctx.get_fuel()?;
    let state = ctx.data_mut();
    let used = fuel_used(state.meter.limits(), fuel_left);
    state.meter.spend(used, state.control.clock.cpu_in_poll());
    state.control.check_kill()?;
    // Before the launch `init-timeout` alone decides.
    if state.meter.launched.is_some() {
        let ran = state.control.clock.since_wait();
        match judge(ran, state.meter.limits()) {
            Judgement::Fine => {}
            Judgement::Slow => {
                if state.control.clock.first_warning() {
                    state.control.warn(Warning::SlowToYield { ran });
                }
            }
            Judgement::Unresponsive { limit } => return Err(Kill::Unresponsive { ran, limit }.into()),
        }
    }
    if let Some(limit) = state.meter.limits().fuel {
        state.meter.watch(BudgetKind::Fuel, used, limit);
    }
    // A guest that spends its time in host calls uses little fuel, so its slices of fuel alone would be too long. When it
    // resumes, it comes here again at once: it may have been killed meanwhile, and its next epoch is a while off.
    let by_fuel = state.control.clock.poll_so_far() < state.control.turns.by_fuel();
    Ok(if by_fuel { UpdateDeadline::Continue(1) } else { UpdateDeadline::Yield(0) })
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fine,
    Slow,
    Unresponsive { limit: Duration },
}

/// What to make of a guest that ran for so long without waiting.
fn judge(ran: Duration, limits: &Limits) -> Judgement {
    if ran >= limits.unresponsive_timeout {
        Judgement::Unresponsive { limit: limits.unresponsive_timeout }
    } else if ran >= limits.unresponsive_warning {
        Judgement::Slow
    } else {
        Judgement::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_warned_of_and_then_killed() {
        let limits = Limits::default();
        assert_eq!(judge(Duration::from_millis(499), &limits), Judgement::Fine);
        assert_eq!(judge(Duration::from_millis(500), &limits), Judgement::Slow);
        let killed = judge(Duration::from_secs(10), &limits);
        assert_eq!(killed, Judgement::Unresponsive { limit: Duration::from_secs(10) });
        let strict = Limits { unresponsive_timeout: Duration::from_millis(100), ..limits };
        assert!(matches!(judge(Duration::from_millis(100), &strict), Judgement::Unresponsive { .. }));
    }
}
