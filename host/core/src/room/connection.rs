//! The way from a job to a room, whatever is behind it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::audio::AudioStatistics;
use super::command::Command;
use super::event::RoomEvent;
use super::moderation::Moderator;
use super::settings::RoomSettings;
use crate::secret::Secret;

/// Opens rooms.
pub trait RoomOpener: Send + Sync {
    /// Open a room. It is joined by [`Command::Connect`]. The call does not wait.
    ///
    /// # Errors
    /// When there are too many.
    fn open(&self, settings: RoomSettings) -> Result<Box<dyn RoomConnection>, OpenError>;
}

/// One room as its job has it. Dropped, it is left. No function waits.
pub trait RoomConnection: Send {
    /// Ask for something.
    ///
    /// # Errors
    /// When too many commands wait, or the room is over.
    #[expect(clippy::result_large_err, reason = "the command goes back to its owner, and is not copied once more")]
    fn try_perform(&mut self, command: Command) -> Result<(), CommandRefused>;

    /// The next event, if there is one. The last one of a room that is over is [`RoomEvent::Disconnected`] with a reason that
    /// [is final](super::event::Reason::is_final).
    fn try_next(&mut self) -> Option<RoomEvent>;

    /// Ready once [`Self::try_next`] has an event. Else the waker is kept, and woken by the next one.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// The numbers of the room, for others than its job too. The room is left without regard to who holds them.
    fn numbers(&self) -> Arc<dyn RoomNumbers>;
}

/// The numbers of one room.
pub trait RoomNumbers: Send + Sync {
    /// The numbers so far.
    fn statistics(&self) -> RoomStatistics;
}

/// Why a room cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There are as many as there may be.
    #[error("{rooms_max} rooms are open, which is the most (`max-rooms`)")]
    TooMany {
        /// The most.
        rooms_max: usize,
    },
}

/// Why a command is not taken. It is given back.
#[derive(Debug, PartialEq)]
pub enum CommandRefused {
    /// Too many wait.
    Full(Command),
    /// The room is over.
    Over(Command),
}

/// Numbers of one room, from its opening on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomStatistics {
    /// Datagrams of the peer connection, and frames where it goes over TCP.
    pub datagrams_received: u64,
    /// The same, sent.
    pub datagrams_sent: u64,
    /// Bytes of all sockets.
    pub bytes_received: u64,
    /// Bytes of all sockets.
    pub bytes_sent: u64,
    /// Packets of the data channels.
    pub packets_received: u64,
    /// Packets of the data channels.
    pub packets_sent: u64,
    /// Packets that came again, or mean nothing to an agent.
    pub packets_ignored: u64,
    /// Packets that were to be sent, and were not.
    pub packets_dropped: u64,
    /// Time from the request to join to the open data channels; absent before the first join.
    pub joined_in: Option<Duration>,
    /// Losses after which the agent kept its place.
    pub resumes: u32,
    /// Losses after which it got a new one.
    pub rejoins: u32,
    /// Attempts of any kind that failed.
    pub failed_attempts: u32,
    /// Bytes of texts, files and data that wait, in both directions.
    pub bytes_waiting: usize,
    /// Numbers of the sound.
    pub audio: AudioStatistics,
}

/// The room of a job that can be joined, and with what.
#[derive(Clone)]
pub struct RoomToJoin {
    /// The room's server: `ws://`, `wss://`, `http://` or `https://`.
    pub url: String,
    /// The token of the assignment.
    pub token: Secret,
    /// Opens the room.
    pub opener: Arc<dyn RoomOpener>,
    /// Performs the agent's acts of moderation; none where its operator grants none.
    pub moderator: Option<Arc<dyn Moderator>>,
}

impl fmt::Debug for RoomToJoin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("RoomToJoin").field("url", &self.url).field("token", &self.token).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl RoomOpener for Nothing {
        fn open(&self, _: RoomSettings) -> Result<Box<dyn RoomConnection>, OpenError> {
            Err(OpenError::TooMany { rooms_max: 0 })
        }
    }

    #[test]
    fn no_output_shows_the_token() {
        let (token, opener) = (Secret("hidden".into()), Arc::new(Nothing));
        let room = RoomToJoin { url: "ws://rooms".into(), token: token.clone(), opener, moderator: None };
        let settings = RoomSettings {
            url: "ws://rooms".into(),
            token,
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
            limits: super::super::settings::RoomLimits::default(),
        };
        for shown in [format!("{room:?}"), format!("{settings:?}")] {
            assert!(shown.contains("ws://rooms") && !shown.contains("hidden"), "{shown}");
        }
    }
}
