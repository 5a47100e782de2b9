//! The events of the rooms that a dispatcher hosts: a room, a participant or a track has come or gone.
//!
//! The facts have the names of LiveKit's messages, because webhooks carry them in LiveKit's form.

use std::collections::BTreeMap;

use serde::Serialize;

/// Something that happened in a hosted room.
#[derive(Clone, Debug, Serialize)]
pub struct HostedEvent {
    /// What happened.
    #[serde(rename = "event")]
    pub kind: HostedKind,
    /// The name of the room.
    pub room: String,
    /// The identity of the participant, where the event is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// The id of the track, where the event is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
    /// The facts as LiveKit's webhooks have them.
    pub livekit: HostedFacts,
}

/// What happened in a hosted room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HostedKind {
    /// The first participant has joined the room.
    #[serde(rename = "room.started")]
    RoomStarted,
    /// Such a room is over, or the dispatcher ends.
    #[serde(rename = "room.finished")]
    RoomFinished,
    /// The data of a participant flows.
    #[serde(rename = "participant.joined")]
    ParticipantJoined,
    /// Such a participant has left.
    #[serde(rename = "participant.left")]
    ParticipantLeft,
    /// Others can hear a track.
    #[serde(rename = "track.published")]
    TrackPublished,
    /// Such a track is over.
    #[serde(rename = "track.unpublished")]
    TrackUnpublished,
}

impl HostedKind {
    /// The stable name. LiveKit's webhooks have an underscore in the place of the dot.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoomStarted => "room.started",
            Self::RoomFinished => "room.finished",
            Self::ParticipantJoined => "participant.joined",
            Self::ParticipantLeft => "participant.left",
            Self::TrackPublished => "track.published",
            Self::TrackUnpublished => "track.unpublished",
        }
    }
}

/// The facts of a room, and of its participant and track where the event is about one.
#[derive(Clone, Debug, Serialize)]
pub struct HostedFacts {
    /// The room.
    pub room: RoomFacts,
    /// The participant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<ParticipantFacts>,
    /// The track.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<TrackFacts>,
}

/// A room, as LiveKit's `Room`.
#[derive(Clone, Debug, Serialize)]
pub struct RoomFacts {
    /// The id.
    pub sid: String,
    /// The name.
    pub name: String,
    /// The rest, where the event is about no track, as in LiveKit's webhooks.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub details: Option<RoomDetails>,
}

/// The rest of LiveKit's `Room`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomDetails {
    /// The metadata.
    pub metadata: String,
    /// Seconds without a dispatch after which the room is removed.
    pub empty_timeout: u32,
    /// Seconds after the departure of the last participant until the room is removed.
    pub departure_timeout: u32,
    /// The most participants; 0 for no limit.
    pub max_participants: u32,
    /// The time of the creation, in seconds. JSON has numbers of 64 bits as texts for protobuf.
    pub creation_time: String,
    /// The number of participants.
    pub num_participants: u32,
}

/// A participant, as LiveKit's `ParticipantInfo`.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantFacts {
    /// The id.
    pub sid: String,
    /// The identity.
    pub identity: String,
    /// The rest, where the event is about no track, as in LiveKit's webhooks.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub details: Option<ParticipantDetails>,
}

/// The rest of LiveKit's `ParticipantInfo`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantDetails {
    /// The name.
    pub name: String,
    /// The metadata and the attributes, unless they are too long for an event.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub texts: Option<ParticipantTexts>,
    /// LiveKit's state, such as `ACTIVE`.
    pub state: &'static str,
    /// LiveKit's kind, such as `AGENT`.
    pub kind: &'static str,
    /// The time of the join, in seconds.
    pub joined_at: String,
    /// LiveKit's reason of the departure.
    pub disconnect_reason: &'static str,
}

/// What a participant says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantTexts {
    /// The metadata.
    pub metadata: String,
    /// The attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A track, as LiveKit's `TrackInfo`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackFacts {
    /// The id.
    pub sid: String,
    /// The name.
    pub name: String,
    /// LiveKit's type, such as `AUDIO`.
    pub r#type: &'static str,
    /// LiveKit's source, such as `MICROPHONE`.
    pub source: &'static str,
    /// Whether it is muted.
    pub muted: bool,
    /// The codec.
    pub mime_type: String,
}
