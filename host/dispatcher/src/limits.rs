//! The bounds that several modules share.

/// Longest name of an agent or a room, in bytes, as in LiveKit's server.
pub(crate) const NAME_BYTES_MAX: usize = 256;
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
