//! The worker's side of LiveKit's agent protocol: `session` decides, `link` has the socket, `worker.rs` has the jobs.
//!
//! Not here: rooms. A job gets its agent's inbox and its own end; what is said in the room needs a connection of its own.

pub(crate) mod link;
pub(crate) mod reconnect;
pub(crate) mod report;
pub(crate) mod session;
pub(crate) mod wire;
