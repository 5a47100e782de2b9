//! The requests to the coordinator, and why it refuses one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use livekit_protocol as proto;
use proto::server_message::Message as ServerMessage;
use tokio::sync::{mpsc, oneshot};

use crate::answers::AnswerTooLong;
use crate::room_host::{ROOMS_MAX as HOSTED_MAX, RoomHandle};
use crate::rooms::{ROOMS_MAX, Room, RoomRequest};
use crate::scheduler::{Dispatch, Id, SchedulerFull};
use wasm_worker_core::api::dispatcher::{PoolWorker, Waiting};
use wasm_worker_protocol::dispatcher_session::{DispatchKey, WorkerMessage, WorkerRegistration};
use wasm_worker_protocol::frame::JOB_BYTES_MAX;

/// A request for a dispatch. The coordinator adds id, room and time.
#[derive(Clone, Debug)]
pub(crate) struct DispatchRequest {
    /// The id, derived from the client's request id so that a repeated request is the same dispatch; `None` for a new id.
    pub(crate) id: Option<String>,
    pub(crate) api_key: String,
    pub(crate) agent: String,
    pub(crate) deployment: String,
    pub(crate) room: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The one worker that may have the job; `None` for every worker of the agent.
    pub(crate) only_worker: Option<Id>,
    pub(crate) restart: proto::JobRestartPolicy,
    pub(crate) priority: i32,
    pub(crate) deadline_ns: i64,
}

/// What a dispatch is for: a repeated request has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DispatchTarget {
    pub(crate) agent: String,
    pub(crate) deployment: String,
    pub(crate) room: String,
}

impl DispatchTarget {
    /// The target of a client's request.
    pub(crate) fn of_request(request: &proto::CreateAgentDispatchRequest) -> Self {
        let proto::CreateAgentDispatchRequest { agent_name, deployment, room, .. } = request;
        Self { agent: agent_name.clone(), deployment: deployment.clone(), room: room.clone() }
    }

    /// The target of an accepted dispatch.
    pub(crate) fn of_dispatch(dispatch: &Dispatch) -> Self {
        let DispatchKey { agent, deployment, .. } = &dispatch.dispatch_key;
        Self { agent: agent.clone(), deployment: deployment.clone(), room: dispatch.room.name.clone() }
    }
}

/// An accepted dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) dispatch: String,
    pub(crate) created_ns: i64,
}

/// The coordinator refused a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// The scheduler has no capacity for another dispatch.
    #[error("{0}")]
    Full(SchedulerFull),
    /// The bound of the rooms is reached.
    #[error("the maximum of {ROOMS_MAX} rooms, or of their metadata, is reached")]
    TooManyRooms,
    /// The bound of the rooms with participants is reached.
    #[error("the maximum of {HOSTED_MAX} rooms with participants is reached")]
    TooManyHosted,
    /// Open dispatches fill the store up to its bound.
    #[error("the store has reached `store-limit` with open dispatches")]
    StoreFull,
    /// The request id is that of a dispatch to another agent or room.
    #[error("the request id is that of a dispatch to another agent or room; a new request needs a new id")]
    OtherRequest,
    /// The answer would be too long.
    #[error(transparent)]
    AnswerTooLong(#[from] AnswerTooLong),
    /// The store cannot write.
    #[error("the store cannot write: {0}")]
    StoreStuck(Arc<str>),
    /// Too many changes wait for the store.
    #[error("too many changes wait for the store")]
    StoreBusy,
    /// The job of the dispatch would not fit into a frame.
    #[error(
        "the dispatch and its room have {0} bytes of metadata, attributes and names; a job has at most {JOB_BYTES_MAX}"
    )]
    TooLong(usize),
}

/// A request of a caller to the coordinator.
pub(crate) enum Command {
    /// Create a dispatch.
    Create { request: Box<DispatchRequest>, reply: oneshot::Sender<Result<Created, CommandError>> },
    /// Cancel a dispatch, and remove it from the lists of LiveKit's API.
    Delete { dispatch: String, reply: oneshot::Sender<Result<(), CommandError>> },
    /// Cancel a dispatch. The reply is whether it was open.
    Cancel { dispatch: String, reply: oneshot::Sender<Result<bool, CommandError>> },
    /// Get the positions and reasons of waiting dispatches.
    Waiting { dispatches: Vec<String>, reply: oneshot::Sender<HashMap<String, Waiting>> },
    /// Get the connected workers.
    Workers { reply: oneshot::Sender<Vec<PoolWorker>> },
    /// Get the number of dispatches that wait, and of those that a worker has.
    Counts { reply: oneshot::Sender<(usize, usize)> },
    /// Get rooms by name; all rooms for no names.
    Rooms { names: Vec<String>, reply: oneshot::Sender<Result<Vec<proto::Room>, CommandError>> },
    /// Serve a room for somebody who joins it. Where there is none, create it so, with its first dispatches.
    EnterRoom {
        room: Box<RoomRequest>,
        requests: Vec<DispatchRequest>,
        api_key: String,
        reply: oneshot::Sender<Result<RoomHandle, CommandError>>,
    },
    /// Get a room that is served.
    HostedRoom { name: String, reply: oneshot::Sender<Option<RoomHandle>> },
    /// Create a room with its first dispatches, or change the room where there is one.
    CreateRoom {
        room: Box<RoomRequest>,
        requests: Vec<DispatchRequest>,
        api_key: String,
        reply: oneshot::Sender<Result<Room, CommandError>>,
    },
    /// Set the metadata of a room.
    SetMetadata { room: String, metadata: String, reply: oneshot::Sender<Result<Option<Room>, CommandError>> },
    /// Delete a room and cancel its dispatches. The reply is whether the room existed.
    DeleteRoom { name: String, reply: oneshot::Sender<Result<bool, CommandError>> },
    /// Store what is left, and end.
    Stop,
}

/// A request of a worker's connection to the coordinator.
pub(crate) enum WorkerCommand {
    /// Register a worker. The reply is its id.
    Register {
        registration: Box<WorkerRegistration>,
        api_key: String,
        outbound: mpsc::Sender<ServerMessage>,
        reply: oneshot::Sender<Id>,
    },
    /// Handle a message of a worker.
    Message { worker: Id, message: WorkerMessage },
    /// End the dispatch of a job whose message to a worker is too long for a frame.
    Undeliverable { worker: Id, job: String, bytes: usize },
    /// Answer a ping once everything before it is durable.
    Ping { timestamp: i64, outbound: mpsc::Sender<ServerMessage> },
    /// Create a job that a worker asked for.
    Simulate { worker: Id, job: Box<proto::SimulateJobRequest> },
    /// Remove a worker whose connection ended.
    WorkerLeft { worker: Id, why: String },
    /// Remove the workers of a process that ended.
    ProcessDied { instance: String },
    /// Stop jobs that a worker still runs although their dispatches have ended: the answer to a look-up.
    StopJobs { worker: Id, jobs: Vec<String> },
}
