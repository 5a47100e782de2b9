//! Why a dispatch waits, and behind how many.

use std::collections::HashMap;

use serde::Serialize;

use super::{Entry, Id, Kind, Now, Pool, State};

/// What a dispatch waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Waiting {
    /// 1 is the next.
    pub(crate) position: usize,
    /// Of how many for the same agent.
    pub(crate) of: usize,
    pub(crate) why: String,
}

impl Pool {
    /// Of these dispatches, those that wait.
    pub(crate) fn waiting(&self, now: Now, wanted: &[String]) -> HashMap<String, Waiting> {
        let entries = wanted.iter().filter_map(|id| self.open.get(id.as_str()));
        let kinds: std::collections::HashSet<&Kind> = entries.map(|entry| &entry.dispatch.kind).collect();
        let mut positions: HashMap<&Id, (usize, usize)> = HashMap::new();
        for kind in kinds {
            let order = self.lanes.get(kind).map(|lane| lane.queue.in_order()).unwrap_or_default();
            let of = order.len();
            positions.extend(order.into_iter().enumerate().map(|(place, rank)| (&rank.dispatch, (place + 1, of))));
        }
        let waiting = |id: &String| {
            let entry = self.open.get(id.as_str())?;
            let (position, of) = match &entry.state {
                State::Waiting => positions.get(&entry.dispatch.id).copied()?,
                State::Offered { .. } => (0, 0),
                State::Running { .. } | State::Orphaned { .. } => return None,
            };
            Some((id.clone(), Waiting { position, of, why: self.why_waiting(now, entry) }))
        };
        wanted.iter().filter_map(waiting).collect()
    }

    /// Dispatches that wait, jobs that run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let waiting = self.waiting_of.values().sum();
        (waiting, self.open.len().saturating_sub(waiting))
    }

    pub(super) fn why_waiting(&self, now: Now, entry: &Entry) -> String {
        if let State::Offered { worker, .. } = &entry.state {
            return format!("worker {worker} is being asked");
        }
        let Kind { agent, deployment, .. } = &entry.dispatch.kind;
        let of = if deployment.is_empty() { String::new() } else { format!(", deployment `{deployment}`") };
        let ids = self.lanes.get(&entry.dispatch.kind).map(|lane| lane.workers.as_slice()).unwrap_or_default();
        let workers: Vec<_> = ids.iter().filter_map(|id| self.workers.get(id)).collect();
        let full = workers.iter().filter(|worker| worker.is_full()).count();
        let (all, askable) = (workers.len(), workers.iter().filter(|worker| worker.may_be_asked(now.at)).count());
        match (all, full) {
            (0, _) => format!("no worker of agent `{agent}`{of} is there"),
            (1, 1) => format!("the one worker of agent `{agent}`{of} is full"),
            (all, full) if all == full => format!("all {all} workers of agent `{agent}`{of} are full"),
            _ if entry.rounds > 0 || askable == 0 => {
                format!("workers of agent `{agent}`{of} refused it, {full} of {all} are full")
            }
            _ => format!("others of agent `{agent}`{of} are before it"),
        }
    }
}
