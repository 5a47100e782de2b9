//! What a service manager learns of a worker, of a supervisor and of a dispatcher: its phase, one line of status, and whether it
//! is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::time::Instant;
use wasm_worker_core::api::worker::AgentState;
use wasm_worker_core::text::plural;
use wasm_worker_dispatcher::Dispatcher;
use wasm_worker_sandbox::engine::Engine;

use crate::fleet::status::{FleetStatus, ProcessCounts};
use crate::service_manager::{Follower, Phase, Reloads, ServiceManager, ServiceState};
use crate::worker::context::WorkerContext;
use crate::worker::status::WorkerStatus;

/// Follow a worker. It is alive while the loop of each agent goes on, guests can run, the epoch advances, and the embedded
/// dispatcher answers.
pub(super) fn follow_worker(
    manager: ServiceManager,
    context: &WorkerContext,
    engine: &Engine,
    dispatcher: Option<&Dispatcher>,
) -> Follower {
    let (status, engine, pulse) = (context.status.clone(), engine.clone(), dispatcher.map(Dispatcher::pulse));
    let of_state = status.clone();
    let alive = move || {
        let (status, engine, pulse) = (status.clone(), engine.clone(), pulse.clone());
        async move {
            let dispatcher_answers = match pulse {
                Some(pulse) => pulse.beats().await,
                None => true,
            };
            dispatcher_answers && engine.is_alive().await && !status.is_stuck(Instant::now())
        }
    };
    manager.follow(&context.control, move || worker_state(&of_state), alive)
}

fn worker_state(status: &WorkerStatus) -> ServiceState {
    let agents = status.agents();
    let loading = agents.iter().filter(|agent| agent.state == AgentState::Loading).count();
    let unserved = agents.iter().find(|agent| agent.state != AgentState::Available || agent.worker.is_none());
    let jobs = plural(status.running_count(), "job");
    let (phase, status_line) = match unserved {
        _ if status.draining().load(Ordering::Relaxed) => (Phase::Stopping, format!("draining: {jobs} left")),
        _ if loading > 0 => (Phase::Starting, format!("loading {}", plural(loading, "agent"))),
        None => (Phase::Serving, format!("serving {}, running {jobs}", plural(agents.len(), "agent"))),
        Some(agent) if agent.state == AgentState::Available => {
            (Phase::Serving, format!("running {jobs}; agent `{}` has no connection to the server", agent.agent))
        }
        Some(agent) => (Phase::Serving, format!("running {jobs}; agent `{}` is {}", agent.agent, agent.state.as_str())),
    };
    ServiceState { phase, reloads: status.reloads(), status: status_line }
}

/// Follow a supervisor. It is alive while its runtime is; the supervisor itself replaces a process that dies.
pub(super) fn follow_fleet(
    manager: ServiceManager,
    status: Arc<FleetStatus>,
    dispatcher: Option<&Dispatcher>,
    control: &Handle,
) -> Follower {
    let pulse = dispatcher.map(Dispatcher::pulse);
    let alive = move || {
        let pulse = pulse.clone();
        async move {
            match pulse {
                Some(pulse) => pulse.beats().await,
                None => true,
            }
        }
    };
    manager.follow(control, move || fleet_state(&status), alive)
}

fn fleet_state(status: &FleetStatus) -> ServiceState {
    let ProcessCounts { running, registered } = status.counts();
    let line = format!("{} processes wanted, {running} running, {registered} registered", status.processes());
    let phase = match registered {
        _ if status.draining().load(Ordering::Relaxed) => Phase::Stopping,
        0 => Phase::Starting,
        _ => Phase::Serving,
    };
    ServiceState { phase, reloads: Reloads::default(), status: line }
}

/// Follow a dispatcher that listens. It is alive while its coordinator answers.
pub(super) fn follow_dispatcher(
    manager: ServiceManager,
    dispatcher: &Dispatcher,
    stopping: Arc<AtomicBool>,
    control: &Handle,
) -> Follower {
    let (pulse, url) = (dispatcher.pulse(), dispatcher.url());
    let alive = move || {
        let pulse = pulse.clone();
        async move { pulse.beats().await }
    };
    let state = move || {
        let phase = if stopping.load(Ordering::Relaxed) { Phase::Stopping } else { Phase::Serving };
        ServiceState { phase, reloads: Reloads::default(), status: format!("dispatching at {url}") }
    };
    manager.follow(control, state, alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_when_its_agents_are_loaded_and_stopping_when_it_drains() {
        let status = Arc::new(WorkerStatus::default());
        status.add_loading("one");
        let seen = || {
            let ServiceState { phase, status, .. } = worker_state(&status);
            (phase, status)
        };
        assert_eq!(seen(), (Phase::Starting, "loading 1 agent".into()));
        let one = status.enter("one");
        assert_eq!(seen(), (Phase::Serving, "running 0 jobs; agent `one` has no connection to the server".into()));
        one.set_worker_id(Some("AW_1".into()));
        assert_eq!(seen(), (Phase::Serving, "serving 1 agent, running 0 jobs".into()));
        status.start_drain();
        assert_eq!(seen(), (Phase::Stopping, "draining: 0 jobs left".into()));
    }

    #[test]
    fn a_supervisor_is_ready_when_a_process_is_registered() {
        let status = FleetStatus::new(3);
        assert_eq!(fleet_state(&status).phase, Phase::Starting);
        status.set_counts(ProcessCounts { running: 3, registered: 1 });
        let ServiceState { phase, status: line, .. } = fleet_state(&status);
        assert_eq!((phase, line.as_str()), (Phase::Serving, "3 processes wanted, 3 running, 1 registered"));
        status.start_drain();
        assert_eq!(fleet_state(&status).phase, Phase::Stopping);
    }
}
