//! What is asked of the owner, and why it may not be done.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use livekit_protocol as proto;
use proto::server_message::Message as ToWorker;
use tokio::sync::{mpsc, oneshot};

use super::pool::{Full, Id, Said, Waiting, WorkerView};
use super::rooms::{ROOMS_MAX, Room};
use wasm_worker_protocol::dispatcher_session::Introduction;

/// What somebody wants run; the rest the dispatcher adds.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// By the caller's request, so that the same request makes the same dispatch.
    pub(crate) id: Option<String>,
    pub(crate) key: String,
    pub(crate) agent: String,
    pub(crate) deployment: String,
    pub(crate) room: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) restart: proto::JobRestartPolicy,
    pub(crate) priority: i32,
    pub(crate) deadline_ns: i64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) dispatch: String,
    pub(crate) created_ns: i64,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full(Full),
    Rooms,
    /// The store is as large as it may be, with what is not over.
    StoreFull,
    Stuck(Arc<str>),
}

/// What is asked of the owner.
pub(crate) enum Order {
    Create {
        wanted: Box<Wanted>,
        reply: oneshot::Sender<Result<Created, Refusal>>,
    },
    /// Stop a dispatch, and have it listed no more.
    Delete {
        dispatch: String,
        reply: oneshot::Sender<()>,
    },
    /// Stop it. Whether it was there and not over.
    Cancel {
        dispatch: String,
        reply: oneshot::Sender<bool>,
    },
    Waiting {
        dispatches: Vec<String>,
        reply: oneshot::Sender<HashMap<String, Waiting>>,
    },
    Workers {
        reply: oneshot::Sender<Vec<WorkerView>>,
    },
    /// Dispatches that wait, and those that a worker has.
    Counts {
        reply: oneshot::Sender<(usize, usize)>,
    },
    Rooms {
        names: Vec<String>,
        reply: oneshot::Sender<Vec<Room>>,
    },
    /// A room, as it is there already or is made like this; and the dispatches that it begins with.
    CreateRoom {
        room: Box<Room>,
        agents: Vec<Wanted>,
        key: String,
        reply: oneshot::Sender<Result<Room, Refusal>>,
    },
    SetMetadata {
        room: String,
        metadata: String,
        reply: oneshot::Sender<Result<Option<Room>, Refusal>>,
    },
    /// Whether it was there.
    DeleteRoom {
        name: String,
        reply: oneshot::Sender<bool>,
    },
    Register {
        introduction: Box<Introduction>,
        key: String,
        mailbox: mpsc::Sender<ToWorker>,
        reply: oneshot::Sender<Id>,
    },
    Said {
        worker: Id,
        said: Said,
    },
    Ping {
        timestamp: i64,
        mailbox: mpsc::Sender<ToWorker>,
    },
    Simulate {
        worker: Id,
        job: Box<proto::SimulateJobRequest>,
    },
    Gone {
        worker: Id,
        why: String,
    },
    /// A worker process is known to be no more.
    Died {
        instance: String,
    },
    /// Jobs that a worker still has, though they are over.
    Strays {
        worker: Id,
        jobs: Vec<String>,
    },
    Stop,
}

impl Refusal {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Full(Full::Queue(waiting)) => format!("the queue is full: {waiting} dispatches of this key wait"),
            Self::Full(Full::Memory(bytes)) => {
                format!("dispatches that are not over hold {bytes} bytes, and there is room for no more")
            }
            Self::Rooms => format!("there are {ROOMS_MAX} rooms already, or too much metadata of rooms"),
            Self::StoreFull => "the store is as large as it may be (`store-limit`), with what is not over".into(),
            Self::Stuck(why) => format!("the store takes nothing: {why}"),
        }
    }
}
