//! Every dispatch that is not over, and the workers that may have it. Pure: no socket, no store, `now` and the lots are arguments.
//!
//! Whatever happens in whatever order, a dispatch that was accepted ends once. At most one attempt of it is current at any
//! moment; it is written down before its worker hears of it, so that a dispatcher that is killed finds it again.
//!
//! Bounds: `queue_limit` dispatches of one key wait, `memory_bytes` for all that are not over, `attempts_max` attempts of each,
//! [`ASKED_MAX`] offers of one worker at once, each answered within [`ANSWER_WITHIN`].

mod messages;
mod recovery;
mod waiting;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::assign::{Candidate, choose};
use super::queue::{Queue, Rank};
pub(crate) use messages::{Bounds, Dispatch, Full, Id, Note, Now, Output, Tell, Write};
pub use recovery::EMBEDDED;
pub(crate) use recovery::Open;
pub(crate) use waiting::Waiting;
use wasm_worker_core::verdict::Code;
pub(crate) use wasm_worker_protocol::dispatcher_session::{Kind, Readiness, Said};
pub(crate) use wasm_worker_protocol::report::JobEnd;
use wasm_worker_protocol::wire::ATTEMPT_ATTRIBUTE;
use workers::Worker;
pub(crate) use workers::{Registered, WorkerView};

/// LiveKit's workers answer in milliseconds, ours may wait for room for up to 2 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// More would wait in the worker's queue rather than in ours, where another worker can have them.
const ASKED_MAX: usize = 128;
/// Of a worker that refuses, before it is asked again; doubles with each refusal in a row.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Of a dispatch that all its workers have refused; doubles too.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(5);
/// By when a worker that reports its jobs has said that one runs.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// What a dispatch takes in memory beside its texts, generously.
const OVERHEAD_BYTES: usize = 1_024;
/// Letters and digits that are not taken for each other, as in LiveKit's ids.
const ID_ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const ID_CHARS: usize = 12;

/// A dispatch that is not over.
struct Entry {
    dispatch: Arc<Dispatch>,
    /// The present attempt.
    job: Id,
    attempt: u32,
    /// Jobs of earlier attempts.
    former: Vec<Former>,
    state: State,
    /// When it is no longer wanted, if it waits until then. A next attempt has as long as the first one had.
    waits_until_ns: i64,
    /// Somebody wants it stopped.
    cancelled: bool,
    /// Rounds in which every worker refused it.
    rounds: u32,
    /// Workers of this round that did.
    refused_by: HashSet<Id>,
    /// When something is to be done about it; also in [`Pool::timers`].
    timer: Option<Instant>,
}

/// An earlier attempt.
struct Former {
    job: Id,
    /// Its worker came back with it and was told to stop it: how that ends says nothing of the dispatch.
    stopped: bool,
}

enum State {
    Waiting,
    Offered {
        worker: Id,
        until: Instant,
    },
    /// Assigned.
    Running {
        worker: Id,
        since: Instant,
        /// Whether its worker has said so. That of LiveKit's agents for Node says nothing of its jobs, not even their ends.
        heard: bool,
    },
    /// Its worker's connection is gone.
    Orphaned {
        instance: String,
        until: Instant,
    },
}

/// The state of it all.
pub(crate) struct Pool {
    bounds: Bounds,
    open: HashMap<Id, Entry>,
    /// Also of former attempts.
    dispatch_of: HashMap<Id, Id>,
    bytes: usize,
    waiting_of: HashMap<Id, usize>,
    workers: BTreeMap<Id, Worker>,
    lanes: HashMap<Kind, Lane>,
    timers: BTreeSet<(Instant, Id)>,
    /// Nothing can be written, so nothing is offered.
    held: bool,
    lots: StdRng,
    outputs: Vec<Output>,
}

/// Dispatches and workers of one kind.
#[derive(Default)]
struct Lane {
    queue: Queue,
    workers: Vec<Id>,
}

impl Pool {
    pub(crate) fn new(bounds: Bounds, seed: u64) -> Self {
        Self {
            bounds,
            open: HashMap::new(),
            dispatch_of: HashMap::new(),
            bytes: 0,
            waiting_of: HashMap::new(),
            workers: BTreeMap::new(),
            lanes: HashMap::new(),
            timers: BTreeSet::new(),
            held: false,
            lots: StdRng::seed_from_u64(seed),
            outputs: Vec::new(),
        }
    }

