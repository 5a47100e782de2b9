//! What a dispatcher that starts takes over from the one before it.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Dispatch, Entry, Former, Id, Now, Pool, State};

/// A dispatch that was not over.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) dispatch: Dispatch,
    pub(crate) job: Id,
    pub(crate) attempt: u32,
    pub(crate) former: Vec<Id>,
    pub(crate) cancelled: bool,
    /// The process that its present attempt was assigned to.
    pub(crate) instance: Option<String>,
}

/// Workers inside of the dispatcher's process: they went with it.
pub const EMBEDDED: &str = "embedded-";

impl Pool {
    /// Take all of them over: those that waited wait, those that ran wait for their workers.
    pub(crate) fn recover(&mut self, now: Now, all: Vec<Open>) {
        for Open { dispatch, job, attempt, former, cancelled, instance } in all {
            let id = dispatch.id.clone();
            let until = now.at + self.bounds.lost_after;
            // One that ran waits for its next attempt from now on.
            let ran = attempt > 1 || instance.is_some();
            let waits_until_ns = if ran { dispatch.waits_until_ns(now) } else { dispatch.deadline_ns };
            let entry = Entry {
                waits_until_ns,
                dispatch: Arc::new(dispatch),
                job,
                attempt,
                former: former.into_iter().map(|job| Former { job, stopped: false }).collect(),
                state: State::Waiting,
                cancelled,
                rounds: 0,
                refused_by: HashSet::new(),
                timer: None,
            };
            self.enter(entry);
            let Some(instance) = instance else {
                self.enqueue(now, &id);
                continue;
            };
            let died = instance.starts_with(EMBEDDED);
            self.change(now, &id, State::Orphaned { instance, until });
            if died {
                self.lost(now, &id, "its worker was in the dispatcher's process, which died".into());
            }
        }
    }
}
