//! The status of a worker process: its agents, the jobs that run, and the jobs that ended last.
//!
//! Bounds: [`ENDED_MAX`] ended jobs are kept, each with [`ACTIVITY_BYTES_MAX`] bytes of its activity in the room. The log lines of
//! a job are bounded by its sandbox.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use wasm_worker_core::api::worker::{
    AgentState, AgentStatus, EndedJob, JobDetail, JobList, JobLog, RunningJob as RunningJobInfo,
};
use wasm_worker_core::job::{JobInfo, RoomStatus};
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::usage::RoomUse;
use wasm_worker_sandbox::job::launch::JobHandle;

use super::health::HealthState;
use crate::service_manager::Reloads;

const ENDED_MAX: usize = 1_000;
const ACTIVITY_BYTES_MAX: usize = 32 << 10;
/// The longest time between two rounds of the loop of an agent: a round sends a few messages, each within seconds, and each
/// sample of the load begins a round.
const ROUND_MAX: Duration = Duration::from_secs(30);
/// The time that a job has to report its tasks to an operator who looks at it, asked every [`ANSWER_POLL`].
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
const ANSWER_POLL: Duration = Duration::from_millis(5);

/// The status that the agents of a process write and its HTTP endpoints read.
#[derive(Default)]
pub(crate) struct WorkerStatus {
    agents: Mutex<Vec<AgentStatus>>,
    running: Mutex<HashMap<String, StatusOfJob>>,
    ended: Mutex<VecDeque<Arc<JobRecord>>>,
    draining: Arc<AtomicBool>,
    /// The last round of the loop of each agent, by index; none where the loop does not run.
    rounds: Mutex<Vec<Option<Instant>>>,
    reloads: Mutex<Reloads>,
}

/// A job that runs, with the handle for its current usage.
struct StatusOfJob {
    info: RunningJobInfo,
    handle: JobHandle,
}

/// The entry of one agent in the status of its process.
#[derive(Clone)]
pub(crate) struct AgentEntry {
    status: Arc<WorkerStatus>,
    index: usize,
}

impl AgentEntry {
    /// Set the server's id of the worker; none while there is no connection.
    pub(crate) fn set_worker_id(&self, worker: Option<String>) {
        self.update(|agent| agent.worker = worker);
    }

    pub(crate) fn set_health(&self, health: HealthState) {
        self.update(|agent| {
            // A worker does not return to a server that it gave up.
            if agent.state != AgentState::GivenUp {
                agent.state = match health {
                    HealthState::Available => AgentState::Available,
                    HealthState::Pausing { .. } => AgentState::Pausing,
                    HealthState::Quarantined => AgentState::Quarantined,
                };
            }
        });
    }

    pub(crate) fn set_given_up(&self) {
        self.update(|agent| agent.state = AgentState::GivenUp);
    }

    /// Record that a round of the agent's loop begins, or that the loop is over. Returns `over`.
    pub(crate) fn begin_round(&self, now: Instant, over: bool) -> bool {
        let mut rounds = lock(&self.status.rounds);
        if rounds.len() <= self.index {
            rounds.resize(self.index + 1, None);
        }
        if let Some(round) = rounds.get_mut(self.index) {
            *round = (!over).then_some(now);
        }
        over
    }

    pub(crate) fn begin_reload(&self) {
        lock(&self.status.reloads).begun += 1;
    }

    pub(crate) fn end_reload(&self) {
        lock(&self.status.reloads).ended += 1;
    }

    fn update(&self, change: impl FnOnce(&mut AgentStatus)) {
        if let Some(agent) = lock(&self.status.agents).get_mut(self.index) {
            change(agent);
        }
    }
}

impl WorkerStatus {
    /// Add an agent that is loaded for the first time.
    pub(crate) fn add_loading(&self, agent: &str) {
        lock(&self.agents).push(AgentStatus { agent: agent.into(), worker: None, state: AgentState::Loading });
    }

