//! The states of a room's signalling.

use tokio::time::Instant;

use super::reconnect::Way;
use wasm_worker_core::room::command::OperationId;

/// What the agent knows of its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Out,
    /// The first join is under way.
    Entering {
        since: Instant,
        ids: Vec<OperationId>,
    },
    In,
    /// It was told that the connection is lost for now.
    Away,
}

/// The link, and what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no link, and none is wanted.
    Idle,
    /// The next attempt begins at this time.
    Pausing {
        way: Way,
        until: Instant,
    },
    Dialling {
        way: Way,
        until: Instant,
    },
    /// The link is open. The server speaks first.
    Opening {
        way: Way,
        until: Instant,
    },
    /// The server let the agent in. The peer is not ready, or the list of people has not come (`list_until`).
    Settling {
        way: Way,
        until: Instant,
        list_until: Option<Instant>,
    },
    Up {
        since: Instant,
    },
    /// The peer is lost, and the server may say why.
    Listening {
        since: Instant,
        until: Instant,
    },
}

/// The peer, as the session tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerState {
    /// There is none, or it is over.
    None,
    Connecting,
    Ready,
    /// No path leads to the server.
    Unreachable,
}
