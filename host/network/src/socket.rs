//! WebSockets to servers.
//!
//! ```text
//! handshake  the request of a WebSocket, and the check of its answer
//! wire       frames both ways, on one connection
//! run        one socket from its handshake to its last event
//! ```

pub(crate) mod handshake;

pub(crate) mod wire;

pub(crate) mod run;
