//! The open dispatches that a starting dispatcher takes over from the store.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Dispatch, FormerAttempt, Id, OpenDispatch, Phase, ROUND_PAUSES, Scheduler};
use crate::clock::Moment;

/// A dispatch that was open when the last dispatcher ended.
#[derive(Clone, Debug)]
pub(crate) struct RecoveredDispatch {
    pub(crate) dispatch: Dispatch,
    /// The job of the current attempt.
    pub(crate) job: Id,
    pub(crate) attempt: u32,
    /// The jobs of former attempts.
    pub(crate) former: Vec<Id>,
    pub(crate) cancelled: bool,
    /// The process that has the current attempt; `None` while it is not assigned.
    pub(crate) instance: Option<String>,
}

/// The prefix of the instance id of a worker inside the dispatcher's process. Such a worker ends with the dispatcher.
pub const EMBEDDED_PREFIX: &str = "embedded-";

impl Scheduler {
    /// Take dispatches over: those without a worker wait for one, the others wait for their worker to return.
    pub(crate) fn recover(&mut self, now: Moment, recovered: Vec<RecoveredDispatch>) {
        for RecoveredDispatch { dispatch, job, attempt, former, cancelled, instance } in recovered {
            let id = dispatch.id.clone();
            let until = now.at + self.bounds.lost_after;
            // After an attempt the wait for the next one begins now.
            let assigned_before = attempt > 1 || instance.is_some();
            let patience = if assigned_before { dispatch.patience() } else { dispatch.patience_left(now) };
            self.insert(OpenDispatch {
                // The monotonic clock may have begun later.
                since: now.at.checked_sub(dispatch.age(now)).unwrap_or(now.at),
                waits_until: now.at + patience,
                dispatch: Arc::new(dispatch),
                job,
                attempt,
                only_worker: None,
                former: former.into_iter().map(|job| FormerAttempt { job, stopped: false }).collect(),
                phase: Phase::Waiting { paused_until: None },
                cancelled,
                rounds: ROUND_PAUSES,
                refused_by: HashSet::new(),
                timer: None,
            });
            let Some(instance) = instance else {
                self.enqueue(&id);
                continue;
            };
            let died = instance.starts_with(EMBEDDED_PREFIX);
            self.set_phase(&id, Phase::Orphaned { instance, until });
            if died {
                self.attempt_lost(now, &id, "the worker ran in the dispatcher's process, which ended".into());
            }
        }
    }
}
