//! Timeouts: of dispatches that wait, of offers, of lost workers, and the ends of pauses.

use tokio::time::Instant;

use super::{ANSWER_WITHIN, Id, Phase, Scheduler};
use crate::clock::Moment;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::report::JobEnd;

impl Scheduler {
    /// Handle everything that is due. The caller calls this at [`Self::wake_at`].
    pub(crate) fn on_timer(&mut self, now: Moment) {
        while let Some((_, id)) = self.timers.first().filter(|(due, _)| *due <= now.at).cloned() {
            self.on_timeout(now, &id);
        }
        for worker in self.workers.values_mut() {
            worker.paused_until.take_if(|until| *until <= now.at);
        }
        let keys: Vec<DispatchKey> = self.agent_queues.keys().cloned().collect();
        for key in keys {
            if let Some(queue) = self.agent_queues.get_mut(&key) {
                queue.queue.resume_due(now.at);
            }
            self.offer_waiting(now, &key);
        }
    }

    /// The time at which [`Self::on_timer`] is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let timeouts = self.timers.first().map(|(due, _)| *due);
        let dispatches = self.agent_queues.values().filter_map(|queue| queue.queue.wake_at());
        let workers =
            self.agent_queues.values().filter(|queue| !queue.queue.is_empty()).flat_map(|queue| &queue.workers);
        let workers = workers.filter_map(|id| self.workers.get(id)?.paused_until);
        timeouts.into_iter().chain(dispatches).chain(workers).min()
    }

    fn on_timeout(&mut self, now: Moment, id: &Id) {
        let Some(open) = self.open.get(id) else { return };
        match &open.phase {
            Phase::Waiting => {
                let waited = now.at.saturating_duration_since(open.since);
                let why = self.wait_reason(now, open);
                let detail = format!("no worker took the dispatch within {waited:.1?}: {why}");
                self.end_dispatch(now, id, JobEnd::new(Code::Expired, detail));
            }
            Phase::Offered { worker, .. } => {
                let worker = worker.clone();
                self.offer_refused(now, id, &worker, ANSWER_WITHIN);
            }
            Phase::Orphaned { .. } => {
                let detail = format!("the worker did not return within {:?}", self.bounds.lost_after);
                self.attempt_lost(now, id, detail);
            }
            Phase::Assigned { .. } => {
                let detail = "the job was asked to stop; its worker does not report the ends of jobs";
                self.end_attempt_and_dispatch(now, id, JobEnd::new(Code::Terminated, detail));
            }
        }
    }
}
