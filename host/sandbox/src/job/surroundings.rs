//! What surrounds a job that is launched.

use std::sync::Arc;

use wasm_worker_core::network::connection::NetworkOpener;
use wasm_worker_core::room::connection::RoomToJoin;

/// What a job may reach.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The room to join. Without one, what the agent sends is only recorded.
    pub room: Option<RoomToJoin>,
    /// The network of the agent. Without one its requests fail as `not-allowed`.
    pub network: Option<Arc<dyn NetworkOpener>>,
}
