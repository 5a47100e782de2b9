//! The real binary, as a user runs it: one file for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]

mod bad_components;
mod bad_input;
mod bench;
mod cache;
mod dispatcher;
mod dispatching;
mod documentation;
mod drains;
mod events;
mod examples;
mod faults;
mod fuzz;
mod harness;
mod host_faults;
mod hostile;
mod interop;
mod interrupt;
mod isolation;
mod kills;
mod limits;
mod livekit;
mod neighbours;
mod new_crate;
mod operate;
mod pool;
mod prewarm;
mod scripted_server;
mod session;
mod sinks;
mod tidy;
