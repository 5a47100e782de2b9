//! The second peer of a participant whose client has two peer connections. Pure.
//!
//! The first one carries what the client sends, and the client offers there, once it has something to send. The second one carries what
//! the participant gets, and the host offers there, from the beginning on. Nothing that comes on the second one is given on.
//!
//! Bounds: those of a peer; one offer waits for its answer, and no further one is made before.

use livekit_protocol as proto;
use str0m::media::Mid;

use super::peer::{Peer, PendingOffer};
use super::tracks::TrackId;

/// The second peer of a participant.
pub(super) struct Second {
    pub(super) peer: Peer,
    /// The offer whose answer has not come.
    pub(super) unanswered: Option<Unanswered>,
    /// The number of the last offer; 0 where there was none.
    pub(super) last_offer: u32,
    /// Whether the next offer has the client look for a new path.
    pub(super) is_to_restart: bool,
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
        Self { peer, unanswered: None, last_offer: 0, is_to_restart: false }
    }

    /// The offer that this is the answer to. Some clients answer without its number.
    pub(super) fn answered(&mut self, answer: &proto::SessionDescription) -> Option<Unanswered> {
        self.unanswered.take_if(|unanswered| answer.id == 0 || answer.id == unanswered.offer.id)
    }
}
