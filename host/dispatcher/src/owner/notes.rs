//! What those who look on hear, and those who wait for news of one dispatch: nothing that is not written yet.

use tokio::time::Instant;

use super::{Deferred, ENDED_MAX, Owner};
use crate::pool::{Id, Note};
use wasm_worker_core::event::DispatcherEvent;

impl Owner {
    pub(super) fn note(&mut self, note: Note) {
        let changed = match &note {
            Note::Assigned { dispatch, .. } | Note::Again { dispatch, .. } => Some(dispatch.id.clone()),
            Note::Runs { dispatch } => Some(dispatch.clone()),
            Note::Ended { dispatch, .. } => {
                self.rooms.closed(Instant::now(), &dispatch.room);
                self.remember_ended(&dispatch.id);
                Some(dispatch.id.clone())
            }
            Note::Created { .. } | Note::WorkerCame { .. } | Note::WorkerGone { .. } => None,
        };
        if let Some(event) = event_of(note) {
            self.once_written(Deferred::Event(Box::new(event)));
        }
        if let Some(dispatch) = changed {
            self.once_written(Deferred::Changed(dispatch));
        }
    }

    fn remember_ended(&mut self, dispatch: &Id) {
        if self.ended_in_order.len() == ENDED_MAX
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended.insert(dispatch.clone());
        self.ended_in_order.push_back(dispatch.clone());
    }
}

fn event_of(note: Note) -> Option<DispatcherEvent> {
    Some(match note {
        Note::Created { dispatch, job } => DispatcherEvent::Created {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.kind.agent.clone(),
            room: dispatch.room.name.clone(),
        },
        Note::Assigned { dispatch, job, worker, attempt, waited_ns } => DispatcherEvent::Assigned {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.kind.agent.clone(),
            worker: worker.to_string(),
            attempt,
            waited_us: u64::try_from(waited_ns / 1_000).unwrap_or(0),
        },
        Note::Again { dispatch, job, attempt, why } => DispatcherEvent::Again {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.kind.agent.clone(),
            attempt,
            why,
        },
        // Its worker publishes that itself.
        Note::Runs { .. } => return None,
        Note::Ended { dispatch, job, attempts, end } => DispatcherEvent::Ended {
            dispatch: dispatch.id.to_string(),
            job: job.to_string(),
            agent: dispatch.kind.agent.clone(),
            room: dispatch.room.name.clone(),
            verdict: Box::new(end.verdict),
            attempts,
        },
        Note::WorkerCame { worker, kind, version } => {
            DispatcherEvent::WorkerJoined { worker: worker.to_string(), agent: kind.agent, version }
        }
        Note::WorkerGone { worker, kind, why, jobs } => {
            DispatcherEvent::WorkerLeft { worker: worker.to_string(), agent: kind.agent, why, jobs }
        }
    })
}
