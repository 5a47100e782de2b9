//! The open dispatches by room, by worker and by lost process, so that no event looks at all dispatches.

use super::{Id, OpenDispatch, Phase, Scheduler};

/// A property that several open dispatches share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// The dispatches belong to the room with this name.
    Room(String),
    /// The worker with this id has the jobs, or offers of them.
    Worker(Id),
    /// The jobs wait for the process with this instance id to return.
    Process(String),
}

impl Scheduler {
    /// The open dispatches of a room.
    pub(crate) fn in_room(&self, room: &str) -> Vec<Id> {
        self.in_group(&Group::Room(room.to_owned()))
    }

    /// The open dispatches of a group, by id.
    pub(super) fn in_group(&self, group: &Group) -> Vec<Id> {
        let from = self.groups.range((group.clone(), Id::from(""))..);
        from.take_while(|(other, _)| other == group).map(|(_, id)| id.clone()).collect()
    }
}

impl OpenDispatch {
    /// The group of the dispatch's room.
    pub(super) fn room(&self) -> Group {
        Group::Room(self.dispatch.room.name.clone())
    }

    /// The worker that has the job or an offer of it, or the process that is waited for.
    pub(super) fn holder(&self) -> Option<Group> {
        match &self.phase {
            Phase::Offered { worker, .. } | Phase::Assigned { worker, .. } => Some(Group::Worker(worker.clone())),
            Phase::Orphaned { instance, .. } => Some(Group::Process(instance.clone())),
            Phase::Waiting { .. } => None,
        }
    }
}
