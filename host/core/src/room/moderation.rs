//! What an agent may do to others in its own room, through the server's API, if its operator grants it.

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moderation {
    /// Put a participant out of the room.
    RemoveParticipant {
        /// The participant.
        identity: String,
    },
    /// Move a participant to another room.
    MoveParticipant {
        /// The participant.
        identity: String,
        /// The name of the other room.
        destination: String,
    },
    /// Mute or unmute a track of a participant.
    MuteTrack {
        /// The participant.
        identity: String,
        /// The server's id of the track.
        track_sid: String,
        /// Whether it is to be muted.
        muted: bool,
    },
    /// Delete the room, and put everybody out of it.
    DeleteRoom,
}

impl Moderation {
    /// The bytes of the texts of the act.
    pub fn bytes(&self) -> usize {
        match self {
            Self::RemoveParticipant { identity } => identity.len(),
            Self::MoveParticipant { identity, destination } => identity.len() + destination.len(),
            Self::MuteTrack { identity, track_sid, .. } => identity.len() + track_sid.len(),
            Self::DeleteRoom => 0,
        }
    }
}

/// Why an act failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModerationFailure {
    /// A code of the contract.
    pub code: &'static str,
    /// The status of HTTP; 0 where there was no answer.
    pub status: u16,
    /// The reason for people.
    pub message: String,
}

/// Receives the outcome of an act. Called once, on any thread; it does not wait.
pub type ModerationDone = Box<dyn FnOnce(Result<(), ModerationFailure>) + Send>;

/// Performs acts of moderation at a server.
pub trait Moderator: Send + Sync {
    /// Begin an act in the room of this name. The call does not wait. An act that is given up drops `done` without calling it.
    fn begin(&self, room: &str, act: Moderation, done: ModerationDone);
}
