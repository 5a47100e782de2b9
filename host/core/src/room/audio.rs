//! Sound of a room as plain data, one to one with the interface `audio` of the contract and its events.
//!
//! Sound is mono, 16 bits a sample. Times are those of the host's monotonic clock.
#![expect(clippy::disallowed_types, reason = "times that are only told; nothing here reads a clock")]

pub mod options;

use std::time::{Duration, Instant};

use super::id::{IncomingId, OperationId};
use super::people::Track;

/// The rates that an agent may hear and speak at, in samples a second.
pub const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// The rate of what is heard, where the agent names none: that of models of speech.
pub const HEARD_RATE: u32 = 16_000;
/// The rate of what is published, where the agent names none: that of voices of models.
pub const PUBLISHED_RATE: u32 = 24_000;

/// Bounds of the groups of [`AudioStatistics::lateness`]: the first has packets that were late by at most the first bound, the last those
/// that were late by more than the last one.
pub const LATENESS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// The frames that are delivered of a track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// All.
    #[default]
    All,
    /// Those with voice, and some before and after it.
    Voiced,
    /// None.
    None,
}

/// How the sound of a track is delivered. Zero in a field is the room's default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Subscription {
    /// Samples a second, one of [`RATES`].
    pub rate: u32,
    /// The least sound of one event, and its unit.
    pub frame: Duration,
    /// The frames to deliver.
    pub frames: Delivery,
    /// With [`Delivery::Voiced`]: sound from before the voice.
    pub before: Duration,
    /// With [`Delivery::Voiced`]: sound from after it.
    pub after: Duration,
    /// Tell where voice begins and ends.
    pub detect_voice: bool,
    /// The probability of voice, from 0 to 1, above which somebody speaks.
    pub threshold: f64,
    /// Voice that is shorter is none.
    pub min_voice: Duration,
    /// Voice ends after this much silence.
    pub min_silence: Duration,
    /// Tell the level this often; zero: never.
    pub level_every: Duration,
}

/// The tracks that a rule follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Identity of the participant; empty is any.
    pub participant: String,
    /// Source of the track; empty is any.
    pub source: String,
    /// Only tracks of persons.
    pub people: bool,
}

/// A track of the agent. Zero in a field is the room's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The name.
    pub name: String,
    /// The source, such as `microphone`.
    pub source: String,
    /// Samples a second of what is written, one of [`RATES`].
    pub rate: u32,
    /// Bits a second of the encoded sound.
    pub bits_per_second: u32,
}

/// A track that the agent hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeardId {
    /// One that it subscribed to.
    Asked(OperationId),
    /// One that a rule of it follows.
    Followed(IncomingId),
}

/// One request about sound.
#[derive(Clone, Debug, PartialEq)]
pub enum AudioCommand {
    /// Hear one track. `Started` follows; `Ended` is the last event.
    Subscribe { id: OperationId, track_sid: String, options: Subscription },
    /// Hear each track that fits, now and later, each by `Started` with an id of its own.
    Follow { id: OperationId, rule: Rule, options: Subscription },
    /// Publish a track of the agent. `Published` follows, and the room's `Done` after `Close`.
    Publish { id: OperationId, publication: Publication },
    /// Write sound: little-endian samples at the rate of the publication.
    Write { id: OperationId, pcm: Vec<u8> },
    /// Set a mark: `Marked` follows when everything written so far has been played or cleared.
    Mark { id: OperationId, mark: u32 },
    /// Mute or unmute the agent's track. Its playout goes on.
    Mute { id: OperationId, muted: bool },
    /// Discard sound that has not been played. `Playout` with `Cleared` follows.
    Clear { id: OperationId },
    /// End the track when everything written has been played.
    Close { id: OperationId },
    /// Pause or continue what a heard track delivers.
    HoldHeard { id: HeardId, held: bool },
    /// Pause or continue the playout of an agent's track.
    HoldPlayout { id: OperationId, held: bool },
    /// Give up a track that a rule follows. What else the agent began is given up by the room's `Cancel`.
    CancelHeard { id: IncomingId },
}

impl AudioCommand {
    /// The operation that the command begins.
    pub const fn new_id(&self) -> Option<OperationId> {
        match self {
            Self::Subscribe { id, .. } | Self::Follow { id, .. } | Self::Publish { id, .. } => Some(*id),
            Self::Write { .. }
            | Self::Mark { .. }
            | Self::Mute { .. }
            | Self::Clear { .. }
            | Self::Close { .. }
            | Self::HoldHeard { .. }
            | Self::HoldPlayout { .. }
            | Self::CancelHeard { .. } => None,
        }
    }

