//! The agents that have series of their own in the metrics of a dispatcher.
//!
//! Any caller can dispatch to any name, and a series lasts as long as the process. So an agent has series of its own once a worker
//! has registered it, and all other names share the series [`OTHER`].
//!
//! Bounds: [`AGENTS_MAX`] agents.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most agents with series of their own.
const AGENTS_MAX: usize = 1_000;
/// The label of all other agents.
pub(super) const OTHER: &str = "(other)";

/// The names of the agents with series of their own.
#[derive(Default)]
pub(super) struct ServedAgents(Mutex<HashSet<String>>);

impl ServedAgents {
    /// Add an agent that a worker registered.
    pub(super) fn add(&self, agent: &str) {
        let mut names = self.names();
        if names.len() < AGENTS_MAX && !names.contains(agent) {
            names.insert(agent.to_owned());
        }
    }

    /// The label of an agent.
    pub(super) fn label(&self, agent: &str) -> String {
        if self.names().contains(agent) { agent.to_owned() } else { OTHER.to_owned() }
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_without_a_worker_share_one_series() {
        let served = ServedAgents::default();
        assert_eq!(served.label("a"), OTHER);
        served.add("a");
        assert_eq!((served.label("a").as_str(), served.label("b").as_str()), ("a", OTHER));
        (0..AGENTS_MAX).for_each(|number| served.add(&number.to_string()));
        assert_eq!(served.label(&(AGENTS_MAX - 1).to_string()), OTHER, "the names are bounded");
    }
}
