//! The workers of a pool, and what they say.

use std::time::Duration;

use livekit_protocol as proto;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    ASKED_MAX, Code, Entry, HEARD_WITHIN, Id, JobEnd, Kind, Note, Now, Output, PAUSE_MAX, PAUSE_MIN, Pool, Readiness,
    Said, State, Tell, Write, doubled,
};
use crate::assign::Candidate;

/// How a worker has introduced itself.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) kind: Kind,
    /// The API key of its token: its jobs' tokens are signed with it.
    pub(crate) key: Id,
    /// The process, so that one that comes back is known; empty for workers that do not say.
    pub(crate) instance: String,
    /// Of its SDK.
    pub(crate) version: String,
}

pub(super) struct Worker {
    registered: Registered,
    since_ns: i64,
    load: f32,
    readiness: Readiness,
    /// Offers that it has not answered.
    pub(super) asked: usize,
    /// How many there may be: one more for each that it accepts, half as many for one that it refuses. So a worker with little
    /// room is not asked for more at once, and what waits keeps its order.
    window: usize,
    running: usize,
    refusals: u32,
    pub(super) paused_until: Option<Instant>,
    /// Since it registered: what of its former jobs it still has is known then.
    reported: bool,
}

/// One worker, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkerView {
    pub(crate) worker: String,
    pub(crate) agent: String,
    /// `room`, `publisher` or `participant`.
    pub(crate) job_type: &'static str,
    pub(crate) deployment: String,
    /// Of its SDK.
    pub(crate) version: String,
    /// `available`, `full`, `draining` or `paused`, after it has refused an offer.
    pub(crate) state: &'static str,
    /// As it reports it.
    pub(crate) load: f32,
    /// Jobs of this dispatcher that it runs.
    pub(crate) jobs: usize,
    /// Offers that it has not answered.
    pub(crate) offers: usize,
    pub(crate) since_ns: i64,
}

impl Worker {
    pub(super) fn may_be_asked(&self, now: Instant) -> bool {
        let paused = self.paused_until.is_some_and(|until| until > now);
        self.readiness == Readiness::Available && !paused && self.asked < self.window
    }

    pub(super) fn candidate(&self) -> Candidate {
        Candidate { load: self.load, asked: self.asked }
    }

    /// It is left alone for a while, a longer one each time in a row.
    pub(super) fn refused(&mut self, now: Instant, pause: Duration) {
        self.asked = self.asked.saturating_sub(1);
        self.window = (self.window / 2).max(1);
        self.paused_until = Some(now + pause.max(doubled(PAUSE_MIN, self.refusals, PAUSE_MAX)));
        self.refusals = self.refusals.saturating_add(1);
    }

    fn accepted(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        self.window = (self.window + 1).min(ASKED_MAX);
        self.running += 1;
        (self.refusals, self.paused_until) = (0, None);
    }

    /// One of its jobs, or an offer, is no more.
    pub(super) fn ended(&mut self, running: bool) {
        let count = if running { &mut self.running } else { &mut self.asked };
        *count = count.saturating_sub(1);
    }

    fn state(&self, now: Instant) -> &'static str {
        match self {
            Self { readiness: Readiness::Draining, .. } => "draining",
            Self { readiness: Readiness::Full, .. } => "full",
            Self { paused_until: Some(until), .. } if *until > now => "paused",
            Self { .. } => "available",
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.readiness != Readiness::Available
    }
}

impl Pool {
    /// A worker comes. What waits for its kind is offered once it is [`Self::welcomed`].
    pub(crate) fn register(&mut self, now: Now, registered: Registered) -> Id {
        self.supersede(now, &registered);
        let id = self.id("AW_");
        let (kind, version) = (registered.kind.clone(), registered.version.clone());
        let lane = self.lanes.entry(kind.clone()).or_default();
        lane.workers.push(id.clone());
        lane.queue.wake_all();
        let worker = Worker {
            registered: registered.clone(),
            since_ns: now.wall_ns,
            load: 0.0,
            // LiveKit's server takes a worker that has not said anything for one without load; so jobs come at once.
            readiness: Readiness::Available,
            asked: 0,
            window: 1,
            running: 0,
            refusals: 0,
            paused_until: None,
            reported: false,
        };
        self.workers.insert(id.clone(), worker);
        self.outputs.push(Output::Write(Write::WorkerCame { id: id.clone(), registered, at_ns: now.wall_ns }));
        self.outputs.push(Output::Note(Note::WorkerCame { worker: id.clone(), kind, version }));
        id
    }

