//! A worker process behind a server: start, serve, drain, stop, for one agent or several.
//!
//! Each agent is an [`agent_worker::AgentWorker`] with its own connection. The agents share the capacity of the process
//! ([`admission`]) and its status ([`status`]).
//!
//! Bounds: [`SIGNALS_MAX`] control signals wait for an agent.

pub(crate) mod control_signal;
pub(crate) mod health;
pub(crate) mod link;

mod moderator;

pub(crate) mod agent_source;

pub(crate) mod admission;

pub(crate) mod status;

mod drain;
mod offers;
mod quota;

mod jobs;

pub(crate) mod reload;

pub(crate) mod context;

pub(crate) mod agent_worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use wasm_worker_room::io::Rooms;

use crate::load::rooms::RoomReading;
use crate::load::window::SAMPLE_EVERY;
use crate::load::{LoadMonitor, Measurement};
use admission::AdmissionControl;
use agent_worker::{AgentWorker, WorkerOutcome};
use context::WorkerContext;
use control_signal::ControlSignal;

/// Control signals that wait for a busy agent.
const SIGNALS_MAX: usize = 16;

/// A worker process with all its agents loaded.
pub(crate) struct Worker {
    agents: Vec<AgentWorker>,
    context: WorkerContext,
    monitor: LoadMonitor,
    load_log: Option<Duration>,
}

impl Worker {
    pub(crate) fn new(
        agents: Vec<AgentWorker>,
        context: WorkerContext,
        monitor: LoadMonitor,
        load_log: Option<Duration>,
    ) -> Self {
        Self { agents, context, monitor, load_log }
    }

    /// Serve until every agent has drained.
    pub(crate) async fn serve(self, mut signals: mpsc::Receiver<ControlSignal>) -> WorkerOutcome {
        let Self { agents, context, monitor, load_log } = self;
        let (admission, rooms) = (context.admission.clone(), context.rooms.clone());
        let sampling = context.control.spawn(sample(monitor, admission, rooms, load_log));
        let mut senders = Vec::new();
        let mut serving = JoinSet::new();
        for agent in agents {
            let (sender, receiver) = mpsc::channel(SIGNALS_MAX);
            senders.push(sender);
            serving.spawn_on(agent.serve(receiver), &context.control);
        }
        let mut outcome = WorkerOutcome::default();
        loop {
            let signal = tokio::select! {
                // A signal has priority over the ends of agents.
                biased;
                Some(signal) = signals.recv() => Some(signal),
                ended = serving.join_next() => match ended {
                    None => break,
                    Some(ended) => outcome.add(ended),
                }
            };
            if let Some(signal) = signal {
                for sender in &senders {
                    // An agent that has ended needs no signal.
                    sender.send(signal).await.ok();
                }
            }
        }
        sampling.abort();
        outcome
    }
}

impl WorkerOutcome {
    /// Add the outcome of one agent. If the agent gave up, the others drain: a partly working process would look healthy.
    fn add(&mut self, ended: Result<Self, JoinError>) -> Option<ControlSignal> {
        let gave_up = match ended {
            Ok(Self { cut_short, gave_up }) => {
                self.cut_short.add(cut_short);
                gave_up
            }
            Err(panic) => Some(format!("a bug in wasm-worker: {panic}")),
        };
        let signal = gave_up.is_some().then_some(ControlSignal::Drain);
        self.gave_up = self.gave_up.take().or(gave_up);
        signal
    }
}

/// Measure the load at a fixed interval, and log it where the settings ask for that.
async fn sample(
    mut monitor: LoadMonitor,
    admission: Arc<AdmissionControl>,
    rooms: Arc<Rooms>,
    load_log: Option<Duration>,
) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    // Late ticks are not made up for: two measurements at one moment have no difference to measure.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut logged = Instant::now();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let reading = RoomReading { open: rooms.count(), cpu: rooms.cpu_time() };
        let measured = monitor.measure(now, admission.jobs(), reading).await;
        admission.update(now, measured);
        let Measurement { sample, load, .. } = measured;
        if load_log.is_some_and(|every| logged + every <= now) {
            logged = now;
            let share = |share: f64| format!("{share:.2}");
            let cores = format!("{:.1}", sample.cores);
            let (cpu, fuel, memory, load) = (share(sample.cpu), share(sample.fuel), share(sample.memory), share(load));
            let fuel_rate = format!("{:.0}M/s", sample.fuel_rate / 1e6);
            let jobs = sample.jobs;
            tracing::info!(target: "host", cpu, cores, fuel, fuel_rate, memory, jobs, load, "worker.load");
        }
    }
}