    /// The content of the command, in bytes.
    pub const fn content_bytes(&self) -> usize {
        match self {
            Self::Subscribe { track_sid, .. } => track_sid.len(),
            Self::Follow { rule, .. } => rule.participant.len() + rule.source.len(),
            Self::Publish { publication, .. } => publication.name.len() + publication.source.len(),
            Self::Write { pcm, .. } => pcm.len(),
            Self::Mark { .. }
            | Self::Mute { .. }
            | Self::Clear { .. }
            | Self::Close { .. }
            | Self::HoldHeard { .. }
            | Self::HoldPlayout { .. }
            | Self::CancelHeard { .. } => 0,
        }
    }
}

/// How the playout of an agent's track changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayoutState {
    /// Sound goes out, after silence.
    Playing,
    /// Everything written has been played.
    Drained,
    /// What had not been played was discarded.
    Cleared,
    /// The playout is paused.
    Held,
}

/// Something that happened to a heard track, or to a track of the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum AudioEvent {
    /// Sound of a track is about to come. `rule`: the operation of the rule that follows it.
    Started { id: HeardId, rule: Option<OperationId>, track: Track },
    /// One or more whole frames of a heard track.
    Frame(AudioFrame),
    /// The level of a heard track, in dB to full scale, from -127 (silence) to 0, and the probability of voice, from 0 to 1.
    Level { id: HeardId, at: Instant, level: f64, voice: f64 },
    /// Voice began, at a time before the event.
    VoiceStarted { id: HeardId, at: Instant },
    /// Voice ended, at a time before the event: by silence, by a mute, or with the track.
    VoiceEnded { id: HeardId, at: Instant },
    /// The last event of a heard track: the track is gone.
    Ended { id: HeardId },

    /// The agent's track is in the room; again, with another sid, after a rejoin.
    Published { id: OperationId, track_sid: String },
    /// Somebody hears the agent's track for the first time.
    Subscribed { id: OperationId },
    /// The playout of an agent's track changed. `played`: what has been played of all that was written; what was cleared does not count.
    Playout { id: OperationId, state: PlayoutState, played: Duration, at: Instant },
    /// A mark was reached. `cleared`: the sound before it was discarded.
    Marked { id: OperationId, mark: u32, cleared: bool, played: Duration, at: Instant },
}

/// Sound of a heard track.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioFrame {
    /// The track.
    pub id: HeardId,
    /// When the first sample was heard. It advances with the samples; a step in it is a gap.
    pub at: Instant,
    /// The part of this sound that was made up, for packets that did not arrive.
    pub concealed: Duration,
    /// Sound before this frame that the agent did not get: the agent was late or held the track, or the sound came after the host had
    /// delivered silence in its place.
    pub dropped: Duration,
    /// Little-endian samples at the rate of the subscription.
    pub pcm: Vec<u8>,
}

/// Numbers of the sound of one room, from its opening on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioStatistics {
    /// Tracks that are heard.
    pub heard_tracks: u32,
    /// Tracks of the agent.
    pub own_tracks: u32,
    /// Packets of heard tracks.
    pub packets_received: u64,
    /// Packets that did not arrive, or arrived too late to be heard.
    pub packets_lost: u64,
    /// Packets of the agent's tracks.
    pub packets_sent: u64,
    /// Frames of the agent's tracks that went out late, or not at all, because the host was late.
    pub frames_late: u64,
    /// Packets of the agent's tracks, by how late they went out; [`LATENESS`] has the bounds.
    pub lateness: [u64; LATENESS.len() + 1],
    /// The times by which those packets were late, added up.
    pub late_by: Duration,
    /// Variation of the times between packets of heard tracks: the highest of all tracks, as RFC 3550 computes it.
    pub jitter: Duration,
    /// Sound that was delivered to the agent.
    pub heard: Duration,
    /// Sound of the agent that was played.
    pub spoken: Duration,
    /// Sound that was made up for packets that did not arrive.
    pub concealed: Duration,
    /// Sound that the agent did not get: it was late or held the track, or the sound came after silence was delivered in its place.
    pub dropped: Duration,
    /// Time that decoding, detection, resampling and encoding took.
    pub busy: Duration,
    /// Bytes of sound that wait in both directions.
    pub bytes_waiting: usize,
}
