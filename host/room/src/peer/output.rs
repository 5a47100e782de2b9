//! What a peer sends and tells.

use std::net::SocketAddr;

use super::lines::LineId;
use super::order::SoundPacket;
use crate::wire::Channel;

/// The transport of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// A datagram of UDP.
    Udp,
    /// A frame of TCP (RFC 4571).
    Tcp,
}

/// Bytes on their way between two addresses.
#[derive(Debug)]
pub(crate) struct Datagram<B> {
    pub(crate) transport: Transport,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: B,
}

/// What a peer asks for, or tells.
#[derive(Debug)]
pub(crate) enum PeerOutput {
    /// Send this.
    Transmit(Datagram<Box<[u8]>>),
    /// Find the own address that leads to this one, connect to it where it is TCP, and tell the own address.
    Reach { transport: Transport, remote: SocketAddr },
    /// A path is found, and both channels are open: texts can flow.
    Ready,
    /// A message came.
    Message { channel: Channel, bytes: Vec<u8> },
    /// Little is left that waits for its acknowledgement.
    Writable,
    /// The server answered an offer: the lines of tracks may have changed.
    Lines,
    /// Sound came on a line.
    Sound(LineId, SoundPacket),
    /// No path leads to the server any more. A restart may find one.
    Unreachable,
    /// The peer is over.
    Closed { why: String },
}

/// Why an answer cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// It answers an offer that was never made.
    #[error("the answer has the number {got}; want {want}")]
    Number { got: u32, want: u32 },
    /// Its text is longer than any answer.
    #[error("the answer has {bytes} bytes")]
    TooLong { bytes: usize },
    /// Its text is no answer to the offer.
    #[error("the server's answer cannot be used")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether a message was taken to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is on its way.
    Taken,
    /// Too much waits. `Writable` follows.
    Full,
    /// The channel is not open, or the peer is over.
    Closed,
}
