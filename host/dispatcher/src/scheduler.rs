//! The scheduler: all open dispatches, and the workers that may run them.
//!
//! Pure: the scheduler has no socket and no store; `now` and the random seed are arguments. In any order of events an accepted
//! dispatch ends once. It has at most one current attempt at any moment. An assignment is stored before its worker receives it, so
//! that a dispatcher that is killed finds the attempt again.
//!
//! Bounds: `queue_limit` dispatches of one API key wait, all open dispatches take at most `memory_bytes`, a dispatch has at most
//! `attempts_max` attempts, and a worker has at most [`OFFERS_MAX`] offers, each for at most [`ANSWER_WITHIN`].

mod groups;
mod messages;
mod workers;

mod attempts;
mod offers;
mod recovered;
mod reports;
mod timers;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::clock::Moment;
use crate::ids::new_id;
use crate::queue::Queue;
use groups::Group;
pub(crate) use messages::{Bounds, Change, Dispatch, Id, Notification, Output, SchedulerFull, ToWorker};
pub use recovered::EMBEDDED_PREFIX;
pub(crate) use recovered::RecoveredDispatch;
use wasm_worker_core::backoff::Backoff;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::report::JobEnd;
pub(crate) use workers::RegisteredWorker;
use workers::Worker;

/// Time limit for the answer to an offer. LiveKit's workers answer in milliseconds, ours within 2 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most unanswered offers of one worker. Further dispatches wait in the queue, where another worker can take them.
const OFFERS_MAX: usize = 128;
/// Pauses of a worker after refusals in a row.
const WORKER_PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// The first pause of a dispatch that all workers refused.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Pauses of a dispatch after rounds in which all workers refused it.
const ROUND_PAUSES: Backoff = Backoff::new(ROUND_PAUSE_MIN, Duration::from_secs(5));
/// The time within which a worker that reports its jobs has reported that one runs.
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// A dispatch that has not ended.
struct OpenDispatch {
    dispatch: Arc<Dispatch>,
    /// The job of the current attempt.
    job: Id,
    /// The number of the current attempt, from 1.
    attempt: u32,
    former: Vec<FormerAttempt>,
    phase: Phase,
    /// The one worker that may have the job; `None` for every worker of the agent.
    only_worker: Option<Id>,
    /// The time of its creation, or an estimate where an earlier dispatcher created it.
    since: Instant,
    /// The end of the wait for a worker. A new attempt waits as long as the first one could.
    waits_until: Instant,
    cancelled: bool,
    /// Counts the rounds in which every worker refused the dispatch.
    rounds: Backoff,
    /// The workers that refused it in this round.
    refused_by: HashSet<Id>,
    /// The time of the next timeout; [`Scheduler::timers`] has it too.
    timer: Option<Instant>,
}

/// An attempt whose worker was lost.
struct FormerAttempt {
    job: Id,
    /// Whether its worker returned and was asked to stop it. Its end then says nothing about the dispatch.
    stopped: bool,
}

/// The phase of the current attempt.
enum Phase {
    /// The dispatch is in the queue.
    Waiting {
        /// The end of its pause, after all workers refused it.
        paused_until: Option<Instant>,
    },
    /// A worker has an offer.
    Offered { worker: Id, until: Instant },
    /// A worker has the job.
    Assigned {
        worker: Id,
        since: Instant,
        /// Whether the worker reported that the job runs. LiveKit's workers for Node report nothing about their jobs.
        reported: bool,
    },
    /// The connection of the worker is lost.
    Orphaned {
        /// The process of the worker.
        instance: String,
        until: Instant,
    },
}

/// Something that has a timeout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Dispatch(Id),
    /// The worker pauses.
    Worker(Id),
}

/// The state of the scheduler. No event looks at all dispatches or at all workers: each question has an ordered index.
pub(crate) struct Scheduler {
    bounds: Bounds,
    open: HashMap<Id, OpenDispatch>,
    /// The dispatch of each job, of former attempts too.
    dispatch_of: HashMap<Id, Id>,
    /// The open dispatches of each group.
    groups: BTreeSet<(Group, Id)>,
    /// The memory of all open dispatches.
    bytes: usize,
    /// The number of waiting dispatches by API key.
    waiting_of: HashMap<Id, usize>,
    workers: BTreeMap<Id, Worker>,
    /// The workers of each process that has an instance id, one for each agent.
    processes: HashMap<String, Vec<Id>>,
    agent_queues: HashMap<DispatchKey, AgentQueue>,
    timers: BTreeSet<(Instant, Timer)>,
    /// Whether the store cannot write, so that nothing is offered.
    suspended: bool,
    rng: StdRng,
    outputs: Vec<Output>,
}

