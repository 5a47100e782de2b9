//! One LiveKit room, joined by the host for an agent: people, texts, files, data, calls and sound. No libwebrtc.
//!
//! # Architecture
//!
//! ```text
//! moderation  requests to the server's API about others in the room
//! wire        conversion between LiveKit's messages (crate `livekit_protocol`) and plain data
//! size        the memory that events take
//! audio       sound: one track that is heard, one that is published, without packets of the network
//! signal      joining, staying and leaving: the state machine of the signalling
//! peer        the peer connection: ICE, DTLS, two data channels and the lines of sound, by `str0m`
//! streams     texts, files, data packets and remote procedure calls
//! session     one room, whole but for its sockets; in it `sound`, the tracks of all sides
//! io          the sockets, and the handle of a room
//! bare        the state machines without sockets, for the fuzz targets
//! ```
//!
//! What is left out: relays (TURN), and the two peer connections of LiveKit's servers before 1.9.10. An agent runs near its server, over
//! UDP or TCP. Pictures are never asked for.
//!
//! # Words
//!
//! - *link*: the WebSocket to the server; *peer*: the peer connection; *path*: a pair of addresses that the peer uses.
//! - *attempt*: one try to get into the room, or back; *resume*: an attempt that keeps the place in the room; *rejoin*: one that gets a
//!   new place.
//! - *streams*: texts, files, data packets and remote procedure calls, on the two data channels of the peer.
//!
//! Invariant: imports point up this list.
//! Invariant: everything but `io` is pure: no socket, no clock, no task. `now` is an argument.

pub mod moderation;

pub mod wire;

pub(crate) mod size;

pub(crate) mod audio;

pub(crate) mod signal;

pub(crate) mod peer;

pub(crate) mod streams;

pub(crate) mod session;

pub mod io;

#[doc(hidden)]
pub mod bare;