    /// A process that registers anew has lost its former connection, whether that is known here or not.
    fn supersede(&mut self, now: Now, registered: &Registered) {
        let same = |worker: &Worker| {
            worker.registered.instance == registered.instance && worker.registered.kind == registered.kind
        };
        let former = self.workers.iter().find(|(_, worker)| !registered.instance.is_empty() && same(worker));
        if let Some(former) = former.map(|(id, _)| id.clone()) {
            self.gone(now, &former, "it has registered anew".into());
        }
    }

    /// A worker has been told that it is registered.
    pub(crate) fn welcomed(&mut self, now: Now, worker: &str) {
        if let Some(worker) = self.workers.get(worker) {
            let kind = worker.registered.kind.clone();
            self.serve(now, &kind);
        }
    }

    /// Its connection is gone. Its jobs wait for it, its offers go to others.
    pub(crate) fn gone(&mut self, now: Now, id: &str, why: String) {
        let Some((id, Worker { registered, .. })) = self.workers.remove_entry(id) else { return };
        let kind = registered.kind;
        if let Some(lane) = self.lanes.get_mut(&kind) {
            lane.workers.retain(|worker| *worker != id);
        }
        let mut mine: Vec<Id> =
            self.open.iter().filter(|(_, entry)| entry.worker() == Some(&id)).map(|(id, _)| id.clone()).collect();
        mine.sort_unstable();
        let mut jobs = 0;
        for dispatch in mine {
            let Some(entry) = self.open.get(&dispatch) else { continue };
            if let State::Running { since, heard, .. } = entry.state {
                jobs += 1;
                // Ours says what it has when it comes back.
                if !heard && since + HEARD_WITHIN <= now.at && registered.instance.is_empty() {
                    self.never_heard_of(now, &dispatch);
                    continue;
                }
                let until = now.at + self.bounds.lost_after;
                self.change(now, &dispatch, State::Orphaned { instance: registered.instance.clone(), until });
            } else {
                self.enqueue(now, &dispatch);
            }
        }
        self.outputs.push(Output::Write(Write::WorkerGone { id: id.clone(), at_ns: now.wall_ns }));
        self.outputs.push(Output::Note(Note::WorkerGone { worker: id, kind: kind.clone(), why, jobs }));
        self.serve(now, &kind);
    }

    /// A worker process is known to be no more: its jobs need not wait for it.
    pub(crate) fn instance_died(&mut self, now: Now, instance: &str) {
        let of_it = self.workers.iter().filter(|(_, worker)| worker.registered.instance == instance);
        let workers: Vec<Id> = of_it.map(|(id, _)| id.clone()).collect();
        for worker in workers {
            self.gone(now, &worker, "its process died".into());
        }
        self.lose_orphans(now, instance, None, "its worker process died");
    }

    /// What a worker says.
    pub(crate) fn said(&mut self, now: Now, worker: &Id, said: Said) {
        match said {
            Said::Answer(answer) => self.answered(now, worker, answer),
            Said::Status { load, readiness } => self.status(now, worker, load, readiness),
            Said::Running { job } => self.runs(now, worker, &job),
            Said::Ended { job, end } => self.job_ended(now, worker, &job, end),
            Said::Migrate { jobs } => self.migrate(now, worker, jobs),
        }
    }

    /// All workers, as they are shown.
    pub(crate) fn workers(&self, now: Now) -> Vec<WorkerView> {
        let view = |(id, worker): (&Id, &Worker)| WorkerView {
            worker: id.to_string(),
            agent: worker.registered.kind.agent.clone(),
            job_type: match proto::JobType::try_from(worker.registered.kind.job_type) {
                Ok(proto::JobType::JtPublisher) => "publisher",
                Ok(proto::JobType::JtParticipant) => "participant",
                Ok(proto::JobType::JtRoom) | Err(_) => "room",
            },
            deployment: worker.registered.kind.deployment.clone(),
            version: worker.registered.version.clone(),
            state: worker.state(now.at),
            load: worker.load,
            jobs: worker.running,
            offers: worker.asked,
            since_ns: worker.since_ns,
        };
        self.workers.iter().map(view).collect()
    }

