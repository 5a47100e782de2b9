//! One LiveKit room, joined by the host for an agent: people, texts, files, data and calls. No libwebrtc.
//!
//! # Architecture
//!
//! ```text
//! data     settings, commands and events, one to one with the room of the contract
//! wire     conversion between LiveKit's messages (crate `livekit_protocol`) and plain data
//! streams  texts, files, data packets and remote procedure calls; pure
//! ```
//!
//! Invariant: imports point up this list.
//! Invariant: everything but `io` is pure: no socket, no clock, no task. `now` is an argument.

pub mod data;

pub(crate) mod wire;
