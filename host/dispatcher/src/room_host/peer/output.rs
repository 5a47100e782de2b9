//! The words of a peer: its channels, what it asks for, and its answers.

use std::net::SocketAddr;
use std::sync::Arc;

use str0m::media::Mid;

use crate::room_host::ways::Question;

/// The two data channels of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::room_host) enum Channel {
    /// In order, without loss.
    Reliable,
    /// Without order, sent once.
    Lossy,
}

impl Channel {
    /// The channel that is opened under this label. Clients may open others, which nothing uses.
    pub(super) fn of_label(label: &str) -> Option<Self> {
        [Self::Reliable, Self::Lossy].into_iter().find(|channel| channel.label() == label)
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
        }
    }
}

/// A packet with sound. Its payload is not looked at: it may be encrypted between the clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::room_host) struct Sound {
    /// The line on which it came.
    pub(in crate::room_host) mid: Mid,
    /// The source of RTP that its client sends by.
    pub(in crate::room_host) source: u32,
    /// Its number, which does not wrap.
    pub(in crate::room_host) sequence: u64,
    /// Its time, in ticks of 1/48,000 s.
    pub(in crate::room_host) time: u32,
    /// Whether it begins a talk after silence.
    pub(in crate::room_host) is_marked: bool,
    /// How loud it is, in negative decibels of full scale, where its client says so.
    pub(in crate::room_host) level_db: Option<i8>,
    /// Whether it has a voice, where its client says so.
    pub(in crate::room_host) has_voice: Option<bool>,
    pub(in crate::room_host) payload: Arc<[u8]>,
}

/// What a peer asks for, or tells.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::room_host) enum PeerOutput {
    /// Send this datagram. What is no check goes to addresses only where the client has proved to be.
    Transmit { destination: SocketAddr, bytes: Vec<u8> },
    /// A path is found.
    Found,
    /// No path leads to the client any more. A restart, or the client's return, finds one.
    Lost,
    /// The host has sent a check with this number, whose answer is for this peer.
    Asked { question: Question },
    /// The client is at this address: it answered what was sent there.
    Proved { address: SocketAddr },
    /// Both channels are open.
    Ready,
    /// A message came.
    Message { channel: Channel, bytes: Vec<u8> },
    /// Sound came.
    Sound(Sound),
    /// Little is left that waits for its acknowledgement.
    Writable,
    /// The peer is over.
    Closed { why: String },
}

/// The answer to an offer.
#[derive(Debug)]
pub(in crate::room_host) struct Answer {
    pub(in crate::room_host) sdp: String,
    /// The name by which the client's checks find the peer. Each restart of ICE has a new one.
    pub(in crate::room_host) name: String,
}

/// Why the description of a client cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::room_host) enum OfferError {
    /// The text is longer than any offer.
    #[error("the description has {bytes} bytes, or {lines} lines for media")]
    TooLong { bytes: usize, lines: usize },
    /// The text is no offer or answer, or contradicts the one before it.
    #[error("the description cannot be used: {0}")]
    Unusable(String),
    /// The peer is over, maybe by this description.
    #[error("the peer is over")]
    Over,
}

/// Whether a message was taken to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::room_host) enum Written {
    /// It is on its way.
    Taken,
    /// Too much waits. [`PeerOutput::Writable`] follows.
    Full,
    /// The channel is not open, or does not take such a message.
    Refused,
}
