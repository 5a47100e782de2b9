//! What a room needs to be joined.

use std::time::Duration;

use super::people::Attributes;
use crate::secret::Secret;

/// The room to join, and as whom.
#[derive(Clone, Debug)]
pub struct RoomSettings {
    /// The server, as the assignment names it: `ws://`, `wss://`, `http://` or `https://`.
    pub url: String,
    /// The token of the assignment. It never reaches the agent, a log or an event.
    pub token: Secret,
    /// The name that the participant takes at the join; empty: the token's.
    pub name: String,
    /// The metadata that the participant takes at the join; empty: the token's.
    pub metadata: String,
    /// Attributes that are sent with the join.
    pub attributes: Attributes,
    /// Bounds.
    pub limits: RoomLimits,
}

/// Bounds of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// Longest time from `Connect` to the open data channels, for all attempts together.
    pub join_within: Duration,
    /// Longest time that what was sent may take to be delivered before the room is left.
    pub leave_within: Duration,
    /// Most participants that are kept; the server's list beyond them is not told.
    pub participants_max: usize,
    /// Bytes of packets a second that go out over the data channels, on average. What is over waits.
    pub send_bytes_per_second: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            join_within: Duration::from_secs(15),
            leave_within: Duration::from_secs(5),
            participants_max: 2_000,
            send_bytes_per_second: 4 << 20,
        }
    }
}
