//! The ends of attempts and dispatches: a lost attempt is followed by another one, until the policy or a bound forbids it.

use std::collections::HashSet;

use livekit_protocol as proto;

use super::groups::Group;
use super::workers::Worker;
use super::{Change, FormerAttempt, Id, Notification, OpenDispatch, Output, Phase, Scheduler, Timer, ToWorker};
use crate::clock::Moment;
use wasm_worker_core::verdict::{Code, Verdict};
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::frame::FRAME_BYTES_MAX;
use wasm_worker_protocol::report::JobEnd;

impl Scheduler {
    /// End the current attempt as lost, and begin the next one where the dispatch allows it.
    pub(super) fn attempt_lost(&mut self, now: Moment, id: &Id, why: String) {
        let Some(open) = self.open.get(id) else { return };
        let end = JobEnd::new(Code::Lost, why.clone());
        self.outputs.push(Output::Store(Change::JobEnded { job: open.job.clone(), end, at_ns: now.wall_ns }));
        let (attempt, max) = (open.attempt, self.bounds.attempts_max);
        let never = open.dispatch.restart == proto::JobRestartPolicy::JrpNever;
        if open.cancelled {
            let detail = format!("the dispatch was cancelled, and {why}");
            return self.end_dispatch(now, id, JobEnd::new(Code::Cancelled, detail));
        }
        if never {
            let detail = format!("{why}; the restart policy is `JRP_NEVER`");
            return self.end_dispatch(now, id, JobEnd::new(Code::Lost, detail));
        }
        if attempt >= max {
            let detail = format!("{why}; quarantined: the workers of {attempt} of {max} attempts were lost");
            return self.end_dispatch(now, id, JobEnd::new(Code::Lost, detail));
        }
        self.begin_next_attempt(now, id, why);
    }

    fn begin_next_attempt(&mut self, now: Moment, id: &Id, why: String) {
        let job = self.new_id("AJ_");
        let Some(open) = self.open.get_mut(id) else { return };
        let assigned = matches!(open.phase, Phase::Assigned { .. }).then(|| open.worker().cloned()).flatten();
        let former = std::mem::replace(&mut open.job, job.clone());
        open.former.push(FormerAttempt { job: former, stopped: false });
        open.attempt += 1;
        open.waits_until = now.at + open.dispatch.patience();
        open.rounds.succeed();
        open.refused_by = HashSet::new();
        let (dispatch, attempt) = (open.dispatch.clone(), open.attempt);
        let key = dispatch.dispatch_key.clone();
        self.dispatch_of.insert(job.clone(), id.clone());
        if let Some(worker) = assigned {
            self.change_worker(&worker, Worker::job_gone);
        }
        self.outputs.push(Output::Store(Change::Retried { dispatch: id.clone(), job: job.clone(), attempt }));
        self.outputs.push(Output::Notify(Notification::Retried { dispatch, job, attempt, why }));
        self.enqueue(id);
        self.offer_waiting(now, &key);
    }

    /// End the attempt of a job whose assignment was stored too late to be sent.
    pub(crate) fn assignment_undelivered(&mut self, now: Moment, job: &str) {
        if let Some(id) = self.dispatch_of.get(job).cloned()
            && self.open.get(&id).is_some_and(|open| *open.job == *job)
        {
            self.attempt_lost(now, &id, "the assignment could not be stored in time".into());
        }
    }

    /// End a dispatch whose offer or assignment to a worker is too long for a frame. Another worker could not take it either.
    pub(crate) fn undeliverable(&mut self, now: Moment, worker: &str, job: &str, bytes: usize) {
        let Some(id) = self.dispatch_of.get(job).cloned() else { return };
        let Some(open) = self.open.get(&id) else { return };
        if *open.job != *job || open.worker().is_none_or(|other| **other != *worker) {
            return;
        }
        let key = open.dispatch.dispatch_key.clone();
        let limit = format!("{bytes} bytes, and a frame to a worker has at most {FRAME_BYTES_MAX}");
        if matches!(open.phase, Phase::Offered { .. }) {
            let verdict = Verdict::new(Code::Unserved, format!("the job is too long: its offer has {limit}"));
            // The same dispatch is as long the next time.
            let verdict = Verdict { retry: false, ..verdict };
            self.end_dispatch(now, &id, JobEnd { verdict, usage: None });
        } else {
            // The worker waits for the assignment.
            let message = ToWorker::Terminate { job: job.into() };
            self.outputs.push(Output::Send { worker: worker.into(), message, durable: true });
            let detail = format!("the agent's acceptance is too long: the assignment has {limit}");
            self.end_attempt_and_dispatch(now, &id, JobEnd::new(Code::Rejected, detail));
        }
        self.offer_waiting(now, &key);
    }

    /// End a job whose worker left without any report about it. It may have completed, so it is not run again.
    pub(super) fn end_never_reported(&mut self, now: Moment, id: &Id) {
        let detail = "the worker disconnected without any report of the job, which may have completed";
        self.end_attempt_and_dispatch(now, id, JobEnd::new(Code::Lost, detail));
    }

    /// End the attempts that wait for a process to return: those of one key, or all.
    pub(super) fn lose_orphans(&mut self, now: Moment, instance: &str, key: Option<&DispatchKey>, why: &str) {
        if instance.is_empty() {
            return;
        }
        for id in self.in_group(&Group::Process(instance.to_owned())) {
            let same_key = |open: &OpenDispatch| key.is_none_or(|key| *key == open.dispatch.dispatch_key);
            if self.open.get(&id).is_some_and(same_key) {
                self.attempt_lost(now, &id, why.to_owned());
            }
        }
    }

    /// End the current attempt and its dispatch.
    pub(super) fn end_attempt_and_dispatch(&mut self, now: Moment, id: &Id, end: JobEnd) {
        let Some(open) = self.open.get(id) else { return };
        let job = open.job.clone();
        self.outputs.push(Output::Store(Change::JobEnded { job, end: end.clone(), at_ns: now.wall_ns }));
        self.end_dispatch(now, id, end);
    }

    /// End a dispatch. This is the one place where a dispatch leaves the scheduler.
    pub(super) fn end_dispatch(&mut self, now: Moment, id: &Id, end: JobEnd) {
        let Some(open) = self.open.remove(id) else { return };
        self.bytes -= open.dispatch.bytes();
        if let Some(due) = open.timer {
            self.timers.remove(&(due, Timer::Dispatch(id.clone())));
        }
        for group in open.holder().into_iter().chain([open.room()]) {
            self.groups.remove(&(group, id.clone()));
        }
        match &open.phase {
            Phase::Waiting { .. } => {
                self.count_dequeued(&open.dispatch.api_key);
                if let Some(queue) = self.agent_queues.get_mut(&open.dispatch.dispatch_key) {
                    queue.queue.remove(&open.dispatch.rank());
                }
                self.remove_if_unused(&open.dispatch.dispatch_key);
            }
            Phase::Offered { worker, .. } => self.change_worker(worker, Worker::offer_gone),
            Phase::Assigned { worker, .. } => self.change_worker(worker, Worker::job_gone),
            Phase::Orphaned { .. } => {}
        }
        for job in open.jobs() {
            self.dispatch_of.remove(job);
        }
        let OpenDispatch { dispatch, job, attempt: attempts, .. } = open;
        self.outputs.push(Output::Store(Change::Ended { dispatch: id.clone(), end: end.clone(), at_ns: now.wall_ns }));
        self.outputs.push(Output::Notify(Notification::Ended { dispatch, job, attempts, end }));
    }
}
