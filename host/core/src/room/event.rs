//! What a room tells an agent or its host.

use std::time::Duration;

use super::audio::AudioEvent;
use super::command::{IncomingId, OperationId, RpcError};
use super::people::{Attributes, Participant, RoomInfo, Track};

/// Why the connection to a room ended, or why a participant left: LiveKit's reasons, then the room's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No reason was given, or one that this version does not know.
    Unknown,
    /// The participant left.
    ClientInitiated,
    /// The same identity joined again.
    DuplicateIdentity,
    /// The server shut down.
    ServerShutdown,
    /// A moderator removed the participant.
    ParticipantRemoved,
    /// A moderator deleted the room.
    RoomDeleted,
    /// The server does not know the session any more.
    StateMismatch,
    /// The join did not succeed.
    JoinFailure,
    /// The room moves to another server.
    Migration,
    /// The signalling connection closed.
    SignalClose,
    /// The room closed, because nobody was left in it.
    RoomClosed,
    /// The called party did not answer.
    UserUnavailable,
    /// The called party refused the call.
    UserRejected,
    /// The SIP trunk failed.
    SipTrunkFailure,
    /// The connection timed out.
    ConnectionTimeout,
    /// The media stream failed.
    MediaFailure,
    /// An agent failed.
    AgentError,
    /// Events were not taken for so long that the room ran out of space for them.
    Overrun,
    /// A bug of the host ended the room.
    Fault,
}

impl Reason {
    /// The name in events, metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::ClientInitiated => "client-initiated",
            Self::DuplicateIdentity => "duplicate-identity",
            Self::ServerShutdown => "server-shutdown",
            Self::ParticipantRemoved => "participant-removed",
            Self::RoomDeleted => "room-deleted",
            Self::StateMismatch => "state-mismatch",
            Self::JoinFailure => "join-failure",
            Self::Migration => "migration",
            Self::SignalClose => "signal-close",
            Self::RoomClosed => "room-closed",
            Self::UserUnavailable => "user-unavailable",
            Self::UserRejected => "user-rejected",
            Self::SipTrunkFailure => "sip-trunk-failure",
            Self::ConnectionTimeout => "connection-timeout",
            Self::MediaFailure => "media-failure",
            Self::AgentError => "agent-error",
            Self::Overrun => "overrun",
            Self::Fault => "fault",
        }
    }

    /// Whether the room is over with it, and has to be opened anew. After the others it can be joined again.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Overrun | Self::Fault)
    }
}

/// The facts that differ from before.
#[expect(clippy::struct_excessive_bools, reason = "flags of the contract; each is a fact of its own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParticipantChanges {
    /// The name.
    pub name: bool,
    /// The metadata.
    pub metadata: bool,
    /// The attributes.
    pub attributes: bool,
    /// The permissions.
    pub permissions: bool,
    /// The state.
    pub state: bool,
}

/// Somebody who speaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Speaker {
    /// The participant.
    pub identity: String,
    /// The level, from 0 to 1.
    pub level: f64,
}

/// The quality of a connection, from the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Nothing arrives.
    Lost,
    /// Poor.
    Poor,
    /// Good.
    Good,
    /// Excellent.
    Excellent,
}

/// The quality of one participant's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionQuality {
    /// The participant.
    pub identity: String,
    /// The quality.
    pub quality: Quality,
}

/// The facts of a text or a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamInfo {
    /// The id that its sender gave it.
    pub stream_id: String,
    /// Identity of the sender; absent where the server sent it.
    pub sender: Option<String>,
    /// The topic.
    pub topic: String,
    /// Name of a file; empty for a text.
    pub name: String,
    /// The type of the content.
    pub mime_type: String,
    /// Attributes of the header, and for a whole text or file of the trailer too.
    pub attributes: Attributes,
    /// Time of sending, by the sender's clock, in milliseconds since 1970.
    pub timestamp_ms: f64,
    /// Size in bytes, if the sender told it.
    pub size: Option<u64>,
    /// The stream that this one answers; empty: none.
    pub reply_to: String,
}

/// An operation failed and is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The operation.
    pub id: OperationId,
    /// A code of the contract, such as `timeout`, `refused`, `not-allowed`, `not-joined`, `too-large`, `invalid`, `limit`.
    pub code: &'static str,
    /// The reason for people. It may be empty.
    pub message: String,
}

/// Something that happened in a room, or the end of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomEvent {
    /// The agent is in the room. It follows everyone in the room as `ParticipantJoined` and every track as `TrackPublished`; after
    /// a join anew or a resumption, the differences.
    Connected { local: Participant, room: RoomInfo },
    /// The connection is lost for now. Sends wait, bounded, until `Connected` or `Disconnected`.
    Reconnecting,
    /// The room is left or lost for good. Operations of the room have failed before it.
    Disconnected { reason: Reason, message: String },
    /// Somebody is in the room: already there at the join, or new.
    ParticipantJoined(Participant),
    /// Somebody left.
    ParticipantLeft { participant: Participant, reason: Reason },
    /// Facts of a participant changed, also of the agent's own. `attributes`: those that changed; an empty value means removed.
    ParticipantChanged { participant: Participant, changes: ParticipantChanges, attributes: Attributes },
    /// Facts of the room changed.
    RoomChanged(RoomInfo),
    /// Those who speak now. Nobody else does.
    SpeakersChanged(Vec<Speaker>),
    /// The qualities that changed.
    QualityChanged(Vec<ConnectionQuality>),

    /// A whole text.
    Text { info: StreamInfo, text: String },
    /// A whole file.
    File { info: StreamInfo, bytes: Vec<u8> },
    /// A text or a file begins that is delivered in parts.
    StreamStarted { id: IncomingId, info: StreamInfo, is_text: bool },
    /// A part of a text, cut between characters.
    TextChunk { id: IncomingId, text: String },
    /// A part of a file.
    BytesChunk { id: IncomingId, bytes: Vec<u8> },
    /// The last event of a stream. `reason` is empty where the sender came to the end.
    StreamEnded { id: IncomingId, attributes: Attributes, reason: String },
    /// A data packet.
    Data { sender: Option<String>, topic: String, payload: Vec<u8>, reliable: bool },
    /// A key of a telephone.
    Dtmf { sender: Option<String>, code: u32, digit: String },
    /// A participant calls a method of the agent. Answer it by `Answer`.
    RpcRequest { id: IncomingId, caller: Option<String>, method: String, payload: String, timeout: Duration },
    /// The request of a participant is over without an answer: the caller is gone, or its time is over.
    RpcRequestFailed { id: IncomingId, code: &'static str, message: String },
    /// The last event of `Call`.
    RpcAnswer { id: OperationId, answer: Result<String, RpcError> },

    /// A track is in the room.
    TrackPublished(Track),
    /// A track is gone.
    TrackUnpublished(Track),
    /// Facts of a track changed.
    TrackChanged(Track),
    /// Something that happened to a heard track, or to a track of the agent.
    Audio(AudioEvent),

    /// Little waits to be sent on this operation: write on.
    Writable(OperationId),
    /// The operation succeeded and is over.
    Done(OperationId),
    /// The operation failed and is over.
    Failed(Failure),
    /// Events were dropped. `what` is the name of their kind as in the contract, such as `text` or `data`.
    Lost { what: &'static str, id: Option<IncomingId>, count: u32 },
}
