//! The bounds of what goes over the data channels of a room, and where each figure comes from.

use std::time::Duration;

/// Most bytes of content in one chunk of a text or a file, as in LiveKit's SDKs: a message of SCTP stays below 16 KiB.
pub(super) const CHUNK_BYTES_MAX: usize = 15_000;

/// Largest text or file that is delivered whole, in bytes (contract: `receipt`).
pub(super) const WHOLE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a stream in parts that are given before the reader has taken any (contract: `Ids`).
pub(super) const READ_AHEAD_BYTES_MAX: usize = 256 << 10;
/// Most bytes from outside that wait: events that were not taken, and streams that have not ended (contract: `Ids`).
pub(super) const INCOMING_BYTES_MAX: usize = 4 << 20;
/// Most bytes that the unfinished streams of one sender may hold: two senders cannot take the room of all others.
pub(super) const SENDER_BYTES_MAX: usize = 2 << 20;
/// Most bytes of lossy data that wait to be taken (contract: `Ids`).
pub(super) const LOSSY_BYTES_MAX: usize = 256 << 10;
/// Most streams of one sender that have not ended.
pub(super) const SENDER_STREAMS_MAX: usize = 64;
/// Most streams from outside that have not ended.
pub(super) const STREAMS_MAX: usize = 1_024;
/// Time without a chunk after which a stream ends. Pauses of a model that calls tools are shorter.
pub(super) const STREAM_IDLE_MAX: Duration = Duration::from_secs(300);
/// Time for which the streams of a participant who left go on: the news of it may overtake what was sent before.
pub(super) const AFTER_LEAVING: Duration = Duration::from_secs(2);
/// Most topics with a delivery of their own.
pub(super) const TOPICS_MAX: usize = 1_024;
/// Memory that an open stream takes besides its content, near enough.
pub(super) const STREAM_BYTES: usize = 1_024;

/// Bytes of one operation that wait, beyond which a further write fails (contract: `Ids`).
pub(super) const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Bytes that were written, after which the writer is told to go on (contract: `Ids`).
pub(super) const WRITABLE_AFTER_BYTES: usize = 64 << 10;
/// Bytes of a stream that wait, below which its writer is told to go on (contract: `Ids`).
pub(super) const WRITABLE_BELOW_BYTES: usize = 32 << 10;
/// Bytes of all operations that wait, beyond which a further call fails: twice what the calls of one step may carry.
pub(super) const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Most bytes of answers to callers that wait. Their number is bounded by [`REQUESTS_MAX`] while the channel is open.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most bytes of receipts and refusals that wait: what others can make the room say.
pub(super) const RECEIPT_BYTES_MAX: usize = 256 << 10;
/// Most bytes of lossy data that wait to be sent.
pub(super) const LOSSY_UNSENT_BYTES_MAX: usize = 64 << 10;
/// Bytes in the channel that the server has not acknowledged, beyond which nothing more is handed over: 8 Mbit/s at 100 ms.
/// The channel's own buffer takes this and a full chunk more.
pub(super) const WINDOW_BYTES: usize = 96 << 10;
/// Most bytes of acknowledged packets that are kept for a server that did not read them: one that moved the room to another node.
pub(super) const KEPT_BYTES_MAX: usize = 64 << 10;
/// Time for which they are kept. LiveKit's server forgets a participant that does not resume after 5 s.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(10);

/// Largest payload of a remote procedure call and of its answer, in bytes (version 1 of the protocol).
pub(super) const PAYLOAD_BYTES_MAX: usize = 15_360;
/// Longest message of an error of a remote procedure call, in bytes.
pub(super) const ERROR_MESSAGE_BYTES_MAX: usize = 256;
/// Time within which the receiver of a call acknowledges it, as in LiveKit's SDKs.
pub(super) const ROUND_TRIP_MAX: Duration = Duration::from_secs(7);
/// Shortest time that a called participant is given.
pub(super) const CALLED_AT_LEAST: Duration = Duration::from_secs(1);
/// Time for a request that tells none: the default of LiveKit's SDKs.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(15);
/// Longest time for a request, whatever it tells.
pub(super) const REQUEST_WITHIN_MAX: Duration = Duration::from_secs(600);
/// Most requests of one participant that wait for an answer.
pub(super) const SENDER_REQUESTS_MAX: usize = 64;
/// Most requests that wait for an answer.
pub(super) const REQUESTS_MAX: usize = 1_024;
/// Longest id of a request, in bytes. LiveKit's SDKs use UUIDs.
pub(super) const REQUEST_ID_BYTES_MAX: usize = 256;
/// Requests that are remembered after their end, so that a repeat is not a new one.
pub(super) const ENDED_REQUESTS_MAX: usize = 256;

/// Longest identity or sid of a sender, in bytes. LiveKit's server allows identities of 256 bytes.
pub(super) const SENDER_NAME_BYTES_MAX: usize = 512;
/// Most publishers whose last sequence is remembered.
pub(super) const PUBLISHERS_MAX: usize = 4_096;
/// Most publishers who left whose last sequence is remembered.
pub(super) const DEPARTED_MAX: usize = 256;