    /// The entry of an agent whose first load ended.
    pub(crate) fn enter(self: &Arc<Self>, agent: &str) -> AgentEntry {
        let mut agents = lock(&self.agents);
        let available = AgentStatus { agent: agent.into(), worker: None, state: AgentState::Available };
        let loading = agents.iter().position(|entry| entry.state == AgentState::Loading && entry.agent == agent);
        let index = loading.unwrap_or(agents.len());
        match agents.get_mut(index) {
            Some(entry) => *entry = available,
            None => agents.push(available),
        }
        AgentEntry { status: self.clone(), index }
    }

    pub(crate) fn start_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The flag of the drain, which the HTTP endpoints read and set.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        self.draining.clone()
    }

    /// Whether the loop of an agent hangs.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        lock(&self.rounds).iter().flatten().any(|round| *round + ROUND_MAX < now)
    }

    /// The reloads of all agents.
    pub(crate) fn reloads(&self) -> Reloads {
        *lock(&self.reloads)
    }

    pub(crate) fn agents(&self) -> Vec<AgentStatus> {
        lock(&self.agents).clone()
    }

    pub(crate) fn job_started(&self, info: &JobInfo, handle: JobHandle) {
        let running = RunningJobInfo {
            job: info.id.clone(),
            agent: info.agent_name.clone(),
            room: info.room.name.clone(),
            dispatch: info.dispatch_id.clone(),
            attempt: info.attempt,
            since: Timestamp::now(),
            cpu_us: 0,
            wait_us: 0,
            waits: None,
            in_room: None,
            tasks: None,
        };
        lock(&self.running).insert(info.id.clone(), StatusOfJob { info: running, handle });
    }

    /// Move a job from the running to the ended jobs. A job without a record leaves no trace.
    pub(crate) fn job_ended(&self, job: &str, record: Option<Arc<JobRecord>>) {
        // The record is there before the job leaves the running ones, so that every reader finds the job.
        if let Some(record) = record {
            let mut ended = lock(&self.ended);
            if ended.len() == ENDED_MAX {
                ended.pop_front();
            }
            ended.push_back(record);
        }
        lock(&self.running).remove(job);
    }

    /// The number of jobs that run.
    pub(crate) fn running_count(&self) -> usize {
        lock(&self.running).len()
    }

    /// What the running jobs used of the connections to their rooms since the last call, by agent.
    pub(crate) fn take_room_uses(&self) -> Vec<(String, RoomUse)> {
        let running = lock(&self.running);
        let uses = running.values().map(|job| (&job.info.agent, job.handle.take_room_use()));
        uses.filter(|(_, used)| *used != RoomUse::default()).map(|(agent, used)| (agent.clone(), used)).collect()
    }

    /// The running jobs, the oldest first, and the ended jobs, the newest first.
    pub(crate) fn jobs(&self) -> JobList {
        let mut running: Vec<RunningJobInfo> = lock(&self.running).values().map(StatusOfJob::current).collect();
        running.sort_by(|one, other| (one.since, &one.job).cmp(&(other.since, &other.job)));
        let ended = lock(&self.ended).iter().rev().map(|record| brief(record)).collect();
        JobList { running, ended }
    }

    pub(crate) fn job(&self, job: &str) -> Option<JobDetail> {
        if let Some(running) = lock(&self.running).get(job) {
            return Some(JobDetail::Running(Box::new(running.current())));
        }
        self.record(job).map(|record| JobDetail::Ended(Box::new(JobRecord::clone(&record))))
    }

    /// One job for an operator. An agent that runs is asked for its tasks; the report that is shown is the last one.
    pub(crate) async fn look_at(&self, job: &str) -> Option<JobDetail> {
        // What the job waits for is read first: the question wakes it.
        let running = lock(&self.running).get(job).map(|running| (running.current(), running.handle.clone()));
        let Some((info, handle)) = running else { return self.job(job) };
        if handle.ask_for_tasks() {
            let until = Instant::now() + ANSWER_WITHIN;
            while !handle.has_answered() && Instant::now() < until {
                tokio::time::sleep(ANSWER_POLL).await;
            }
        }
        let in_room = handle.room(RoomStatus::PRESENT_MAX);
        let info = RunningJobInfo { in_room, tasks: handle.task_report(), ..info };
        Some(JobDetail::Running(Box::new(info)))
    }

    /// The kept log lines of a job whose number is `after` or higher.
    pub(crate) fn job_log(&self, job: &str, after: u64) -> Option<JobLog> {
        let running = lock(&self.running).get(job).map(|running| running.handle.clone());
        // The lines of a job that just ended are in its record.
        let record = self.record(job);
        let (lines, not_kept) = match (&record, &running) {
            (Some(record), _) => {
                let lines = record.log.iter().filter(|line| line.number >= after).cloned().collect();
                (lines, record.log_not_kept)
            }
            (None, Some(running)) => running.log_lines(after),
            (None, None) => return None,
        };
        Some(JobLog { job: job.into(), lines, not_kept, ended: record.is_some() })
    }

    /// Kill a job, and return whether it ran.
    pub(crate) fn kill(&self, job: &str) -> bool {
        lock(&self.running).get(job).map(|running| running.handle.kill()).is_some()
    }

    fn record(&self, job: &str) -> Option<Arc<JobRecord>> {
        lock(&self.ended).iter().rev().find(|record| record.job == job).cloned()
    }
}

