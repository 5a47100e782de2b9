//! Offers: which dispatch is offered to which worker, and what follows from a refusal.

use std::collections::HashMap;
use std::time::Duration;

use livekit_protocol as proto;
use rand::RngExt;

use super::{ANSWER_WITHIN, Dispatch, Id, OpenDispatch, Output, Phase, Scheduler, ToWorker};
use crate::assign::{Candidate, choose};
use crate::clock::Moment;
use crate::queue::Rank;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::report::JobEnd;
use wasm_worker_protocol::wire::ATTEMPT_ATTRIBUTE;

impl Scheduler {
    /// Offer the waiting dispatches of a key while a worker may be asked.
    pub(super) fn offer_waiting(&mut self, now: Moment, key: &DispatchKey) {
        while self.agent_queues.get(key).is_some_and(|queue| queue.queue.has_ready()) {
            let candidates = self.candidates(key);
            if candidates.is_empty() {
                break;
            }
            let Some(rank) = self.agent_queues.get_mut(key).and_then(|queue| queue.queue.pop()) else { break };
            self.offer(now, key, rank, &candidates);
        }
        self.end_unserved(now, key);
        self.remove_if_unused(key);
    }

    /// Remove the queue of a key that has neither dispatches nor workers.
    pub(super) fn remove_if_unused(&mut self, key: &DispatchKey) {
        if self.agent_queues.get(key).is_some_and(|queue| queue.queue.is_empty() && queue.workers.is_empty()) {
            self.agent_queues.remove(key);
        }
    }

    /// Without a queue, end the dispatches that no worker takes at once, as LiveKit's server does.
    fn end_unserved(&mut self, now: Moment, key: &DispatchKey) {
        // The answer to an open offer may show that the worker takes more.
        let asked = |id: &Id| self.workers.get(id).is_some_and(|worker| worker.offers > 0 && !worker.is_full());
        if self.bounds.queue || self.agent_queues.get(key).is_some_and(|queue| queue.workers.iter().any(asked)) {
            return;
        }
        let waiting = self.agent_queues.get(key).map(|queue| queue.queue.in_order()).unwrap_or_default();
        let waiting: Vec<Id> = waiting.into_iter().map(|rank| rank.dispatch.clone()).collect();
        for id in waiting {
            let Some(open) = self.open.get(&id) else { continue };
            let detail = format!("{}, and the queue is off", self.wait_reason(now, open));
            self.end_dispatch(now, &id, JobEnd::new(Code::Unserved, detail));
        }
    }

    /// The workers of a key that may be asked now.
    fn candidates(&self, key: &DispatchKey) -> Vec<(Id, Candidate)> {
        let queue = self.agent_queues.get(key).filter(|_| !self.suspended);
        let ids = queue.into_iter().flat_map(|queue| &queue.askable);
        ids.filter_map(|id| Some((id.clone(), self.workers.get(id)?.candidate()))).collect()
    }

    /// Offer a dispatch to one of the candidates, or pause it when all of them refused it in this round.
    fn offer(&mut self, now: Moment, key: &DispatchKey, rank: Rank, candidates: &[(Id, Candidate)]) {
        let Some(open) = self.open.get_mut(&rank.dispatch) else { return };
        let may_have =
            |id: &Id| open.only_worker.as_ref().is_none_or(|only| only == id) && !open.refused_by.contains(id);
        let left: Vec<&(Id, Candidate)> = candidates.iter().filter(|(id, _)| may_have(id)).collect();
        let weights: Vec<Candidate> = left.iter().map(|(_, candidate)| *candidate).collect();
        let chosen = choose(&weights, self.rng.random()).and_then(|position| left.get(position));
        let Some((worker, _)) = chosen else {
            let until = now.at + open.rounds.fail();
            open.refused_by.clear();
            self.set_phase(&rank.dispatch, Phase::Waiting { paused_until: Some(until) });
            if let Some(queue) = self.agent_queues.get_mut(key) {
                queue.queue.pause(rank);
            }
            return;
        };
        let worker = worker.clone();
        let (api_key, job) = (open.dispatch.api_key.clone(), open.wire_job(&worker, now));
        let resuming = open.attempt > 1;
        self.count_dequeued(&api_key);
        self.change_worker(&worker, |worker| worker.offers += 1);
        let until = now.at + ANSWER_WITHIN;
        self.set_phase(&rank.dispatch, Phase::Offered { worker: worker.clone(), until });
        let message = ToWorker::Offer { job: Box::new(job), resuming };
        self.outputs.push(Output::Send { worker, message, durable: false });
    }

    /// Put a refused dispatch back into its queue, and pause the worker for at least `pause_min`.
    pub(super) fn offer_refused(&mut self, now: Moment, id: &Id, worker: &Id, pause_min: Duration) {
        self.change_worker(worker, |worker| worker.offer_refused(now.at, pause_min));
        let Some(open) = self.open.get_mut(id) else { return };
        open.refused_by.insert(worker.clone());
        let key = open.dispatch.dispatch_key.clone();
        self.enqueue(id);
        self.offer_waiting(now, &key);
    }
}

impl OpenDispatch {
    /// The job of the current attempt, as its worker receives it.
    pub(super) fn wire_job(&self, worker: &Id, now: Moment) -> proto::Job {
        let Dispatch { id, dispatch_key, room, metadata, attributes, .. } = &*self.dispatch;
        let mut attributes: HashMap<String, String> = attributes.clone().into_iter().collect();
        if self.attempt > 1 {
            attributes.insert(ATTEMPT_ATTRIBUTE.into(), self.attempt.to_string());
        }
        proto::Job {
            id: self.job.to_string(),
            dispatch_id: id.to_string(),
            r#type: dispatch_key.job_type,
            room: Some(room.clone()),
            metadata: metadata.clone(),
            agent_name: dispatch_key.agent.clone(),
            deployment: dispatch_key.deployment.clone(),
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
