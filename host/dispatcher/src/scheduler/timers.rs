//! Timeouts: of dispatches that wait, of offers, of lost workers, and the ends of pauses.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{ANSWER_WITHIN, Id, Phase, Scheduler, Timer};
use crate::clock::Moment;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::report::JobEnd;

impl Scheduler {
    /// Handle everything that is due. The caller calls this at [`Self::wake_at`].
    pub(crate) fn on_timer(&mut self, now: Moment) {
        // Everything that is due comes before the offers, so that they follow the order of the queue.
        let mut keys = BTreeSet::new();
        while self.timers.first().is_some_and(|(due, _)| *due <= now.at)
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Dispatch(id) => keys.extend(self.on_timeout(now, &id)),
                Timer::Worker(id) => {
                    self.change_worker(&id, |worker| worker.paused_until = None);
                    keys.extend(self.workers.get(&id).map(|worker| worker.registered.dispatch_key.clone()));
                }
            }
        }
        for key in keys {
            self.offer_waiting(now, &key);
        }
    }

    /// The time at which [`Self::on_timer`] is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Handle the timeout of a dispatch. Returns the key whose waiting dispatches may be offered then.
    fn on_timeout(&mut self, now: Moment, id: &Id) -> Option<DispatchKey> {
        let open = self.open.get(id)?;
        match &open.phase {
            Phase::Waiting { paused_until: Some(until) } if *until <= now.at => {
                let (rank, key) = (open.dispatch.rank(), open.dispatch.dispatch_key.clone());
                self.set_phase(id, Phase::Waiting { paused_until: None });
                if let Some(queue) = self.agent_queues.get_mut(&key) {
                    queue.queue.resume(&rank);
                }
                return Some(key);
            }
            Phase::Waiting { .. } => {
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
        None
    }
}
