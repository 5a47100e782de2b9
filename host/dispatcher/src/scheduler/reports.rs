//! The messages of workers: answers, status, and the reports of their jobs.

use std::time::Duration;

use livekit_protocol as proto;

use super::workers::Worker;
use super::{Change, Id, Notification, OpenDispatch, Output, Phase, Scheduler, Timer, ToWorker};
use crate::clock::Moment;
use wasm_worker_core::load::Scarcity;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::{Readiness, WorkerMessage};
use wasm_worker_protocol::report::JobEnd;

impl Scheduler {
    /// Handle a message of a worker.
    pub(crate) fn on_message(&mut self, now: Moment, worker: &Id, message: WorkerMessage) {
        match message {
            WorkerMessage::Answer(answer) => self.on_answer(now, worker, answer),
            WorkerMessage::Status { load, readiness } => self.on_status(now, worker, load, readiness, None),
            WorkerMessage::Full { load, scarce } => self.on_status(now, worker, load, Readiness::Full, Some(scarce)),
            WorkerMessage::Running { job } => self.on_running(now, worker, &job),
            WorkerMessage::Ended { job, end } => self.on_job_ended(now, worker, &job, end),
            WorkerMessage::Migrate { jobs } => self.on_migrate(now, worker, jobs),
        }
    }

    fn on_answer(&mut self, now: Moment, worker: &Id, mut answer: proto::AvailabilityResponse) {
        let Some(id) = self.dispatch_of.get(answer.job_id.as_str()).cloned() else { return };
        let Some(open) = self.open.get(&id) else { return };
        // An answer that came too late, or for a former attempt, has no effect.
        let asked = matches!(&open.phase, Phase::Offered { worker: asked, .. } if asked == worker);
        if !asked || *open.job != *answer.job_id {
            return;
        }
        if answer.terminate {
            return self.end_dispatch(now, &id, JobEnd::new(Code::Rejected, "the agent rejected the job"));
        }
        if !answer.available {
            return self.offer_refused(now, &id, worker, Duration::ZERO);
        }
        if answer.participant_identity.is_empty() {
            // LiveKit's workers have the same default; a participant needs an identity.
            answer.participant_identity = format!("agent-{}", open.job);
        }
        let (dispatch, job, attempt) = (open.dispatch.clone(), open.job.clone(), open.attempt);
        let waited = now.at.saturating_duration_since(open.since);
        let wire_job = Box::new(open.wire_job(worker, now));
        self.set_phase(&id, Phase::Assigned { worker: worker.clone(), since: now.at, reported: false });
        self.change_worker(worker, Worker::offer_accepted);
        let Some(assigned) = self.workers.get(worker) else { return };
        self.outputs.push(Output::Store(Change::Assigned {
            dispatch: id,
            job: job.clone(),
            attempt,
            worker: worker.clone(),
            instance: assigned.registered.instance.clone(),
            identity: answer.participant_identity.clone(),
            at_ns: now.wall_ns,
        }));
        let message = ToWorker::Assign { job: wire_job, answer: Box::new(answer) };
        self.outputs.push(Output::Send { worker: worker.clone(), message, durable: true });
        let key = dispatch.dispatch_key.clone();
        let worker = worker.clone();
        self.outputs.push(Output::Notify(Notification::Assigned { dispatch, job, worker, attempt, waited }));
        // The window of the worker has grown.
        self.offer_waiting(now, &key);
    }

    fn on_status(&mut self, now: Moment, id: &Id, load: f32, readiness: Readiness, scarce: Option<Scarcity>) {
        let Some(worker) = self.workers.get(id) else { return };
        let load = if load.is_finite() { load.clamp(0.0, 1.0) } else { 1.0 };
        let has_more_capacity = (worker.is_full() && readiness == Readiness::Available) || load < worker.load;
        let first = !worker.status_received;
        let (key, instance) = (worker.registered.dispatch_key.clone(), worker.registered.instance.clone());
        self.change_worker(id, |worker| {
            (worker.load, worker.readiness, worker.status_received) = (load, readiness, true);
            worker.scarce = scarce;
            worker.full_since_ns = worker.is_full().then(|| worker.full_since_ns.unwrap_or(now.wall_ns));
            if has_more_capacity {
                worker.end_pause();
            }
        });
        if has_more_capacity && let Some(queue) = self.agent_queues.get_mut(&key) {
            queue.queue.resume_all();
        }
        if first {
            // A returned worker lists its jobs before its first status.
            self.lose_orphans(now, &instance, Some(&key), "the worker returned without the job");
        }
        self.offer_waiting(now, &key);
    }

