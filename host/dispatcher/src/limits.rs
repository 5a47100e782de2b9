//! The bounds, and the version of the protocol, that several modules share.

use std::time::Duration;

/// The version of the protocol of LiveKit's server whose behaviour the dispatcher has.
pub(crate) const PROTOCOL: i32 = 17;
/// Longest name of an agent, a room or a participant, in bytes, as in LiveKit's server.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Most attributes of a dispatch or a participant, names and values together, in bytes, as in LiveKit's server.
pub(crate) const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;
/// Longest time from the request to join a room to the answer of the room.
pub(crate) const ENTER_WITHIN: Duration = Duration::from_secs(10);
/// Most workers that are connected at once.
pub(crate) const WORKERS_MAX: usize = 10_000;
/// Most requests that wait for a change of a dispatch at once. Others are answered at once, and ask again.
pub(crate) const WAITS_MAX: usize = 512;
/// Most commands that wait for the coordinator. A sender waits while the queue is full.
pub(crate) const COMMANDS_MAX: usize = 4_096;
/// Most messages that wait for one worker. A worker whose queue is full is disconnected.
pub(crate) const OUTBOUND_MAX: usize = 20_480;
/// Most changes of dispatches that a waiting request may be behind. A request that is further behind reads the store again.
pub(crate) const CHANGES_MAX: usize = 4_096;

/// Whether a text can be the name of something.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control)
}