impl StatusOfJob {
    fn current(&self) -> RunningJobInfo {
        let (cpu_us, wait_us) = self.handle.used();
        let (waits, in_room) = (Some(self.handle.waits_for()), self.handle.room(RoomStatus::LISTED_MAX));
        RunningJobInfo { cpu_us, wait_us, waits, in_room, ..self.info.clone() }
    }
}

/// Shorten the record of an ended job to the size that is kept. A job pays for its activity only while it runs.
pub(crate) fn shorten(mut record: JobRecord) -> Arc<JobRecord> {
    record.activity.shorten(ACTIVITY_BYTES_MAX);
    Arc::new(record)
}

fn brief(record: &JobRecord) -> EndedJob {
    EndedJob {
        job: record.job.clone(),
        agent: record.agent.clone(),
        room: record.room.clone(),
        at: record.at,
        code: record.verdict.code,
        detail: record.verdict.detail.clone(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_its_entry_and_a_server_that_was_given_up_stays_given_up() {
        let status = Arc::new(WorkerStatus::default());
        status.add_loading("one");
        status.add_loading("two");
        let states = || status.agents().into_iter().map(|agent| (agent.agent, agent.state)).collect::<Vec<_>>();
        let two = status.enter("two");
        two.set_worker_id(Some("AW_2".into()));
        let expected = [("one".to_owned(), AgentState::Loading), ("two".to_owned(), AgentState::Available)];
        assert_eq!(states(), expected);
        assert_eq!(status.agents()[1].worker.as_deref(), Some("AW_2"));
        two.set_given_up();
        two.set_health(HealthState::Quarantined);
        assert_eq!(states()[1].1, AgentState::GivenUp);
        status.enter("three").set_health(HealthState::Quarantined);
        assert_eq!(states()[2], ("three".to_owned(), AgentState::Quarantined));
    }

    #[test]
    fn a_worker_is_stuck_while_the_loop_of_one_agent_hangs() {
        let (status, start) = (Arc::new(WorkerStatus::default()), Instant::now());
        let (one, two) = (status.enter("one"), status.enter("two"));
        let late = start + ROUND_MAX + Duration::from_secs(1);
        assert!(!status.is_stuck(late), "no loop runs yet");
        assert!(!one.begin_round(start, false) && !two.begin_round(start, false));
        assert!(!status.is_stuck(start + ROUND_MAX) && status.is_stuck(late));
        two.begin_round(late, false);
        assert!(status.is_stuck(late));
        assert!(one.begin_round(late, true), "a loop that is over cannot hang");
        assert!(!status.is_stuck(late));
    }
}