    fn answered(&mut self, now: Now, worker: &Id, mut answer: proto::AvailabilityResponse) {
        let Some(id) = self.dispatch_of.get(answer.job_id.as_str()).cloned() else { return };
        let Some(entry) = self.open.get(&id) else { return };
        // Nobody waits for the answer of a worker that was given up, or of a former attempt.
        let asked = matches!(&entry.state, State::Offered { worker: asked, .. } if asked == worker);
        if !asked || *entry.job != *answer.job_id {
            return;
        }
        if answer.terminate {
            return self.end(now, &id, JobEnd::new(Code::Rejected, "the agent does not want it run"));
        }
        if !answer.available {
            return self.refused(now, &id, worker, Duration::ZERO);
        }
        if answer.participant_identity.is_empty() {
            // As LiveKit's workers have it; nobody joins a room without one.
            answer.participant_identity = format!("agent-{}", entry.job);
        }
        let (dispatch, job, attempt) = (entry.dispatch.clone(), entry.job.clone(), entry.attempt);
        let assigned = Box::new(entry.wire_job(worker, now));
        self.change(now, &id, State::Running { worker: worker.clone(), since: now.at, heard: false });
        let Some(asked) = self.workers.get_mut(worker) else { return };
        asked.accepted();
        self.outputs.push(Output::Write(Write::Assigned {
            dispatch: id,
            job: job.clone(),
            attempt,
            worker: worker.clone(),
            instance: asked.registered.instance.clone(),
            identity: answer.participant_identity.clone(),
            at_ns: now.wall_ns,
        }));
        let what = Tell::Assign { job: assigned, answer: Box::new(answer) };
        self.outputs.push(Output::Tell { worker: worker.clone(), what, durable: true });
        let waited_ns = now.wall_ns - dispatch.created_ns;
        let kind = dispatch.kind.clone();
        self.outputs.push(Output::Note(Note::Assigned { dispatch, job, worker: worker.clone(), attempt, waited_ns }));
        // It has room for one more question.
        self.serve(now, &kind);
    }

