//! Why a dispatch waits, and its position in the queue.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Id, OpenDispatch, Phase, Scheduler};
use crate::clock::Moment;
use wasm_worker_core::api::dispatcher::Waiting;
use wasm_worker_protocol::dispatcher_session::DispatchKey;

/// Most dispatches of one question whose reasons list the agents that are connected.
const NAMED_FOR_MAX: usize = 10;
/// Most names of agents in a reason.
const NAMES_MAX: usize = 10;
/// Most names that are compared with that of an unknown agent.
const COMPARED_MAX: usize = 1_000;
/// The similarity from which a name may be the one that was meant, 0 to 1.
const SIMILAR: f64 = 0.8;

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
            let mut why = self.wait_reason(now, open);
            if dispatches.len() <= NAMED_FOR_MAX && !self.has_worker(&open.dispatch.dispatch_key) {
                why.push_str(&self.other_agents(&open.dispatch.dispatch_key.agent));
            }
            Some((id.clone(), Waiting { position, of, why }))
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
            (all, full) if all == full => {
                let longest = workers.iter().min_by_key(|worker| worker.full_since_ns);
                let why = longest.map(|worker| worker.full_reason()).unwrap_or_default();
                match all {
                    1 => format!("the only worker of {agent} is full: {why}"),
                    all => format!("all {all} workers of {agent} are full, the first one: {why}"),
                }
            }
            _ if open.rounds.failures() > 0 || askable == 0 => {
                format!("the workers of {agent} refused the dispatch; {full} of {all} are full")
            }
            _ => format!("other dispatches to {agent} come first"),
        }
    }

    /// The names of the connected agents, for a dispatch to an agent that is not connected.
    fn other_agents(&self, unknown: &str) -> String {
        let names = self.workers.values().map(|worker| worker.registered.dispatch_key.agent.as_str());
        let names: BTreeSet<&str> = names.filter(|name| !name.is_empty() && *name != unknown).collect();
        if names.is_empty() {
            return String::new();
        }
        let similar = names.iter().take(COMPARED_MAX).map(|name| (strsim::jaro_winkler(unknown, name), *name));
        let best = similar.max_by(|one, other| one.0.total_cmp(&other.0));
        let meant =
            best.filter(|(similar, _)| *similar >= SIMILAR).map(|(_, name)| format!("; did you mean `{name}`?"));
        let listed: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
        let more = names.len().saturating_sub(NAMES_MAX);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!(" (connected: {}{more}){}", listed.join(", "), meant.unwrap_or_default())
    }
}
