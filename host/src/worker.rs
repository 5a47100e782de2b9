//! A worker process behind a LiveKit server: start → serve → drain → stop, for one agent or several.
//!
//! Each agent is a [`member::Member`] with its own connection; they share the room of the process, its load, and what it has to
//! show over HTTP.

pub(crate) mod health;
pub(crate) mod link;
pub(crate) mod loading;
pub(crate) mod member;
pub(crate) mod room;
pub(crate) mod roster;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior};

use crate::load::{LoadMonitor, Measurement, SAMPLE_EVERY};
use member::{Member, Served, Shared};
use room::Room;

/// Orders that wait for an agent that is busy.
const ORDERS: usize = 16;

/// What an operator wants of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Take no more jobs, and end when there are none. A second one ends them.
    Stop,
    /// The same, where a second one changes nothing.
    Drain,
    /// Load the agents again.
    Reload,
}

/// A worker that serves.
pub(crate) struct Worker {
    members: Vec<Member>,
    shared: Shared,
    monitor: LoadMonitor,
    load_log: Option<Duration>,
}

impl Worker {
    pub(crate) fn new(members: Vec<Member>, shared: Shared, monitor: LoadMonitor, load_log: Option<Duration>) -> Self {
        Self { members, shared, monitor, load_log }
    }

    /// Serve until a drain of all agents is over.
    pub(crate) async fn serve(self, mut orders: mpsc::Receiver<Order>) -> Served {
        let Self { members, shared, monitor, load_log } = self;
        let sampling = shared.control.spawn(sample(monitor, shared.room.clone(), load_log));
        let mut senders = Vec::new();
        let mut serving = tokio::task::JoinSet::new();
        for member in members {
            let (sender, receiver) = mpsc::channel(ORDERS);
            senders.push(sender);
            serving.spawn_on(member.serve(receiver), &shared.control);
        }
        let mut served = Served::default();
        loop {
            let order = tokio::select! {
                biased;
                Some(order) = orders.recv() => Some(order),
                ended = serving.join_next() => match ended {
                    None => break,
                    Some(ended) => served.add(ended),
                }
            };
            if let Some(order) = order {
                for sender in &senders {
                    // One that is over needs no orders.
                    sender.send(order).await.ok();
                }
            }
        }
        sampling.abort();
        served
    }
}

impl Served {
    /// One agent is over. Where it was not told to be, the others are to follow: half a worker looks well from outside.
    fn add(&mut self, ended: Result<Self, JoinError>) -> Option<Order> {
        let gave_up = match ended {
            Ok(Self { cut_short, gave_up }) => {
                self.cut_short += cut_short;
                gave_up
            }
            Err(panic) => Some(format!("a bug of ours: {panic}")),
        };
        let order = gave_up.is_some().then_some(Order::Drain);
        self.gave_up = self.gave_up.take().or(gave_up);
        order
    }
}

/// Measure the load for as long as the worker lives.
async fn sample(mut monitor: LoadMonitor, room: Arc<Room>, load_log: Option<Duration>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    // One that comes late is not made up for: it would compare with a moment ago.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut logged = Instant::now();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let measured = monitor.measure(now, room.jobs()).await;
        room.measure(now, measured);
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
