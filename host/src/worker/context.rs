//! The parts of a process that its agents share.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasm_worker_core::observer::Events;
use wasm_worker_room::io::Rooms;

use super::admission::AdmissionControl;
use super::status::WorkerStatus;
use crate::grants::AgentNetworks;

/// The parts of a process that its agents share.
#[derive(Clone)]
pub(crate) struct WorkerContext {
    pub(crate) events: Arc<Events>,
    pub(crate) admission: Arc<AdmissionControl>,
    pub(crate) status: Arc<WorkerStatus>,
    /// The runtime for everything but guests.
    pub(crate) control: Handle,
    /// The runtime of the guests, and of the tasks that wait for one of them only.
    pub(crate) guests: Handle,
    /// Opens the rooms of jobs.
    pub(crate) rooms: Arc<Rooms>,
    /// The networks of the agents.
    pub(crate) networks: Arc<AgentNetworks>,
}
