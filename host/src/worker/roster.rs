//! What a worker process has to show: its agents, the jobs that run, and the last that ended.
//!
//! Bound: [`ENDED_MAX`] jobs that ended are remembered, each with [`ACTIVITY_BYTES_MAX`] of what it did in its room.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use wasm_worker_core::job::JobInfo;
use wasm_worker_core::record::JobRecord;
use wasm_worker_sandbox::job::launch::JobHandle;

use super::health::State;

const ENDED_MAX: usize = 1_000;
const ACTIVITY_BYTES_MAX: usize = 32 << 10;
const LOADING: &str = "loading";

/// Shared by the agents of a process, and whoever looks.
#[derive(Default)]
pub(crate) struct Roster {
    agents: Mutex<Vec<AgentStatus>>,
    running: Mutex<HashMap<String, Entry>>,
    ended: Mutex<VecDeque<Arc<JobRecord>>>,
    draining: Arc<AtomicBool>,
}

/// One agent, as the server knows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AgentStatus {
    /// What it is registered under.
    pub(crate) agent: String,
    /// The server's name for this worker; none while there is no connection.
    pub(crate) worker: Option<String>,
    /// Whether it gets jobs: `loading`, `available`, `pausing`, `quarantined` or `given-up`.
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
    Ended(Arc<JobRecord>),
}

/// What a worker remembers of a job that has ended. While it ran, what it sent was charged to it; now it is the worker's.
pub(crate) fn remembered(mut closed: JobRecord) -> Arc<JobRecord> {
    closed.activity.shorten(ACTIVITY_BYTES_MAX);
    Arc::new(closed)
}

impl Roster {
    /// An agent that is being loaded.
    pub(crate) fn expect(&self, agent: &str) {
        lock(&self.agents).push(AgentStatus { agent: agent.into(), worker: None, state: LOADING });
    }

    /// The place of an agent that has been loaded, or failed to.
    pub(crate) fn join(&self, agent: &str) -> usize {
        let mut agents = lock(&self.agents);
        let place = agents.iter().position(|expected| expected.state == LOADING && expected.agent == agent);
        let status = AgentStatus { agent: agent.into(), worker: None, state: "available" };
        match place.and_then(|place| Some((place, agents.get_mut(place)?))) {
            Some((place, expected)) => {
                *expected = status;
                place
            }
            None => {
                agents.push(status);
                agents.len() - 1
            }
        }
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

    /// Whether there will be no more jobs.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        self.draining.clone()
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

    pub(crate) fn ended(&self, job: &str, closed: Option<Arc<JobRecord>>) {
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
    pub(crate) fn jobs(&self) -> (Vec<RunningJob>, Vec<Arc<JobRecord>>) {
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
