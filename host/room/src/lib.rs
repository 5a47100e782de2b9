//! One LiveKit room, joined by the host for an agent: people, texts, files, data and calls. No libwebrtc.
//!
//! # Architecture
//!
//! ```text
//! data        settings, commands and events, one to one with the room of the contract
//! moderation  requests to the server's API about others in the room
//! wire        conversion between LiveKit's messages (crate `livekit_protocol`) and plain data
//! signal      joining, staying and leaving: the state machine of the signalling
//! peer        the peer connection: ICE, DTLS and two data channels, by `str0m`
//! streams     texts, files, data packets and remote procedure calls
//! session     one room, whole but for its sockets
//! io          the sockets, and the handle of a room
//! ```
//!
//! Invariant: imports point up this list.
//! Invariant: everything but `io` is pure: no socket, no clock, no task. `now` is an argument.

pub mod data;

pub mod moderation;

pub(crate) mod wire;

pub(crate) mod signal;

pub(crate) mod peer;

pub(crate) mod streams;

pub(crate) mod session;

pub mod io;
