//! What the task of a room receives.

use std::net::SocketAddr;

use livekit_protocol as proto;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Bytes;

use super::member::{LinkId, PeerId};
use super::packets::DataError;
use super::room::{Entrant, FactsError, MuteError, Refusal};

/// A datagram for a peer of a participant.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) peer: PeerId,
    pub(super) source: SocketAddr,
    pub(super) bytes: Box<[u8]>,
    /// The place in the share of the participant, for as long as the datagram waits.
    pub(super) _place: OwnedSemaphorePermit,
}

/// The answer to a change of a participant: none where nobody has the identity.
pub(super) type Updated = Option<Result<proto::ParticipantInfo, FactsError>>;

/// A request to the task of a room.
pub(crate) enum RoomInput {
    /// Somebody asks to enter. The messages for it go into `frames`, whose end closes the link.
    Enter { entrant: Box<Entrant>, frames: mpsc::Sender<Bytes>, reply: oneshot::Sender<Result<LinkId, Refusal>> },
    /// A client sent a message.
    Message { link: LinkId, request: Box<proto::SignalRequest> },
    /// A link has ended.
    LinkLost { link: LinkId },
    /// Get the participants that are not hidden.
    Participants { reply: oneshot::Sender<Vec<proto::ParticipantInfo>> },
    /// Put a participant out of the room. The reply is whether it was there.
    Remove { identity: String, reply: oneshot::Sender<bool> },
    /// Change a participant.
    Update { request: Box<proto::UpdateParticipantRequest>, reply: oneshot::Sender<Updated> },
    /// Mute a track of a participant.
    Mute { request: Box<proto::MuteRoomTrackRequest>, reply: oneshot::Sender<Result<proto::TrackInfo, MuteError>> },
    /// Have a participant hear tracks, or not. The reply is whether it was there.
    Subscribe { request: Box<proto::UpdateSubscriptionsRequest>, reply: oneshot::Sender<bool> },
    /// Send data to participants.
    SendData { request: Box<proto::SendDataRequest>, reply: oneshot::Sender<Result<(), DataError>> },
}

/// What the dispatcher wants of a room. Only the newest state counts.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) info: proto::Room,
    /// Why the room ends, once it does.
    pub(super) close: Option<proto::DisconnectReason>,
}
