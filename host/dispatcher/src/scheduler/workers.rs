//! The connected workers: their registration, their state, and the loss of their connections.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::groups::Group;
use super::{Change, Id, Notification, OFFERS_MAX, Output, Phase, REPORT_WITHIN, Scheduler, Timer, WORKER_PAUSES};
use crate::assign::Candidate;
use crate::clock::Moment;
use wasm_worker_core::api::dispatcher::{PoolWorker, PoolWorkerState};
use wasm_worker_core::backoff::Backoff;
use wasm_worker_core::load::Scarcity;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::{DispatchKey, Readiness};
use wasm_worker_protocol::report::JobEnd;
use wasm_worker_protocol::wire::job_kind;

/// The facts of a worker from its registration.
#[derive(Clone, Debug)]
pub(crate) struct RegisteredWorker {
    pub(crate) dispatch_key: DispatchKey,
    /// The API key of its token, which signs the tokens of its jobs.
    pub(crate) api_key: Id,
    /// The id of its process, by which it is recognised after a reconnect; empty for workers that send none.
    pub(crate) instance: String,
    /// The version of its SDK.
    pub(crate) version: String,
}

/// A connected worker.
pub(super) struct Worker {
    pub(super) registered: RegisteredWorker,
    since_ns: i64,
    pub(super) load: f32,
    pub(super) readiness: Readiness,
    /// The resource that makes it full, where it reports that.
    pub(super) scarce: Option<Scarcity>,
    /// The time since which it takes no jobs.
    pub(super) full_since_ns: Option<i64>,
    /// Unanswered offers.
    pub(super) offers: usize,
    /// Most unanswered offers at once: one more after each acceptance, half as many after a refusal. A worker with little capacity
    /// thus has few offers, and the queue keeps its order.
    window: usize,
    /// Jobs that it has.
    pub(super) jobs: usize,
    /// The last job that it asked for itself.
    pub(super) simulated: Option<Id>,
    /// Counts the refusals in a row.
    refusals: Backoff,
    pub(super) paused_until: Option<Instant>,
    /// Whether it has sent a status message. A returned worker lists the jobs that it still has before that.
    pub(super) status_received: bool,
}

impl Worker {
    pub(super) fn may_be_asked(&self, now: Instant) -> bool {
        let paused = self.paused_until.is_some_and(|until| until > now);
        !paused && self.has_place()
    }

    /// Whether it takes another offer, now or after a pause.
    fn has_place(&self) -> bool {
        self.readiness == Readiness::Available && self.offers < self.window
    }

    pub(super) fn candidate(&self) -> Candidate {
        Candidate { load: self.load, offers: self.offers }
    }

    /// Pause the worker after a refusal, for at least `pause_min`.
    pub(super) fn offer_refused(&mut self, now: Instant, pause_min: Duration) {
        self.offer_gone();
        self.window = (self.window / 2).max(1);
        self.paused_until = Some(now + pause_min.max(self.refusals.fail()));
    }

    pub(super) fn offer_accepted(&mut self) {
        self.offer_gone();
        self.window = (self.window + 1).min(OFFERS_MAX);
        self.jobs += 1;
        self.end_pause();
    }

    pub(super) fn end_pause(&mut self) {
        self.refusals.succeed();
        self.paused_until = None;
    }

    /// Count an offer that is answered or withdrawn.
    pub(super) fn offer_gone(&mut self) {
        self.offers = self.offers.saturating_sub(1);
    }

    /// Count a job that ended or that another worker has.
    pub(super) fn job_gone(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
    }

    pub(super) fn is_full(&self) -> bool {
        self.readiness != Readiness::Available
    }

    /// Why it takes no jobs, and since when.
    pub(super) fn full_reason(&self) -> String {
        let since = Timestamp::from_nanosecond(self.full_since_ns.unwrap_or_default().into()).unwrap_or_default();
        match (self.readiness, &self.scarce) {
            (Readiness::Draining, _) => format!("it drains, since {since:.0}"),
            (_, Some(scarce)) => format!("{scarce}, since {since:.0}"),
            (_, None) => format!("its load is {:.2}, since {since:.0}", self.load),
        }
    }

