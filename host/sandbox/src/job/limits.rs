//! The limits that bind a guest while it runs: fuel, memory, bytes and handles of host calls, and the check at each epoch.

use std::time::Duration;

use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::engine::FUEL_YIELD_INTERVAL;
use crate::guest::HostState;
use crate::guest::kill::{Budget, Kill, Warning};
use crate::guest::meter::fuel_used;
use crate::settings::Limits;

/// Set every limit on a new store. Without limits a guest traps at its first instruction, because fuel and the epoch deadline
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

/// Give a store its whole fuel, and have the guest yield after each fuel interval, where its time slice may end.
pub(crate) fn refuel(store: &mut Store<HostState>) -> wasmtime::Result<()> {
    let fuel = store.data().meter.limits().fuel.unwrap_or(u64::MAX);
    give_fuel(store, fuel)
}

/// Give a store this fuel.
pub(crate) fn give_fuel(store: &mut Store<HostState>, fuel: u64) -> wasmtime::Result<()> {
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(FUEL_YIELD_INTERVAL))
}

/// Check the limits, on the guest's thread, once in each epoch in which the guest runs. An error ends the guest there.
fn check(mut ctx: StoreContextMut<'_, HostState>) -> wasmtime::Result<UpdateDeadline> {
    let fuel_left = ctx.get_fuel()?;
    let state = ctx.data_mut();
    let used = fuel_used(state.meter.limits(), fuel_left);
    state.meter.spend(used, state.control.clock.cpu_in_poll());
    state.control.check_kill()?;
    // Before the launch only `init-timeout` limits the run time.
    if state.meter.launched.is_some() {
        let ran = state.control.clock.since_call();
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
        state.meter.watch(Budget::Fuel, used, limit);
    }
    // A guest that spends its time in host calls uses little fuel, so that fuel alone would end its time slice too late. After
    // this yield the guest is checked again at once: it may have been killed meanwhile, and its next epoch may be far.
    let by_fuel = state.control.clock.poll_so_far() < state.control.core_demand.slice_by_fuel_max();
    Ok(if by_fuel { UpdateDeadline::Continue(1) } else { UpdateDeadline::Yield(0) })
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fine,
    Slow,
    Unresponsive { limit: Duration },
}

/// The judgement on a step that ran for this long.
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
    fn guest_is_warned_about_and_then_killed() {
        let limits = Limits::default();
        assert_eq!(judge(Duration::from_millis(499), &limits), Judgement::Fine);
        assert_eq!(judge(Duration::from_millis(500), &limits), Judgement::Slow);
        let killed = judge(Duration::from_secs(10), &limits);
        assert_eq!(killed, Judgement::Unresponsive { limit: Duration::from_secs(10) });
        let strict = Limits { unresponsive_timeout: Duration::from_millis(100), ..limits };
        assert!(matches!(judge(Duration::from_millis(100), &strict), Judgement::Unresponsive { .. }));
    }
}