/// The waiting dispatches and the workers of one dispatch key.
#[derive(Default)]
struct AgentQueue {
    queue: Queue,
    workers: BTreeSet<Id>,
    /// The workers that may be asked now.
    askable: BTreeSet<Id>,
}

impl Scheduler {
    pub(crate) fn new(bounds: Bounds, seed: u64) -> Self {
        Self {
            bounds,
            open: HashMap::new(),
            dispatch_of: HashMap::new(),
            groups: BTreeSet::new(),
            bytes: 0,
            waiting_of: HashMap::new(),
            workers: BTreeMap::new(),
            processes: HashMap::new(),
            agent_queues: HashMap::new(),
            timers: BTreeSet::new(),
            suspended: false,
            rng: StdRng::seed_from_u64(seed),
            outputs: Vec::new(),
        }
    }

    /// Take the outputs since the last call, in order.
    pub(crate) fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// A new id with this prefix.
    pub(crate) fn new_id(&mut self, prefix: &str) -> Id {
        new_id(prefix, &mut self.rng).into()
    }

    /// An open dispatch.
    pub(crate) fn dispatch(&self, dispatch: &str) -> Option<&Dispatch> {
        self.open.get(dispatch).map(|open| &*open.dispatch)
    }

    /// Agent and deployment of each open dispatch of a room.
    pub(crate) fn targets_in_room(&self, room: &str) -> HashSet<(&str, &str)> {
        let in_room = self.in_room(room);
        let keys = in_room.iter().filter_map(|id| Some(&self.open.get(id)?.dispatch.dispatch_key));
        keys.map(|key| (key.agent.as_str(), key.deployment.as_str())).collect()
    }

    /// Whether a worker with this key is connected.
    pub(crate) fn has_worker(&self, key: &DispatchKey) -> bool {
        self.agent_queues.get(key).is_some_and(|queue| !queue.workers.is_empty())
    }

    /// Accept a dispatch. The caller may be told once its changes are stored. Returns the first job.
    pub(crate) fn create(&mut self, now: Moment, dispatch: Dispatch) -> Result<Id, SchedulerFull> {
        self.accept(now, dispatch, None)
    }

    /// Accept a dispatch that this worker asked for, and that no other worker may have. Returns the first job.
    pub(crate) fn create_for(&mut self, now: Moment, dispatch: Dispatch, worker: Id) -> Result<Id, SchedulerFull> {
        self.accept(now, dispatch, Some(worker))
    }

    fn accept(&mut self, now: Moment, dispatch: Dispatch, only_worker: Option<Id>) -> Result<Id, SchedulerFull> {
        let bytes = dispatch.bytes();
        let waiting = self.waiting_of.get(&dispatch.api_key).copied().unwrap_or(0);
        if self.bounds.queue && waiting >= self.bounds.queue_limit {
            return Err(SchedulerFull::Queue(waiting));
        }
        if self.bytes + bytes > self.bounds.memory_bytes {
            return Err(SchedulerFull::Memory(self.bytes));
        }
        let job = self.new_id("AJ_");
        let dispatch = Arc::new(dispatch);
        if let Some(worker) = &only_worker {
            self.change_worker(worker, |worker| worker.simulated = Some(dispatch.id.clone()));
        }
        self.outputs.push(Output::Store(Change::Created { dispatch: dispatch.clone(), job: job.clone() }));
        self.outputs.push(Output::Notify(Notification::Created { dispatch: dispatch.clone(), job: job.clone() }));
        self.insert(OpenDispatch {
            dispatch: dispatch.clone(),
            job: job.clone(),
            attempt: 1,
            former: Vec::new(),
            since: now.at,
            waits_until: now.at + dispatch.patience(),
            only_worker,
            phase: Phase::Waiting { paused_until: None },
            cancelled: false,
            rounds: ROUND_PAUSES,
            refused_by: HashSet::new(),
            timer: None,
        });
        self.enqueue(&dispatch.id);
        self.offer_waiting(now, &dispatch.dispatch_key);
        Ok(job)
    }