    fn state(&self, now: Instant) -> PoolWorkerState {
        match self {
            Self { readiness: Readiness::Draining, .. } => PoolWorkerState::Draining,
            Self { readiness: Readiness::Full, .. } => PoolWorkerState::Full,
            Self { paused_until: Some(until), .. } if *until > now => PoolWorkerState::Paused,
            Self { .. } => PoolWorkerState::Available,
        }
    }
}

impl Scheduler {
    /// Register a worker. It receives offers once the caller has called [`Self::registration_confirmed`].
    pub(crate) fn register(&mut self, now: Moment, registered: RegisteredWorker) -> Id {
        self.replace_former_connection(now, &registered);
        let id = self.new_id("AW_");
        let (dispatch_key, version) = (registered.dispatch_key.clone(), registered.version.clone());
        let queue = self.agent_queues.entry(dispatch_key.clone()).or_default();
        queue.workers.insert(id.clone());
        queue.queue.resume_all();
        let worker = Worker {
            registered: registered.clone(),
            since_ns: now.wall_ns,
            // Like LiveKit's server, assume that the worker is idle until it reports its load.
            load: 0.0,
            readiness: Readiness::Available,
            scarce: None,
            full_since_ns: None,
            offers: 0,
            window: 1,
            jobs: 0,
            simulated: None,
            refusals: WORKER_PAUSES,
            paused_until: None,
            status_received: false,
        };
        self.workers.insert(id.clone(), worker);
        if !registered.instance.is_empty() {
            self.processes.entry(registered.instance.clone()).or_default().push(id.clone());
        }
        self.change_worker(&id, |_| ());
        self.wait_for_report(now, &registered);
        self.outputs.push(Output::Store(Change::WorkerJoined { id: id.clone(), registered, at_ns: now.wall_ns }));
        self.outputs.push(Output::Notify(Notification::WorkerJoined { worker: id.clone(), dispatch_key, version }));
        id
    }

    /// A process that registers again has lost its former connection, even if that is not noticed yet.
    fn replace_former_connection(&mut self, now: Moment, registered: &RegisteredWorker) {
        let same = |id: &&Id| {
            let former = self.workers.get(*id).map(|worker| &worker.registered.dispatch_key);
            former == Some(&registered.dispatch_key)
        };
        let former = self.processes.get(&registered.instance).and_then(|ids| ids.iter().find(same));
        if let Some(former) = former.cloned() {
            self.worker_left(now, &former, "the worker registered again".into());
        }
    }

    /// A process that registers again has its time to list the jobs that it still has.
    fn wait_for_report(&mut self, now: Moment, registered: &RegisteredWorker) {
        let RegisteredWorker { dispatch_key, instance, .. } = registered;
        if instance.is_empty() {
            return;
        }
        for id in self.in_group(&Group::Process(instance.clone())) {
            if self.open.get(&id).is_some_and(|open| open.dispatch.dispatch_key == *dispatch_key) {
                let until = now.at + self.bounds.lost_after;
                self.set_phase(&id, Phase::Orphaned { instance: instance.clone(), until });
            }
        }
    }

    /// Change a worker. This is the one place where a worker changes, so that its timer and the workers to ask follow.
    pub(super) fn change_worker(&mut self, id: &Id, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let former = worker.paused_until;
        change(worker);
        if former != worker.paused_until {
            let timer = |until| (until, Timer::Worker(id.clone()));
            former.map(|until| self.timers.remove(&timer(until)));
            self.timers.extend(worker.paused_until.map(timer));
        }
        if let Some(queue) = self.agent_queues.get_mut(&worker.registered.dispatch_key) {
            if worker.paused_until.is_none() && worker.has_place() {
                queue.askable.insert(id.clone());
            } else {
                queue.askable.remove(id);
            }
        }
    }