    fn on_running(&mut self, now: Moment, from: &Id, job: &str) {
        let Some(open) = self.dispatch_of.get(job).cloned().and_then(|id| self.open.get_mut(&id)) else { return };
        if let Phase::Assigned { worker, reported, .. } = &mut open.phase
            && *open.job == *job
            && worker == from
        {
            *reported = true;
            let (job, dispatch) = (open.job.clone(), open.dispatch.id.clone());
            // The worker reports its jobs, so the end will be reported as well.
            if let Some(due) = open.timer.take() {
                self.timers.remove(&(due, Timer::Dispatch(dispatch.clone())));
            }
            self.outputs.push(Output::Store(Change::Started { job, at_ns: now.wall_ns }));
            self.outputs.push(Output::Notify(Notification::Started { dispatch }));
        }
    }

    /// The first reported end decides, even that of an attempt that was given up.
    fn on_job_ended(&mut self, now: Moment, from: &Id, job: &str, mut end: JobEnd) {
        let Some(id) = self.dispatch_of.get(job).cloned() else { return };
        let Some(open) = self.open.get(&id) else { return };
        let current = *open.job == *job;
        let former = open.former.iter().find(|former| *former.job == *job);
        if former.is_some_and(|former| former.stopped || end.verdict.code == Code::Lost) {
            let (job, at_ns) = (job.into(), now.wall_ns);
            return self.outputs.push(Output::Store(Change::JobEnded { job, end, at_ns }));
        }
        // A job that is only offered, or that another worker has, cannot have ended here.
        let elsewhere = open.worker().is_some_and(|worker| worker != from);
        if current && (elsewhere || matches!(open.phase, Phase::Waiting { .. } | Phase::Offered { .. })) {
            return;
        }
        // The assignment reached the worker too late.
        if current && end.verdict.code == Code::Lost {
            return self.attempt_lost(now, &id, end.verdict.detail);
        }
        if open.cancelled && end.verdict.code == Code::Completed {
            end.verdict = end.verdict.with_code(Code::Terminated);
        }
        let job = if current { open.job.clone() } else { job.into() };
        self.outputs.push(Output::Store(Change::JobEnded { job, end: end.clone(), at_ns: now.wall_ns }));
        let key = open.dispatch.dispatch_key.clone();
        if !current {
            self.stop_current_attempt(now, &id);
        }
        self.end_dispatch(now, &id, end);
        self.offer_waiting(now, &key);
    }

    /// Stop the current attempt, because a former one has ended the dispatch.
    fn stop_current_attempt(&mut self, now: Moment, id: &Id) {
        let Some(OpenDispatch { job, phase: Phase::Assigned { worker, .. }, .. }) = self.open.get(id) else { return };
        let (job, worker) = (job.clone(), worker.clone());
        let end = JobEnd::new(Code::Cancelled, "an earlier attempt ended the dispatch");
        self.outputs.push(Output::Store(Change::JobEnded { job: job.clone(), end, at_ns: now.wall_ns }));
        self.outputs.push(Output::Send { worker, message: ToWorker::Terminate { job }, durable: true });
    }

    /// Take over the jobs that outlived the former connection of their worker.
    fn on_migrate(&mut self, now: Moment, worker: &Id, jobs: Vec<String>) {
        let (open, unknown): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| self.dispatch_of.contains_key(job.as_str()));
        for job in open {
            self.adopt(now, worker, &job);
        }
        if !unknown.is_empty() {
            self.outputs.push(Output::UnknownJobs { worker: worker.clone(), jobs: unknown });
        }
    }

    /// Take over one job of a worker that returned.
    fn adopt(&mut self, now: Moment, id: &Id, job: &str) {
        let Some(instance) = self.workers.get(id).map(|worker| worker.registered.instance.clone()) else { return };
        let Some(dispatch) = self.dispatch_of.get(job).cloned() else { return };
        let Some(open) = self.open.get_mut(&dispatch) else { return };
        let stop = ToWorker::Terminate { job: job.into() };
        // Another attempt has begun meanwhile.
        if let Some(former) = open.former.iter_mut().find(|former| *former.job == *job) {
            former.stopped = true;
            return self.outputs.push(Output::Send { worker: id.clone(), message: stop, durable: false });
        }
        let former_worker = match &open.phase {
            Phase::Orphaned { .. } => None,
            // The loss of the former connection is not noticed yet.
            Phase::Assigned { worker, .. } if worker != id => Some(worker.clone()),
            Phase::Assigned { .. } | Phase::Waiting { .. } | Phase::Offered { .. } => return,
        };
        let (job, cancelled) = (open.job.clone(), open.cancelled);
        self.set_phase(&dispatch, Phase::Assigned { worker: id.clone(), since: now.at, reported: true });
        if let Some(former) = former_worker {
            self.change_worker(&former, Worker::job_gone);
        }
        self.change_worker(id, |worker| worker.jobs += 1);
        self.outputs.push(Output::Store(Change::Adopted { job, worker: id.clone(), instance }));
        if cancelled {
            self.outputs.push(Output::Send { worker: id.clone(), message: stop, durable: false });
        }
    }
}
