//! Publishes events and wakes waiting requests once a change is durable.

use tokio::time::Instant;

use super::{Coordinator, Deferred, RECENT_ENDS_MAX};
use crate::command::DispatchTarget;
use crate::scheduler::{Dispatch, Notification};
use wasm_worker_core::event::DispatcherEvent;

impl Coordinator {
    pub(super) fn notify(&mut self, notification: Notification) {
        let changed = match &notification {
            Notification::Assigned { dispatch, .. } | Notification::Retried { dispatch, .. } => {
                Some(dispatch.id.clone())
            }
            Notification::Started { dispatch } => Some(dispatch.clone()),
            Notification::Ended { dispatch, .. } => {
                self.rooms.dispatch_ended(Instant::now(), &dispatch.room);
                self.remember_end(dispatch);
                Some(dispatch.id.clone())
            }
            Notification::Created { .. } | Notification::WorkerJoined { .. } | Notification::WorkerLeft { .. } => None,
        };
        if let Some(event) = event_of(notification) {
            self.defer(Deferred::Event(Box::new(event)));
        }
        if let Some(dispatch) = changed {
            self.defer(Deferred::Changed(dispatch));
        }
    }

    fn remember_end(&mut self, dispatch: &Dispatch) {
        if self.recent_ends_in_order.len() == RECENT_ENDS_MAX
            && let Some(oldest) = self.recent_ends_in_order.pop_front()
        {
            self.recent_ends.remove(&oldest);
        }
        self.recent_ends.insert(dispatch.id.clone(), DispatchTarget::of_dispatch(dispatch));
        self.recent_ends_in_order.push_back(dispatch.id.clone());
    }
}

fn event_of(notification: Notification) -> Option<DispatcherEvent> {
    Some(match notification {
        Notification::Created { dispatch, job } => DispatcherEvent::Created {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.dispatch_key.agent.clone(),
            room: dispatch.room.name.clone(),
        },
        Notification::Assigned { dispatch, job, worker, attempt, waited } => DispatcherEvent::Assigned {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.dispatch_key.agent.clone(),
            worker: worker.to_string(),
            attempt,
            waited_us: u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
        },
        Notification::Retried { dispatch, job, attempt, why } => DispatcherEvent::Again {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.dispatch_key.agent.clone(),
            attempt,
            why,
        },
        // The worker publishes the start itself.
        Notification::Started { .. } => return None,
        Notification::Ended { dispatch, job, attempts, end } => DispatcherEvent::Ended {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.dispatch_key.agent.clone(),
            room: dispatch.room.name.clone(),
            verdict: Box::new(end.verdict),
            attempts,
        },
        Notification::WorkerJoined { worker, dispatch_key, version } => {
            DispatcherEvent::WorkerJoined { worker: worker.to_string(), agent: dispatch_key.agent, version }
        }
        Notification::WorkerLeft { worker, dispatch_key, why, jobs } => {
            DispatcherEvent::WorkerLeft { worker: worker.to_string(), agent: dispatch_key.agent, why, jobs }
        }
    })
}