    fn insert(&mut self, open: OpenDispatch) {
        let id = open.dispatch.id.clone();
        self.bytes += open.dispatch.bytes();
        for job in open.jobs() {
            self.dispatch_of.insert(job.clone(), id.clone());
        }
        self.groups.insert((open.room(), id.clone()));
        self.open.insert(id, open);
    }

    /// Change the phase of a dispatch, and set its timer. This is the one place where a phase changes.
    fn set_phase(&mut self, id: &Id, phase: Phase) {
        let Some(open) = self.open.get_mut(id) else { return };
        if let Some(former) = open.holder() {
            self.groups.remove(&(former, id.clone()));
        }
        open.phase = phase;
        self.groups.extend(open.holder().map(|holder| (holder, id.clone())));
        let due = match &open.phase {
            Phase::Waiting { paused_until } => {
                Some(paused_until.map_or(open.waits_until, |until| until.min(open.waits_until)))
            }
            Phase::Offered { until, .. } | Phase::Orphaned { until, .. } => Some(*until),
            // The end of a cancelled job that its worker never reported may never be reported either.
            Phase::Assigned { since, reported: false, .. } if open.cancelled => Some(*since + REPORT_WITHIN),
            Phase::Assigned { .. } => None,
        };
        if let Some(former) = std::mem::replace(&mut open.timer, due) {
            self.timers.remove(&(former, Timer::Dispatch(id.clone())));
        }
        self.timers.extend(due.map(|due| (due, Timer::Dispatch(id.clone()))));
    }

    /// Put a dispatch into the queue of its agent.
    fn enqueue(&mut self, id: &Id) {
        self.set_phase(id, Phase::Waiting { paused_until: None });
        let Some(open) = self.open.get(id) else { return };
        *self.waiting_of.entry(open.dispatch.api_key.clone()).or_default() += 1;
        self.agent_queues.entry(open.dispatch.dispatch_key.clone()).or_default().queue.push(open.dispatch.rank());
    }

    /// Count a dispatch of this API key that has left the queue.
    fn count_dequeued(&mut self, api_key: &Id) {
        if let Some(waiting) = self.waiting_of.get_mut(api_key) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// Cancel an open dispatch: a waiting one ends, a running one is asked to stop. Returns whether it was open.
    pub(crate) fn cancel(&mut self, now: Moment, id: &str, why: &str) -> bool {
        let Some(open) = self.open.get_mut(id) else { return false };
        if open.cancelled {
            return true;
        }
        open.cancelled = true;
        let dispatch = open.dispatch.id.clone();
        self.outputs.push(Output::Store(Change::Cancelled { dispatch: dispatch.clone(), at_ns: now.wall_ns }));
        match &open.phase {
            Phase::Waiting { .. } | Phase::Offered { .. } => {
                self.end_dispatch(now, &dispatch, JobEnd::new(Code::Cancelled, why));
            }
            Phase::Assigned { worker, since, reported } => {
                let message = ToWorker::Terminate { job: open.job.clone() };
                self.outputs.push(Output::Send { worker: worker.clone(), message, durable: true });
                // The same phase has another timer from now on.
                let same = Phase::Assigned { worker: worker.clone(), since: *since, reported: *reported };
                self.set_phase(&dispatch, same);
            }
            // The worker is asked when it returns.
            Phase::Orphaned { .. } => {}
        }
        true
    }

    /// Stop offering while the store cannot write, and offer again afterwards.
    pub(crate) fn suspend(&mut self, now: Moment, suspended: bool) {
        self.suspended = suspended;
        if !suspended {
            self.on_timer(now);
            let keys: BTreeSet<DispatchKey> = self.agent_queues.keys().cloned().collect();
            keys.iter().for_each(|key| self.offer_waiting(now, key));
        }
    }
}

impl OpenDispatch {
    /// The worker that has the job or an offer of it.
    fn worker(&self) -> Option<&Id> {
        match &self.phase {
            Phase::Offered { worker, .. } | Phase::Assigned { worker, .. } => Some(worker),
            Phase::Waiting { .. } | Phase::Orphaned { .. } => None,
        }
    }

    /// The jobs of all attempts.
    fn jobs(&self) -> impl Iterator<Item = &Id> {
        self.former.iter().map(|former| &former.job).chain([&self.job])
    }
}

#[cfg(test)]
mod tests;