    /// Offer jobs to a worker, which now knows that it is registered.
    pub(crate) fn registration_confirmed(&mut self, now: Moment, worker: &str) {
        if let Some(worker) = self.workers.get(worker) {
            let key = worker.registered.dispatch_key.clone();
            self.offer_waiting(now, &key);
        }
    }

    /// Remove a worker whose connection ended. Its jobs wait for its return, its offers go to other workers.
    pub(crate) fn worker_left(&mut self, now: Moment, id: &str, why: String) {
        let Some((id, worker)) = self.workers.remove_entry(id) else { return };
        let Worker { registered, paused_until, simulated, .. } = worker;
        let dispatch_key = registered.dispatch_key;
        paused_until.map(|until| self.timers.remove(&(until, Timer::Worker(id.clone()))));
        if let Some(queue) = self.agent_queues.get_mut(&dispatch_key) {
            queue.workers.remove(&id);
            queue.askable.remove(&id);
        }
        if let Some(ids) = self.processes.get_mut(&registered.instance) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.processes.remove(&registered.instance);
            }
        }
        let mut jobs = 0;
        for dispatch in self.in_group(&Group::Worker(id.clone())) {
            let Some(open) = self.open.get(&dispatch) else { continue };
            let Phase::Assigned { since, reported, .. } = open.phase else {
                self.enqueue(&dispatch);
                continue;
            };
            jobs += 1;
            // A worker with an instance id reports its jobs when it returns.
            if !reported && since + REPORT_WITHIN <= now.at && registered.instance.is_empty() {
                self.end_never_reported(now, &dispatch);
            } else {
                let until = now.at + self.bounds.lost_after;
                self.set_phase(&dispatch, Phase::Orphaned { instance: registered.instance.clone(), until });
            }
        }
        if let Some(dispatch) = simulated {
            self.end_simulation(now, &dispatch);
        }
        self.outputs.push(Output::Store(Change::WorkerLeft { id: id.clone(), at_ns: now.wall_ns }));
        let left = Notification::WorkerLeft { worker: id, dispatch_key: dispatch_key.clone(), why, jobs };
        self.outputs.push(Output::Notify(left));
        self.offer_waiting(now, &dispatch_key);
    }

    /// End a job that waits for the worker that asked for it, because that worker has left.
    fn end_simulation(&mut self, now: Moment, dispatch: &Id) {
        if self.open.get(dispatch).is_some_and(|open| matches!(open.phase, Phase::Waiting { .. })) {
            let end = JobEnd::new(Code::Cancelled, "the worker that asked for the job has left");
            self.end_dispatch(now, dispatch, end);
        }
    }

    /// Whether a job that this worker asked for is open.
    pub(crate) fn is_simulating(&self, worker: &Id) -> bool {
        let simulated = self.workers.get(worker).and_then(|worker| worker.simulated.as_ref());
        simulated.is_some_and(|dispatch| self.open.contains_key(dispatch))
    }

    /// Remove the workers of a process that is known to have ended. Their jobs do not wait for it.
    pub(crate) fn process_died(&mut self, now: Moment, instance: &str) {
        for worker in self.processes.get(instance).cloned().unwrap_or_default() {
            self.worker_left(now, &worker, "the worker process died".into());
        }
        self.lose_orphans(now, instance, None, "the worker process died");
    }

    /// All connected workers, by id.
    pub(crate) fn workers(&self, now: Moment) -> Vec<PoolWorker> {
        let view = |(id, worker): (&Id, &Worker)| {
            let RegisteredWorker { dispatch_key, version, .. } = &worker.registered;
            PoolWorker {
                worker: id.to_string(),
                agent: dispatch_key.agent.clone(),
                job_type: job_kind(dispatch_key.job_type),
                deployment: dispatch_key.deployment.clone(),
                version: version.clone(),
                state: worker.state(now.at),
                load: worker.load,
                scarce: worker.scarce,
                full_since_ns: worker.full_since_ns,
                jobs: worker.jobs,
                offers: worker.offers,
                since_ns: worker.since_ns,
            }
        };
        self.workers.iter().map(view).collect()
    }
}