    /// What is to be done since the last time, in order.
    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// A new id with this prefix.
    pub(crate) fn id(&mut self, prefix: &str) -> Id {
        let mut id = String::with_capacity(prefix.len() + ID_CHARS);
        id.push_str(prefix);
        id.extend((0..ID_CHARS).filter_map(|_| {
            let place = self.lots.random_range(0..ID_ALPHABET.len());
            ID_ALPHABET.get(place).map(|byte| char::from(*byte))
        }));
        id.into()
    }

    pub(crate) fn is_open(&self, dispatch: &str) -> bool {
        self.open.contains_key(dispatch)
    }

    /// Of this room, all that are not over.
    pub(crate) fn in_room(&self, room: &str) -> Vec<Id> {
        let of_it = self.open.iter().filter(|(_, entry)| entry.dispatch.room.name == room);
        let mut ids: Vec<Id> = of_it.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a worker of this kind is there.
    pub(crate) fn has_worker(&self, kind: &Kind) -> bool {
        self.lanes.get(kind).is_some_and(|lane| !lane.workers.is_empty())
    }

    /// Take a dispatch; it is accepted once what it writes is written. Returns its first job.
    pub(crate) fn create(&mut self, now: Now, dispatch: Dispatch) -> Result<Id, Full> {
        let bytes = dispatch.bytes();
        let waiting = self.waiting_of.get(&dispatch.key).copied().unwrap_or(0);
        if self.bounds.queue && waiting >= self.bounds.queue_limit {
            return Err(Full::Queue(waiting));
        }
        if self.bytes + bytes > self.bounds.memory_bytes {
            return Err(Full::Memory(self.bytes));
        }
        let job = self.id("AJ_");
        let dispatch = Arc::new(dispatch);
        self.outputs.push(Output::Write(Write::Created { dispatch: dispatch.clone(), job: job.clone() }));
        self.outputs.push(Output::Note(Note::Created { dispatch: dispatch.clone(), job: job.clone() }));
        let entry = Entry {
            dispatch: dispatch.clone(),
            job: job.clone(),
            attempt: 1,
            former: Vec::new(),
            waits_until_ns: dispatch.deadline_ns,
            state: State::Waiting,
            cancelled: false,
            rounds: 0,
            refused_by: HashSet::new(),
            timer: None,
        };
        self.enter(entry);
        self.enqueue(now, &dispatch.id);
        self.serve(now, &dispatch.kind);
        Ok(job)
    }

    fn enter(&mut self, entry: Entry) {
        let id = entry.dispatch.id.clone();
        self.bytes += entry.dispatch.bytes();
        for job in entry.former.iter().map(|former| &former.job).chain([&entry.job]) {
            self.dispatch_of.insert(job.clone(), id.clone());
        }
        self.open.insert(id, entry);
    }

    /// The one place where the state of a dispatch changes.
    fn change(&mut self, now: Now, id: &Id, state: State) {
        let Some(entry) = self.open.get_mut(id) else { return };
        entry.state = state;
        let due = match &entry.state {
            State::Waiting => Some(now.until(entry.waits_until_ns)),
            State::Offered { until, .. } | State::Orphaned { until, .. } => Some(*until),
            // Of one that is to stop, and that nobody ever heard of, no end may come.
            State::Running { since, heard: false, .. } if entry.cancelled => Some(*since + HEARD_WITHIN),
            State::Running { .. } => None,
        };
        if let Some(former) = std::mem::replace(&mut entry.timer, due) {
            self.timers.remove(&(former, id.clone()));
        }
        self.timers.extend(due.map(|due| (due, id.clone())));
    }

    /// It waits from here on.
    fn enqueue(&mut self, now: Now, id: &Id) {
        self.change(now, id, State::Waiting);
        let Some(entry) = self.open.get(id) else { return };
        *self.waiting_of.entry(entry.dispatch.key.clone()).or_default() += 1;
        self.lanes.entry(entry.dispatch.kind.clone()).or_default().queue.push(entry.dispatch.rank());
    }

    fn stops_waiting(&mut self, key: &Id) {
        if let Some(waiting) = self.waiting_of.get_mut(key) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// Stop a dispatch, if it is not over: one that waits ends, one that runs is asked to. Returns whether it was there.
    pub(crate) fn cancel(&mut self, now: Now, id: &str, why: &str) -> bool {
        let Some(entry) = self.open.get_mut(id) else { return false };
        if entry.cancelled {
            return true;
        }
        entry.cancelled = true;
        let dispatch = entry.dispatch.id.clone();
        self.outputs.push(Output::Write(Write::Cancelled { dispatch: dispatch.clone(), at_ns: now.wall_ns }));
        match &entry.state {
            State::Waiting | State::Offered { .. } => self.end(now, &dispatch, JobEnd::new(Code::Cancelled, why)),
            State::Running { worker, since, heard } => {
                let what = Tell::Terminate { job: entry.job.clone() };
                self.outputs.push(Output::Tell { worker: worker.clone(), what, durable: true });
                let same = State::Running { worker: worker.clone(), since: *since, heard: *heard };
                self.change(now, &dispatch, same);
            }
            // Told when its worker is back.
            State::Orphaned { .. } => {}
        }
        true
    }

    /// The time of [`Self::wake_at`] has come.
    pub(crate) fn time_up(&mut self, now: Now) {
        while let Some((_, id)) = self.timers.first().filter(|(due, _)| *due <= now.at).cloned() {
            self.overdue(now, &id);
        }
        for worker in self.workers.values_mut() {
            worker.paused_until.take_if(|until| *until <= now.at);
        }
        let kinds: Vec<Kind> = self.lanes.keys().cloned().collect();
        for kind in kinds {
            if let Some(lane) = self.lanes.get_mut(&kind) {
                lane.queue.wake(now.at);
            }
            self.serve(now, &kind);
        }
    }

    /// When [`Self::time_up`] is due, whatever else happens.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let entries = self.timers.first().map(|(due, _)| *due);
        let resting = self.lanes.values().filter_map(|lane| lane.queue.wake_at());
        let paused = self.lanes.values().filter(|lane| !lane.queue.is_empty()).flat_map(|lane| &lane.workers);
        let paused = paused.filter_map(|id| self.workers.get(id)?.paused_until);
        entries.into_iter().chain(resting).chain(paused).min()
    }

    fn overdue(&mut self, now: Now, id: &Id) {
        let Some(entry) = self.open.get(id) else { return };
        match &entry.state {
            State::Waiting => {
                let waited = Duration::from_nanos(
                    u64::try_from(now.wall_ns.saturating_sub(entry.dispatch.created_ns)).unwrap_or(0),
                );
                let why = self.why_waiting(now, entry);
                let detail = format!("it found no worker within {:.1?}: {why}", waited);
                self.end(now, id, JobEnd::new(Code::Expired, detail));
            }
            State::Offered { worker, .. } => {
                let worker = worker.clone();
                self.refused(now, id, &worker, ANSWER_WITHIN);
            }
            State::Orphaned { .. } => {
                let detail = format!("its worker did not come back within {:?}", self.bounds.lost_after);
                self.lost(now, id, detail);
            }
            State::Running { .. } => {
                let detail = "it was told to stop; its worker says nothing of its jobs";
                self.end_both(now, id, JobEnd::new(Code::Terminated, detail));
            }
        }
    }

    /// Offer what waits, as long as there is a worker for it.
    fn serve(&mut self, now: Now, kind: &Kind) {
        loop {
            let candidates = self.candidates(now, kind);
            let taken =
                if candidates.is_empty() { None } else { self.lanes.get_mut(kind).and_then(|lane| lane.queue.pop()) };
            let Some(rank) = taken else { break };
            self.offer_to_one_of(now, kind, rank, &candidates);
        }
        self.drop_unserved(now, kind);
        if self.lanes.get(kind).is_some_and(|lane| lane.queue.is_empty() && lane.workers.is_empty()) {
            self.lanes.remove(kind);
        }
    }

    /// Without a queue, what no worker takes at once is over, as with LiveKit's server.
    fn drop_unserved(&mut self, now: Now, kind: &Kind) {
        // An offer that is open may show that there is room.
        let asked = |id: &Id| self.workers.get(id).is_some_and(|worker| worker.asked > 0 && !worker.is_full());
        if self.bounds.queue || self.lanes.get(kind).is_some_and(|lane| lane.workers.iter().any(asked)) {
            return;
        }
        let waiting = self.lanes.get(kind).map(|lane| lane.queue.in_order()).unwrap_or_default();
        let waiting: Vec<Id> = waiting.into_iter().map(|rank| rank.dispatch.clone()).collect();
        for id in waiting {
            let Some(entry) = self.open.get(&id) else { continue };
            let detail = format!("{}, and dispatches do not wait here", self.why_waiting(now, entry));
            self.end(now, &id, JobEnd::new(Code::Unserved, detail));
        }
    }

    /// Workers of this kind that may be asked now.
    fn candidates(&self, now: Now, kind: &Kind) -> Vec<(Id, Candidate)> {
        if self.held {
            return Vec::new();
        }
        let ids = self.lanes.get(kind).map(|lane| lane.workers.as_slice()).unwrap_or_default();
        let workers = ids.iter().filter_map(|id| Some((id, self.workers.get(id)?)));
        workers
            .filter(|(_, worker)| worker.may_be_asked(now.at))
            .map(|(id, worker)| (id.clone(), worker.candidate()))
            .collect()
    }

    fn offer_to_one_of(&mut self, now: Now, kind: &Kind, rank: Rank, candidates: &[(Id, Candidate)]) {
        let Some(entry) = self.open.get_mut(&rank.dispatch) else { return };
        let left: Vec<&(Id, Candidate)> = candidates.iter().filter(|(id, _)| !entry.refused_by.contains(id)).collect();
        let weights: Vec<Candidate> = left.iter().map(|(_, candidate)| *candidate).collect();
        let chosen = choose(&weights, self.lots.random()).and_then(|place| left.get(place));
        let Some((worker, _)) = chosen else {
            let until = now.at + doubled(REST_MIN, entry.rounds, REST_MAX);
            entry.rounds = entry.rounds.saturating_add(1);
            entry.refused_by.clear();
            if let Some(lane) = self.lanes.get_mut(kind) {
                lane.queue.rest(rank, until);
            }
            return;
        };
        let worker = worker.clone();
        let (key, job, resuming) = (entry.dispatch.key.clone(), entry.wire_job(&worker, now), entry.attempt > 1);
        self.stops_waiting(&key);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.asked += 1;
        }
        let until = now.at + ANSWER_WITHIN;
        self.change(now, &rank.dispatch, State::Offered { worker: worker.clone(), until });
        let what = Tell::Offer { job: Box::new(job), resuming };
        self.outputs.push(Output::Tell { worker, what, durable: false });
    }

