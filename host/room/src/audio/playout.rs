//! One track that the agent publishes: sound and commands in, packets at their time out.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioEvent, Publication};
use wasm_worker_core::room::id::OperationId;

use super::counts::PlayoutCounts;

/// No sound is taken while more than this waits. One write is taken whole, so that a step's bytes may wait beyond it.
pub(crate) const WAITING_MAX: Duration = Duration::from_mins(1);

/// Sound that is not taken. The track is to end by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// Code `too-large`.
    #[error("more than 60 s of sound waits to be played")]
    TooLarge,
    /// Code `invalid`.
    #[error("a sample has two bytes: the number of bytes is odd")]
    HalfSample,
}

/// A packet to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Opus: 20 ms.
    pub(crate) payload: Vec<u8>,
    /// The time of its first sample, in 1/48,000 s. It follows the clock: it steps over silence and stalls.
    pub(crate) time: u64,
    /// Whether it is the first packet after silence: the marker of RTP.
    pub(crate) starts_talk: bool,
    /// Time since it was due.
    pub(crate) late_by: Duration,
}

/// One track that the agent publishes.
#[derive(Debug)]
pub(crate) struct Playout {
    id: OperationId,
}

impl Playout {
    /// A track to which nothing is written. `Published` and `Subscribed` are the caller's.
    ///
    /// # Errors
    /// What is wrong with the publication, in words for the author of the agent.
    pub(crate) fn new(id: OperationId, publication: &Publication, now: Instant) -> Result<Self, String>;

    /// Play these little-endian samples after all that was written before. After `close` nothing happens.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(crate) fn write(&mut self, pcm: &[u8], now: Instant) -> Result<(), WriteError>;

    /// `Marked` follows when everything written so far has been played or cleared.
    pub(crate) fn mark(&mut self, mark: u32, now: Instant);

    /// Discard what has not been played, at once: `Playout` with `Cleared`, then the marks of what was discarded.
    pub(crate) fn clear(&mut self, now: Instant);

    /// Pause the playout (`Playout` with `Held`), or continue it.
    pub(crate) fn set_held(&mut self, held: bool, now: Instant);

    /// Mute or unmute. The playout goes on; nothing is sent.
    pub(crate) fn set_muted(&mut self, muted: bool, now: Instant);

    /// Take no more sound; the track is over when everything written has been played.
    pub(crate) fn close(&mut self, now: Instant);

    /// Whether the track is closed and everything has been played and sent: `Done` is due once `next_event` gives none.
    pub(crate) fn is_over(&self) -> bool;

    /// When something is due.
    pub(crate) fn wake_at(&self) -> Option<Instant>;

    /// Do what is due. Call it until it gives nothing, also after each command.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Outgoing>;

    /// Whether the agent is to be told that it may write again (`RoomEvent::Writable`): more than 1 s waited, and now less than half
    /// of it does. True once each time.
    pub(crate) fn take_writable(&mut self) -> bool;

    /// The next event: `Playout` or `Marked`.
    pub(crate) fn next_event(&mut self) -> Option<AudioEvent>;

    /// The numbers of the track.
    pub(crate) fn counts(&self) -> PlayoutCounts;
}
