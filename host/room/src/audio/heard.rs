//! One track that the agent hears: packets in, events out.

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioEvent, HeardId, Subscription};

use super::counts::HeardCounts;

/// Most bytes of events that wait for the agent. The contract allows 256 KiB for each id; the oldest sound is dropped.
pub(crate) const PENDING_BYTES_MAX: usize = 256 << 10;

/// A packet of a track. Packets come in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Opus.
    pub(crate) payload: &'a [u8],
    /// The time of its first sample by the sender's clock, in 1/48,000 s: the time of RTP, extended so that it does not wrap.
    pub(crate) time: u64,
    /// Whether no packet is missing before it.
    pub(crate) contiguous: bool,
}

/// One track that the agent hears.
#[derive(Debug)]
pub(crate) struct Heard {
    id: HeardId,
}

impl Heard {
    /// A track of which nothing is heard yet. `Started` is the caller's.
    ///
    /// # Errors
    /// What is wrong with the options, in words for the author of the agent.
    pub(crate) fn new(id: HeardId, options: &Subscription, now: Instant) -> Result<Self, String>;

    /// A packet came. `received_at`: when; never before the one before it, or before another `now`.
    pub(crate) fn receive(&mut self, packet: Packet<'_>, received_at: Instant);

    /// The publisher muted or unmuted the track. Voice ends with a mute, and none begins in it.
    pub(crate) fn set_muted(&mut self, muted: bool, now: Instant);

    /// The agent pauses or continues the delivery. What comes in between is counted as dropped.
    pub(crate) fn set_held(&mut self, held: bool, now: Instant);

    /// The track is gone, or given up. Sound that waits for the rest of its frame is delivered with silence behind it; `Ended` is the
    /// last event.
    pub(crate) fn end(&mut self, now: Instant);

    /// When something is due; `None` while only a packet can change anything.
    pub(crate) fn wake_at(&self) -> Option<Instant>;

    /// Do what is due.
    pub(crate) fn advance(&mut self, now: Instant);

    /// The next event: `Frame`, `Level`, `VoiceStarted`, `VoiceEnded` or `Ended`. Leave the events here while the agent is late, so
    /// that the oldest sound is what is dropped.
    pub(crate) fn next_event(&mut self) -> Option<AudioEvent>;

    /// The numbers of the track.
    pub(crate) fn counts(&self) -> HeardCounts;
}
