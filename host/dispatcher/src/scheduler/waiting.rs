//! Why a dispatch waits, and its position in the queue.

use std::collections::{HashMap, HashSet};

use super::{Id, OpenDispatch, Phase, Scheduler};
use crate::clock::Moment;
use wasm_worker_core::api::dispatcher::Waiting;
use wasm_worker_protocol::dispatcher_session::DispatchKey;

impl Scheduler {
    /// The position and the reason of each of these dispatches that waits, by its id.
    pub(crate) fn waiting(&self, now: Moment, dispatches: &[String]) -> HashMap<String, Waiting> {
        let open = dispatches.iter().filter_map(|id| self.open.get(id.as_str()));
        let keys: HashSet<&DispatchKey> = open.map(|open| &open.dispatch.dispatch_key).collect();
        let mut positions: HashMap<&Id, (usize, usize)> = HashMap::new();
        for key in keys {
            let order = self.agent_queues.get(key).map(|queue| queue.queue.in_order()).unwrap_or_default();
            let of = order.len();
            positions.extend(order.into_iter().enumerate().map(|(index, rank)| (&rank.dispatch, (index + 1, of))));
        }
        let waiting = |id: &String| {
            let open = self.open.get(id.as_str())?;
            let (position, of) = match &open.phase {
                Phase::Waiting { .. } => positions.get(&open.dispatch.id).copied()?,
                Phase::Offered { .. } => (0, 0),
                Phase::Assigned { .. } | Phase::Orphaned { .. } => return None,
            };
            Some((id.clone(), Waiting { position, of, why: self.wait_reason(now, open) }))
        };
        dispatches.iter().filter_map(waiting).collect()
    }

    /// The number of dispatches that wait, and of those that a worker has.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let waiting = self.waiting_of.values().sum();
        (waiting, self.open.len().saturating_sub(waiting))
    }

    pub(super) fn wait_reason(&self, now: Moment, open: &OpenDispatch) -> String {
        if let Phase::Offered { worker, .. } = &open.phase {
            return format!("worker {worker} has an offer");
        }
        let DispatchKey { agent, deployment, .. } = &open.dispatch.dispatch_key;
        let deployment = if deployment.is_empty() { String::new() } else { format!(", deployment `{deployment}`,") };
        let agent = format!("agent `{agent}`{deployment}");
        let queue = self.agent_queues.get(&open.dispatch.dispatch_key);
        let ids = queue.into_iter().flat_map(|queue| &queue.workers);
        let workers: Vec<_> = ids.filter_map(|id| self.workers.get(id)).collect();
        let full = workers.iter().filter(|worker| worker.is_full()).count();
        let (all, askable) = (workers.len(), workers.iter().filter(|worker| worker.may_be_asked(now.at)).count());
        match (all, full) {
            (0, _) => format!("no worker of {agent} is connected"),
            (1, 1) => format!("the only worker of {agent} is full"),
            (all, full) if all == full => format!("all {all} workers of {agent} are full"),
            _ if open.rounds.failures() > 0 || askable == 0 => {
                format!("the workers of {agent} refused the dispatch; {full} of {all} are full")
            }
            _ => format!("other dispatches to {agent} come first"),
        }
    }
}
