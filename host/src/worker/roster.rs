//! What a worker process has to show: its agents, the jobs that run, and the last that ended.
//!
//! Bound: [`ENDED_MAX`] jobs that ended are remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::health::State;
use crate::agent::JobHandle;
use crate::hostcalls::contract::JobInfo;
use crate::job::teardown::Closed;

const ENDED_MAX: usize = 1_000;

/// Shared by the agents of a process, and whoever looks.
#[derive(Default)]
pub(crate) struct Roster {
    agents: Mutex<Vec<AgentStatus>>,
    running: Mutex<HashMap<String, Entry>>,
    ended: Mutex<VecDeque<Arc<Closed>>>,
    draining: AtomicBool,
}

/// One agent, as the server knows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AgentStatus {
    /// What it is registered under.
    pub(crate) agent: String,
    /// The server's name for this worker; none while there is no connection.
    pub(crate) worker: Option<String>,
    /// Whether it gets jobs: `available`, `pausing`, `quarantined` or `given-up`.
    pub(crate) state: &'static str,
}

struct Entry {
    job: RunningJob,
    handle: JobHandle,
}

/// A job that runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunningJob {
    pub(crate) job: String,
    pub(crate) agent: String,
    pub(crate) room: String,
    pub(crate) dispatch: String,
    pub(crate) attempt: u32,
    pub(crate) since: Timestamp,
    /// CPU time so far, in microseconds.
    pub(crate) cpu_us: u64,
    /// Time that it waited in finished waits, in microseconds.
    pub(crate) wait_us: u64,
}

/// One job, in either state.
pub(crate) enum Found {
    Running(RunningJob),
    Ended(Arc<Closed>),
}

impl Roster {
    /// A place for one more agent.
    pub(crate) fn join(&self, agent: &str) -> usize {
        let mut agents = lock(&self.agents);
        agents.push(AgentStatus { agent: agent.into(), worker: None, state: "available" });
        agents.len() - 1
    }

    pub(crate) fn linked(&self, place: usize, worker: Option<String>) {
        if let Some(agent) = lock(&self.agents).get_mut(place) {
            agent.worker = worker;
        }
    }

    pub(crate) fn state(&self, place: usize, state: State) {
        self.set_state(
            place,
            match state {
                State::Available => "available",
                State::Pausing { .. } => "pausing",
                State::Quarantined => "quarantined",
            },
        );
    }

    /// There will be no connection any more.
    pub(crate) fn gave_up(&self, place: usize) {
        self.set_state(place, "given-up");
    }

    fn set_state(&self, place: usize, state: &'static str) {
        if let Some(agent) = lock(&self.agents).get_mut(place) {
            agent.state = state;
        }
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn agents(&self) -> Vec<AgentStatus> {
        lock(&self.agents).clone()
    }

    pub(crate) fn began(&self, info: &JobInfo, handle: JobHandle) {
        let job = RunningJob {
            job: info.id.clone(),
            agent: info.agent_name.clone(),
            room: info.room.name.clone(),
            dispatch: info.dispatch_id.clone(),
            attempt: info.attempt,
            since: Timestamp::now(),
            cpu_us: 0,
            wait_us: 0,
        };
        lock(&self.running).insert(info.id.clone(), Entry { job, handle });
    }

    pub(crate) fn ended(&self, job: &str, closed: Option<Arc<Closed>>) {
        lock(&self.running).remove(job);
        if let Some(closed) = closed {
            let mut ended = lock(&self.ended);
            if ended.len() == ENDED_MAX {
                ended.pop_front();
            }
            ended.push_back(closed);
        }
    }

    /// All that run, the oldest first, and the last that ended, the newest first.
    pub(crate) fn jobs(&self) -> (Vec<RunningJob>, Vec<Arc<Closed>>) {
        let mut running: Vec<RunningJob> = lock(&self.running).values().map(Entry::now).collect();
        running.sort_by(|one, other| (one.since, &one.job).cmp(&(other.since, &other.job)));
        (running, lock(&self.ended).iter().rev().cloned().collect())
    }

    pub(crate) fn job(&self, job: &str) -> Option<Found> {
        if let Some(entry) = lock(&self.running).get(job) {
            return Some(Found::Running(entry.now()));
        }
        lock(&self.ended).iter().rev().find(|closed| closed.job == job).cloned().map(Found::Ended)
    }

    /// Whether there was such a job to kill.
    pub(crate) fn kill(&self, job: &str) -> bool {
        lock(&self.running).get(job).map(|entry| entry.handle.kill()).is_some()
    }
}

impl Entry {
    fn now(&self) -> RunningJob {
        let (cpu_us, wait_us) = self.handle.used();
        RunningJob { cpu_us, wait_us, ..self.job.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
