//! The facts of a job, as plain data: no wire format and no engine type.

use serde::{Deserialize, Serialize};

use crate::room::people::Participant;
use crate::secret::Secret;
use crate::usage::RoomUse;

/// The kind of a job: the event of a room that causes it, as LiveKit names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// One job for each room.
    #[default]
    Room,
    /// One job for each participant who publishes.
    Publisher,
    /// One job for each participant.
    Participant,
}

/// The room of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomInfo {
    /// The server's id of the room; empty where there is none.
    pub sid: String,
    /// The name of the room.
    pub name: String,
    /// The metadata of the room.
    pub metadata: String,
}

/// The facts of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobInfo {
    /// The id of the job.
    pub id: String,
    /// The id of the dispatch that asked for the job; empty where there is none.
    pub dispatch_id: String,
    /// The kind of the job.
    pub kind: JobKind,
    /// The room.
    pub room: RoomInfo,
    /// The participant of a publisher or participant job.
    pub participant: Option<Participant>,
    /// The metadata of the job, often JSON.
    pub metadata: String,
    /// The attributes of the job.
    pub attributes: Vec<(String, String)>,
    /// The agent that the job is for.
    pub agent_name: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

/// One task of an agent, as the agent names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Task {
    /// The name of the task.
    pub name: String,
    /// What the task waits for.
    pub waits_for: String,
}

/// The tasks of a job, as its agent reported them last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct TaskReport {
    /// The age of the report, in milliseconds.
    pub age_ms: u64,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// What a job waits for.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and so it is in the JSON")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct WaitsFor {
    /// Whether a step of the job runs now. The other fields are then those of its last wait.
    pub running: bool,
    /// The time until the job's timer, in milliseconds; absent where no timer is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_ms: Option<u64>,
    /// Calls that have not ended.
    pub operations: usize,
    /// Whether the job is in its room.
    pub joined: bool,
}

/// The state of a job's connection to its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomState {
    /// The agent has not asked for the room, or has left it.
    #[default]
    Out,
    /// The agent is on its way into the room.
    Joining,
    /// The agent is in the room.
    Joined,
    /// The connection is lost for now.
    Reconnecting,
}

impl RoomState {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Reconnecting => "reconnecting",
        }
    }
}

/// One participant of a room, for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Present {
    /// The identity, as one line.
    pub identity: String,
    /// The kind, by the word of the contract.
    pub kind: String,
    /// The stage of the stay, by the word of the contract.
    pub state: String,
}

/// The room of a job, as its agent was last told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RoomStatus {
    /// The state of the connection.
    pub state: RoomState,
    /// The number of the others in the room.
    pub others: usize,
    /// The first of them, by identity: at most [`PRESENT_MAX`](Self::PRESENT_MAX), in lists [`LISTED_MAX`](Self::LISTED_MAX).
    pub present: Vec<Present>,
    /// The use of the connection, from its opening on.
    pub used: RoomUse,
    /// The tracks of sound.
    #[serde(default, skip_serializing_if = "Tracks::is_none")]
    pub tracks: Tracks,
}

/// The number of tracks of sound that an agent has in its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tracks {
    /// Tracks that it hears.
    pub heard: u32,
    /// Tracks that it publishes.
    pub published: u32,
}

impl Tracks {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl RoomStatus {
    /// Most participants in the status of one job.
    pub const PRESENT_MAX: usize = 20;
    /// Most participants in the status of a job among others.
    pub const LISTED_MAX: usize = 3;
}

/// The access of an agent to the room of its job, as an assignment carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomAccess {
    /// The URL of the room's server; none where it is the server of the worker.
    pub url: Option<String>,
    /// The token for the room.
    pub token: Secret,
}

/// The identity, name, metadata and attributes with which an agent wants to appear in the room of its job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// The identity; `agent-` and the job's id where there is none.
    pub identity: Option<String>,
    /// The name that users see.
    pub name: String,
    /// The metadata of the participant.
    pub metadata: String,
    /// The attributes of the participant.
    pub attributes: Vec<(String, String)>,
}

impl Acceptance {
    /// Most bytes of the texts of an acceptance. LiveKit's server allows as many bytes of attributes. The token of the job carries
    /// these texts escaped, in up to eight times their bytes, so larger ones may not fit into the frame of an assignment.
    pub const BYTES_MAX: usize = 64 << 10;

    /// The bytes of identity, name, metadata and attributes together.
    pub fn bytes(&self) -> usize {
        let Self { identity, name, metadata, attributes } = self;
        let attributes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        identity.as_deref().unwrap_or_default().len() + name.len() + metadata.len() + attributes
    }
}
