//! LiveKit's agent protocol, both sides, without I/O: no socket, no clock, no agent. `now` is an argument.
//!
//! ```text
//! frame               the sizes of frames and of the jobs that they carry
//! registration        the registration of a worker with a server
//! wire                conversion between LiveKit's messages and plain data
//! report              the report of a job's state, with the verdict for servers that read it
//! status              the status of a full worker, with the scarce resource for servers that read it
//! reconnect           the pauses before a worker connects again
//! worker_session      the worker's side of a connection
//! dispatcher_session  the dispatcher's side of a connection
//! ```
//!
//! Invariant: imports point up this list.

pub mod frame;
pub mod registration;
pub mod wire;

pub mod report;
pub mod status;

pub mod reconnect;
pub mod worker_session;

pub mod dispatcher_session;