    fn status(&mut self, now: Now, id: &Id, load: f32, readiness: Readiness) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let load = if load.is_finite() { load.clamp(0.0, 1.0) } else { 1.0 };
        let better = (worker.is_full() && readiness == Readiness::Available) || load < worker.load;
        (worker.load, worker.readiness) = (load, readiness);
        if better {
            (worker.refusals, worker.paused_until) = (0, None);
        }
        let first = !std::mem::replace(&mut worker.reported, true);
        let (kind, instance) = (worker.registered.kind.clone(), worker.registered.instance.clone());
        if better && let Some(lane) = self.lanes.get_mut(&kind) {
            lane.queue.wake_all();
        }
        if first {
            self.lose_orphans(now, &instance, Some(&kind), "its worker came back without it");
        }
        self.serve(now, &kind);
    }

    fn runs(&mut self, now: Now, worker: &Id, job: &str) {
        let Some(entry) = self.dispatch_of.get(job).cloned().and_then(|id| self.open.get_mut(&id)) else { return };
        if let State::Running { worker: its, heard, .. } = &mut entry.state
            && *entry.job == *job
            && its == worker
        {
            *heard = true;
            let (job, dispatch) = (entry.job.clone(), entry.dispatch.id.clone());
            // No longer one that nobody ever heard of.
            if let Some(due) = entry.timer.take() {
                self.timers.remove(&(due, dispatch.clone()));
            }
            self.outputs.push(Output::Write(Write::Started { job, at_ns: now.wall_ns }));
            self.outputs.push(Output::Note(Note::Runs { dispatch }));
        }
    }

    /// The first end that is heard of decides, also that of an attempt which was given up.
    fn job_ended(&mut self, now: Now, from: &Id, job: &str, mut end: JobEnd) {
        let Some(id) = self.dispatch_of.get(job).cloned() else { return };
        let Some(entry) = self.open.get(&id) else { return };
        let current = *entry.job == *job;
        let former = entry.former.iter().find(|former| *former.job == *job);
        if former.is_some_and(|former| former.stopped || end.verdict.code == Code::Lost) {
            let (job, at_ns) = (job.into(), now.wall_ns);
            return self.outputs.push(Output::Write(Write::JobEnded { job, end, at_ns }));
        }
        // A job that was only offered, or runs elsewhere, cannot have ended here.
        let elsewhere = entry.worker().is_some_and(|worker| worker != from);
        if current && (elsewhere || matches!(entry.state, State::Waiting | State::Offered { .. })) {
            return;
        }
        // Its worker was told too late that it has it.
        if current && end.verdict.code == Code::Lost {
            return self.lost(now, &id, end.verdict.detail);
        }
        if entry.cancelled && end.verdict.code == Code::Completed {
            end.verdict = end.verdict.with_code(Code::Terminated);
        }
        let job = if current { entry.job.clone() } else { job.into() };
        self.outputs.push(Output::Write(Write::JobEnded { job, end: end.clone(), at_ns: now.wall_ns }));
        let kind = entry.dispatch.kind.clone();
        if !current {
            self.stop_current(now, &id);
        }
        self.end(now, &id, end);
        self.serve(now, &kind);
    }

    /// A former attempt has ended the dispatch: the present one is not needed.
    fn stop_current(&mut self, now: Now, id: &Id) {
        let Some(Entry { job, state: State::Running { worker, .. }, .. }) = self.open.get(id) else { return };
        let (job, worker) = (job.clone(), worker.clone());
        let end = JobEnd::new(Code::Cancelled, "an earlier attempt ended after all");
        self.outputs.push(Output::Write(Write::JobEnded { job: job.clone(), end, at_ns: now.wall_ns }));
        self.outputs.push(Output::Tell { worker, what: Tell::Terminate { job }, durable: true });
    }

    /// Jobs that outlived their connection.
    fn migrate(&mut self, now: Now, worker: &Id, jobs: Vec<String>) {
        let (mine, strays): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| self.dispatch_of.contains_key(job.as_str()));
        for job in mine {
            self.adopt(now, worker, &job);
        }
        if !strays.is_empty() {
            self.outputs.push(Output::Strays { worker: worker.clone(), jobs: strays });
        }
    }

    fn adopt(&mut self, now: Now, id: &Id, job: &str) {
        let Some(instance) = self.workers.get(id).map(|worker| worker.registered.instance.clone()) else { return };
        let Some(dispatch) = self.dispatch_of.get(job).cloned() else { return };
        let Some(entry) = self.open.get_mut(&dispatch) else { return };
        let stop = Tell::Terminate { job: job.into() };
        // Another attempt has been begun.
        if let Some(former) = entry.former.iter_mut().find(|former| *former.job == *job) {
            former.stopped = true;
            return self.outputs.push(Output::Tell { worker: id.clone(), what: stop, durable: false });
        }
        let former = match &entry.state {
            State::Orphaned { .. } => None,
            // The old connection is not known to be dead yet.
            State::Running { worker, .. } if worker != id => Some(worker.clone()),
            State::Running { .. } | State::Waiting | State::Offered { .. } => return,
        };
        let (job, cancelled) = (entry.job.clone(), entry.cancelled);
        self.change(now, &dispatch, State::Running { worker: id.clone(), since: now.at, heard: true });
        if let Some(former) = former.and_then(|former| self.workers.get_mut(&former)) {
            former.ended(true);
        }
        if let Some(worker) = self.workers.get_mut(id) {
            worker.running += 1;
        }
        self.outputs.push(Output::Write(Write::Adopted { job, worker: id.clone(), instance }));
        if cancelled {
            self.outputs.push(Output::Tell { worker: id.clone(), what: stop, durable: false });
        }
    }

    /// It may have run to its end, or not: it is not run again.
    fn never_heard_of(&mut self, now: Now, id: &Id) {
        let detail = "its worker left, and never said anything of it: it may have run to its end";
        self.end_both(now, id, JobEnd::new(Code::Lost, detail));
    }

    /// Of one kind, or of all: a process may have several agents, each with its own registration.
    fn lose_orphans(&mut self, now: Now, instance: &str, kind: Option<&Kind>, why: &str) {
        if instance.is_empty() {
            return;
        }
        let of_it = |entry: &Entry| match &entry.state {
            State::Orphaned { instance: its, .. } => {
                its == instance && kind.is_none_or(|kind| *kind == entry.dispatch.kind)
            }
            State::Waiting | State::Offered { .. } | State::Running { .. } => false,
        };
        let mut lost: Vec<Id> = self.open.iter().filter(|(_, entry)| of_it(entry)).map(|(id, _)| id.clone()).collect();
        lost.sort_unstable();
        for id in lost {
            self.lost(now, &id, why.to_owned());
        }
    }
}

impl Entry {
    /// The worker that has it, or is asked.
    fn worker(&self) -> Option<&Id> {
        match &self.state {
            State::Offered { worker, .. } | State::Running { worker, .. } => Some(worker),
            State::Waiting | State::Orphaned { .. } => None,
        }
    }
}
