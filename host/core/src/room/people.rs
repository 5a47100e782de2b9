//! The facts of a room, its participants and their tracks.

/// Names and values, in the order given.
pub type Attributes = Vec<(String, String)>;

/// The kind of a participant, as LiveKit has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParticipantKind {
    /// A person with a client.
    #[default]
    Standard,
    /// An ingress.
    Ingress,
    /// An egress.
    Egress,
    /// A phone call.
    Sip,
    /// An agent.
    Agent,
    /// A connector.
    Connector,
    /// A bridge.
    Bridge,
    /// A kind that this version does not know.
    Other,
}

impl ParticipantKind {
    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Sip => "sip",
            Self::Agent => "agent",
            Self::Connector => "connector",
            Self::Bridge => "bridge",
            Self::Other => "other",
        }
    }
}

/// The stage of a participant's stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParticipantState {
    /// The signalling connection is open.
    #[default]
    Joining,
    /// The server has told the participant about the room.
    Joined,
    /// Text, data and calls reach the participant.
    Active,
    /// The participant is gone.
    Left,
}

impl ParticipantState {
    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Active => "active",
            Self::Left => "left",
        }
    }
}

/// What a participant may do.
#[expect(clippy::struct_excessive_bools, reason = "flags of the contract; each is a fact of its own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// May receive tracks.
    pub subscribe: bool,
    /// May publish tracks.
    pub publish: bool,
    /// May send text and data.
    pub publish_data: bool,
    /// May change its own name, metadata and attributes.
    pub update_own: bool,
    /// Is not shown to others.
    pub hidden: bool,
    /// May receive metrics.
    pub subscribe_metrics: bool,
    /// May manage agent sessions.
    pub manage_agent_session: bool,
}

impl Permissions {
    /// Those of a person who joins by an ordinary token.
    pub const ORDINARY: Self = Self {
        subscribe: true,
        publish: true,
        publish_data: true,
        update_own: false,
        hidden: false,
        subscribe_metrics: false,
        manage_agent_session: false,
    };
}

/// One participant of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Participant {
    /// The server's id of this stay in the room.
    pub sid: String,
    /// The name by which calls address the participant, unique in the room.
    pub identity: String,
    /// The name that people see.
    pub name: String,
    /// The metadata.
    pub metadata: String,
    /// The attributes, by name.
    pub attributes: Attributes,
    /// The kind.
    pub kind: ParticipantKind,
    /// The stage of the stay.
    pub state: ParticipantState,
    /// What the participant may do.
    pub permissions: Permissions,
    /// The time of the join, in milliseconds since 1970.
    pub joined_at_ms: f64,
}

impl Participant {
    /// A participant of this identity who is there, with [ordinary](Permissions::ORDINARY) permissions.
    pub fn present(identity: String) -> Self {
        let (state, permissions) = (ParticipantState::Active, Permissions::ORDINARY);
        Self { identity, state, permissions, ..Self::default() }
    }
}

/// The facts of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoomInfo {
    /// The server's id of the room.
    pub sid: String,
    /// The name.
    pub name: String,
    /// The metadata.
    pub metadata: String,
    /// Facts of the contract: `@publishers`, `@max-participants`, `@empty-timeout` and `@departure-timeout` (seconds).
    pub attributes: Attributes,
    /// The time of creation, in milliseconds since 1970.
    pub created_at_ms: f64,
    /// Number of participants, as the server last told it.
    pub participants: u32,
    /// Whether the room is being recorded.
    pub recorded: bool,
}

/// The kind of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Data.
    Data,
    /// A kind that this version does not know.
    Other,
}

/// A track in a room.
#[expect(clippy::struct_excessive_bools, reason = "flags of the contract; each is a fact of its own")]
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// The server's id of the track.
    pub sid: String,
    /// Identity of the participant who publishes it.
    pub participant: String,
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: TrackKind,
    /// `microphone`, `camera`, `screen-share`, `screen-share-audio`; empty if unknown.
    pub source: &'static str,
    /// The type of the content, such as `audio/red`.
    pub mime_type: String,
    /// Facts of the contract: `@features`, `@stream`, `@width` and `@height`.
    pub attributes: Attributes,
    /// Whether the track is muted.
    pub muted: bool,
    /// Whether the track is encrypted from end to end.
    pub encrypted: bool,
}
