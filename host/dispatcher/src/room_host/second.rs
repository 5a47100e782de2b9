//! The second peer of a participant whose client has two peer connections, as LiveKit's older clients have. Pure.
//!
//! On the first one the client offers: it has the data channels, and what the client says. On the second one the host offers, and
//! sends what the participant hears. Nothing of what comes there is given on.
//!
//! Bounds: those of a peer; one offer waits for its answer, and no further one is made before.

use livekit_protocol as proto;
use str0m::media::Mid;

use super::peer::{Peer, PendingOffer};
use super::tracks::TrackId;

/// The second peer of a participant.
pub(super) struct Second {
    pub(super) peer: Peer,
    pub(super) reach: Reach,
    /// The offer whose answer has not come.
    pub(super) unanswered: Option<Unanswered>,
    /// The number of the last offer.
    last_offer: u32,
}

/// The path of the datagrams of a second peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// None is found yet.
    Searching,
    /// Datagrams flow.
    Found,
    /// The next offer has the client look for a new one.
    ToRestart,
}

/// An offer whose answer has not come.
pub(super) struct Unanswered {
    /// As it was sent, for a client that comes back and may have missed it.
    pub(super) offer: proto::SessionDescription,
    pub(super) pending: PendingOffer,
    /// The tracks that are new on a line.
    pub(super) new: Vec<(Mid, TrackId)>,
}

impl Second {
    /// A second peer that has offered nothing.
    pub(super) const fn new(peer: Peer) -> Self {
        Self { peer, reach: Reach::Searching, unanswered: None, last_offer: 0 }
    }

    /// The number of the next offer.
    pub(super) const fn next_offer(&mut self) -> u32 {
        self.last_offer = self.last_offer.wrapping_add(1);
        self.last_offer
    }

    /// The offer that this is the answer to. Older clients answer without its number.
    pub(super) fn answered(&mut self, answer: &proto::SessionDescription) -> Option<Unanswered> {
        self.unanswered.take_if(|unanswered| answer.id == 0 || answer.id == unanswered.offer.id)
    }
}