    /// A worker does not take it: the next one is asked.
    fn refused(&mut self, now: Now, id: &Id, worker: &Id, pause: Duration) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.refused(now.at, pause);
        }
        let Some(entry) = self.open.get_mut(id) else { return };
        entry.refused_by.insert(worker.clone());
        let kind = entry.dispatch.kind.clone();
        self.enqueue(now, id);
        self.serve(now, &kind);
    }

    /// The present attempt went with its worker.
    fn lost(&mut self, now: Now, id: &Id, why: String) {
        let Some(entry) = self.open.get(id) else { return };
        let end = JobEnd::new(Code::Lost, why.clone());
        self.outputs.push(Output::Write(Write::JobEnded { job: entry.job.clone(), end, at_ns: now.wall_ns }));
        let (attempt, max) = (entry.attempt, self.bounds.attempts_max);
        let never = entry.dispatch.restart == proto::JobRestartPolicy::JrpNever;
        if entry.cancelled {
            return self.end(now, id, JobEnd::new(Code::Cancelled, format!("it was to stop, and {why}")));
        }
        if never {
            return self.end(now, id, JobEnd::new(Code::Lost, format!("{why}; its restart policy is never")));
        }
        if attempt >= max {
            let detail = format!("{why}; quarantined: {attempt} of {max} attempts went with their workers");
            return self.end(now, id, JobEnd::new(Code::Lost, detail));
        }
        let job = self.id("AJ_");
        let Some(entry) = self.open.get_mut(id) else { return };
        if let State::Running { worker, .. } = &entry.state
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.ended(true);
        }
        let former = std::mem::replace(&mut entry.job, job.clone());
        entry.former.push(Former { job: former, stopped: false });
        entry.attempt += 1;
        entry.waits_until_ns = entry.dispatch.waits_until_ns(now);
        (entry.rounds, entry.refused_by) = (0, HashSet::new());
        let (dispatch, attempt, kind) = (entry.dispatch.clone(), entry.attempt, entry.dispatch.kind.clone());
        self.dispatch_of.insert(job.clone(), id.clone());
        self.outputs.push(Output::Write(Write::Again { dispatch: id.clone(), job: job.clone(), attempt }));
        self.outputs.push(Output::Note(Note::Again { dispatch, job, attempt, why }));
        self.enqueue(now, id);
        self.serve(now, &kind);
    }

    /// Offer nothing while nothing can be written; then what waits.
    pub(crate) fn hold(&mut self, now: Now, held: bool) {
        self.held = held;
        if !held {
            self.time_up(now);
        }
    }

    /// It was assigned, but too late for its worker to be told.
    pub(crate) fn never_told(&mut self, now: Now, job: &str) {
        if let Some(id) = self.dispatch_of.get(job).cloned()
            && self.open.get(&id).is_some_and(|entry| *entry.job == *job)
        {
            self.lost(now, &id, "its assignment could not be written down in time".into());
        }
    }

    /// The present attempt is over, and the dispatch with it.
    fn end_both(&mut self, now: Now, id: &Id, end: JobEnd) {
        let Some(entry) = self.open.get(id) else { return };
        let job = entry.job.clone();
        self.outputs.push(Output::Write(Write::JobEnded { job, end: end.clone(), at_ns: now.wall_ns }));
        self.end(now, id, end);
    }

    /// It is over, once.
    fn end(&mut self, now: Now, id: &Id, end: JobEnd) {
        let Some(entry) = self.open.remove(id) else { return };
        self.bytes -= entry.dispatch.bytes();
        if let Some(due) = entry.timer {
            self.timers.remove(&(due, id.clone()));
        }
        if let State::Waiting = entry.state {
            self.stops_waiting(&entry.dispatch.key);
            if let Some(lane) = self.lanes.get_mut(&entry.dispatch.kind) {
                lane.queue.remove(&entry.dispatch.rank());
            }
        }
        if let State::Running { worker, .. } | State::Offered { worker, .. } = &entry.state
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.ended(matches!(entry.state, State::Running { .. }));
        }
        for job in entry.former.iter().map(|former| &former.job).chain([&entry.job]) {
            self.dispatch_of.remove(job);
        }
        let Entry { dispatch, job, attempt: attempts, .. } = entry;
        self.outputs.push(Output::Write(Write::Ended { dispatch: id.clone(), end: end.clone(), at_ns: now.wall_ns }));
        self.outputs.push(Output::Note(Note::Ended { dispatch, job, attempts, end }));
    }
}

impl Entry {
    /// The job as workers are offered it.
    fn wire_job(&self, worker: &Id, now: Now) -> proto::Job {
        let Dispatch { id, kind, room, metadata, attributes, .. } = &*self.dispatch;
        let mut attributes: HashMap<String, String> = attributes.clone().into_iter().collect();
        if self.attempt > 1 {
            attributes.insert(ATTEMPT_ATTRIBUTE.into(), self.attempt.to_string());
        }
        proto::Job {
            id: self.job.to_string(),
            dispatch_id: id.to_string(),
            r#type: kind.job_type,
            room: Some(room.clone()),
            metadata: metadata.clone(),
            agent_name: kind.agent.clone(),
            deployment: kind.deployment.clone(),
            attributes,
            state: Some(proto::JobState {
                status: proto::JobStatus::JsRunning as i32,
                started_at: now.wall_ns,
                updated_at: now.wall_ns,
                worker_id: worker.to_string(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

fn doubled(least: Duration, times: u32, most: Duration) -> Duration {
    least.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
mod tests;
