//! The connections of workers: registration and messages.

use livekit_protocol as proto;
use proto::server_message::Message as ServerMessage;
use tokio::sync::{mpsc, oneshot};

use super::{Coordinator, WorkerConnection};
use crate::clock::Moment;
use crate::limits::PROTOCOL;
use crate::scheduler::{Id, RegisteredWorker, ToWorker};
use wasm_worker_protocol::dispatcher_session::WorkerRegistration;
use wasm_worker_protocol::worker_session::EMBEDDED_NODE_ID;

/// The version of LiveKit's agent protocol.
const AGENT_PROTOCOL: i32 = 1;

impl Coordinator {
    pub(super) fn register(
        &mut self,
        registration: WorkerRegistration,
        api_key: String,
        outbound: mpsc::Sender<ServerMessage>,
        reply: oneshot::Sender<Id>,
    ) {
        let now = Moment::now();
        let registered = RegisteredWorker {
            dispatch_key: registration.dispatch_key.clone(),
            api_key: api_key.as_str().into(),
            instance: registration.instance.clone(),
            version: registration.version.clone(),
        };
        let worker = self.scheduler.register(now, registered);
        let response = proto::RegisterWorkerResponse {
            worker_id: worker.to_string(),
            server_info: Some(server_info()),
            ..Default::default()
        };
        // The queue is new, so the response is its first message, before any offer.
        drop(outbound.try_send(ServerMessage::Register(response)));
        self.connections.insert(worker.clone(), WorkerConnection { outbound, registration, api_key });
        drop(reply.send(worker.clone()));
        self.scheduler.registration_confirmed(now, &worker);
        self.flush(Vec::new());
    }

    /// Put a message into the outbound queue of a worker. A worker whose queue is full is disconnected.
    pub(super) fn send(&mut self, worker: &Id, message: ToWorker) {
        let Some(connection) = self.connections.get(worker) else { return };
        let WorkerConnection { outbound, registration, api_key } = connection;
        let message = match message {
            ToWorker::Offer { job, resuming } => {
                ServerMessage::Availability(proto::AvailabilityRequest { job: Some(*job), resuming })
            }
            ToWorker::Assign { job, answer } => match self.keys.job_token(api_key, registration, &job, &answer) {
                Ok(token) => ServerMessage::Assignment(proto::JobAssignment { job: Some(*job), url: None, token }),
                Err(error) => {
                    tracing::error!(target: "dispatcher", job = job.id, error, "cannot create a token for the job");
                    return;
                }
            },
            ToWorker::Terminate { job } => {
                ServerMessage::Termination(proto::JobTermination { job_id: job.to_string() })
            }
        };
        // The connection ends once its sender is dropped.
        if outbound.try_send(message).is_err() {
            self.connections.remove(worker);
        }
    }
}

/// How the dispatcher introduces itself to workers.
fn server_info() -> proto::ServerInfo {
    proto::ServerInfo {
        version: format!("wasm-worker {}", env!("CARGO_PKG_VERSION")),
        protocol: PROTOCOL,
        agent_protocol: AGENT_PROTOCOL,
        node_id: EMBEDDED_NODE_ID.into(),
        ..Default::default()
    }
}
