//! The creation of dispatches, with their rooms.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol as proto;

use super::Coordinator;
use crate::clock::Moment;
use crate::command::{CommandError, Created, DispatchRequest, DispatchTarget};
use crate::limits::is_name;
use crate::rooms::Room;
use crate::scheduler::{Dispatch, Id, SchedulerFull};
use crate::store::StoreOp;
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::frame::JOB_BYTES_MAX;

/// The room of a simulated job that names none.
const SIMULATED_ROOM: &str = "simulated";
/// The time that a simulated job waits for its worker.
const SIMULATION_WITHIN: Duration = Duration::from_secs(10);

impl Coordinator {
    /// Create a dispatch, and its room where there is none. The store needs the returned operations before those of the scheduler.
    pub(super) fn create_dispatch(
        &mut self,
        request: DispatchRequest,
    ) -> Result<(Created, Vec<StoreOp>), CommandError> {
        let now = Moment::now();
        if let Some(id) = &request.id
            && let Some(target) = self.target_of(id)
        {
            let same = DispatchTarget { agent: request.agent, deployment: request.deployment, room: request.room };
            if target != same {
                return Err(CommandError::OtherRequest);
            }
            return Ok((Created { dispatch: id.clone(), created_ns: now.wall_ns }, Vec::new()));
        }
        self.check_store()?;
        let mut ops = Vec::new();
        let new_room = self.rooms.get(&request.room).is_none();
        if new_room {
            let room = self.default_room(&request.room, now);
            self.add_room(now, room, &mut ops)?;
        }
        let room = self.rooms.get(&request.room).map(Room::to_proto).unwrap_or_default();
        let id: Id = request.id.map_or_else(|| self.scheduler.new_id("AD_"), Id::from);
        let api_key: Id = request.api_key.as_str().into();
        let job_type = proto::JobType::JtRoom as i32;
        let dispatch = Dispatch {
            id: id.clone(),
            api_key: api_key.clone(),
            dispatch_key: DispatchKey { agent: request.agent, job_type, deployment: request.deployment },
            room,
            metadata: request.metadata,
            attributes: request.attributes,
            restart: request.restart,
            priority: request.priority,
            created_ns: now.wall_ns,
            deadline_ns: request.deadline_ns,
        };
        let scheduled = match dispatch.bytes() {
            bytes if bytes > JOB_BYTES_MAX => Err(CommandError::TooLong(bytes)),
            _ => self.schedule(now, dispatch, request.only_worker).map_err(CommandError::Full),
        };
        if let Err(error) = scheduled {
            if new_room {
                self.rooms.remove(&request.room);
            }
            return Err(error);
        }
        if new_room {
            self.dispatch_to_unnamed_workers(now, &request.room, &api_key);
        }
        Ok((Created { dispatch: id.to_string(), created_ns: now.wall_ns }, ops))
    }

    /// Give a dispatch to the scheduler. Its room stays while the dispatch is open.
    pub(super) fn schedule(
        &mut self,
        now: Moment,
        dispatch: Dispatch,
        only_worker: Option<Id>,
    ) -> Result<(), SchedulerFull> {
        let room = dispatch.room.clone();
        self.rooms.dispatch_opened(&room);
        let created = match only_worker {
            Some(worker) => self.scheduler.create_for(now, dispatch, worker),
            None => self.scheduler.create(now, dispatch),
        };
        created.map(drop).inspect_err(|_| self.rooms.dispatch_ended(now.at, &room))
    }

    /// Cancel a dispatch, and remove it from the lists of LiveKit's API.
    pub(super) fn delete_dispatch(&mut self, dispatch: String) -> Result<(), CommandError> {
        self.check_writable()?;
        let now = Moment::now();
        self.scheduler.cancel(now, &dispatch, "the dispatch was deleted");
        self.flush(vec![StoreOp::Deleted { dispatch: dispatch.into(), at_ns: now.wall_ns }]);
        Ok(())
    }

    /// Cancel a dispatch. Returns whether it was open.
    pub(super) fn cancel_dispatch(&mut self, dispatch: &str) -> Result<bool, CommandError> {
        self.check_writable()?;
        let open = self.scheduler.cancel(Moment::now(), dispatch, "the dispatch was cancelled");
        self.flush(Vec::new());
        Ok(open)
    }

    /// Whether the store accepts something new.
    pub(super) fn check_store(&self) -> Result<(), CommandError> {
        self.check_writable()?;
        if self.written.full { Err(CommandError::StoreFull) } else { Ok(()) }
    }

    /// Whether the store accepts a change.
    pub(super) fn check_writable(&self) -> Result<(), CommandError> {
        match &self.written.stuck {
            Some(why) => Err(CommandError::StoreStuck(why.clone())),
            None if self.store.is_overloaded() => Err(CommandError::StoreBusy),
            None => Ok(()),
        }
    }

    /// The target of a dispatch that is open, or that ended a moment ago.
    fn target_of(&self, id: &str) -> Option<DispatchTarget> {
        let open = self.scheduler.dispatch(id).map(DispatchTarget::of_dispatch);
        open.or_else(|| self.recent_ends.get(id).cloned())
    }

    /// Create a job for the worker that asked for it, in the room that the worker names. A worker has one such job at a time, and
    /// the rate of its API key counts it.
    pub(super) fn simulate(&mut self, worker: &Id, job: proto::SimulateJobRequest) {
        let Some(connection) = self.connections.get(worker) else { return };
        if self.scheduler.is_simulating(worker) || !self.rates.allows(&connection.api_key) {
            return tracing::debug!(target: "dispatcher", %worker, "a simulated job is refused: one at a time, within the rate");
        }
        let key = connection.registration.dispatch_key.clone();
        let room = job.room.map(|room| room.name).filter(|name| is_name(name));
        let request = DispatchRequest {
            id: None,
            api_key: connection.api_key.clone(),
            agent: key.agent,
            deployment: key.deployment,
            room: room.unwrap_or_else(|| SIMULATED_ROOM.into()),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            only_worker: Some(worker.clone()),
            restart: proto::JobRestartPolicy::JrpNever,
            priority: 0,
            deadline_ns: Moment::now().wall_ns_after(SIMULATION_WITHIN),
        };
        match self.create_dispatch(request) {
            Ok((_, ops)) => self.flush(ops),
            Err(error) => tracing::debug!(target: "dispatcher", %worker, %error, "cannot create a simulated job"),
        }
    }
}
