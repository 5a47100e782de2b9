//! The connections between workers and the dispatcher: frames arrive late, in order, or never.
//!
//! A connection that is cut carries nothing more, also nothing that is on its way. An end of it learns of the cut soon, or only by
//! the silence of the other end.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

/// The id of a connection.
pub(super) type ConnectionId = u32;

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Towards {
    Worker,
    Server,
}

/// Something that arrives.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Frame(Vec<u8>),
    /// A ping of the WebSocket, which its receiver answers.
    Ping,
    Pong,
    /// The end of the connection.
    Closed,
}

/// An arrival that is planned.
pub(super) struct Arrival {
    pub(super) connection: ConnectionId,
    pub(super) towards: Towards,
    pub(super) payload: Payload,
}

/// A connection.
struct Link {
    /// The worker's process, by its number.
    process: usize,
    /// The time of the last planned arrival in each direction. Nothing overtakes it.
    last: BTreeMap<Towards, Instant>,
    is_cut: bool,
}

/// All connections.
#[derive(Default)]
pub(super) struct Network {
    links: BTreeMap<ConnectionId, Link>,
    next: ConnectionId,
}

impl Network {
    pub(super) fn connect(&mut self, process: usize) -> ConnectionId {
        self.next += 1;
        self.links.insert(self.next, Link { process, last: BTreeMap::new(), is_cut: false });
        self.next
    }

    /// The process at the worker's end.
    pub(super) fn process(&self, connection: ConnectionId) -> usize {
        self.links[&connection].process
    }

    /// When a payload that is sent now arrives.
    pub(super) fn arrival(&mut self, now: Instant, rng: &mut StdRng, connection: ConnectionId, to: Towards) -> Instant {
        // Most frames are fast; some wait for a retransmission.
        let delay = if rng.random_bool(0.95) { rng.random_range(0..5) } else { rng.random_range(0..3_000) };
        let link = self.links.get_mut(&connection).unwrap();
        let at = link.last.get(&to).copied().unwrap_or(now).max(now + Duration::from_millis(delay));
        link.last.insert(to, at);
        at
    }

    pub(super) fn cut(&mut self, connection: ConnectionId) {
        self.links.get_mut(&connection).unwrap().is_cut = true;
    }

    pub(super) fn is_cut(&self, connection: ConnectionId) -> bool {
        self.links[&connection].is_cut
    }
}
