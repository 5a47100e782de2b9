//! The bounds of hosted rooms that several modules share.

use std::time::Duration;

/// Most participants of one room. Every packet goes to each of them.
pub(super) const MEMBERS_MAX: usize = 100;
/// Most metadata of a participant, in bytes, as in LiveKit's server.
pub(super) const METADATA_BYTES_MAX: usize = 64 << 10;
/// Most metadata and attributes of all participants of a room, in bytes, and most bytes of those who left a moment ago. One message
/// has either, beside the names, numbers and permissions of the participants.
pub(super) const FACTS_BYTES_MAX: usize = 2 << 20;
/// Most tracks of a participant, announced ones too. Its offer has a line for each.
pub(super) const TRACKS_MAX: usize = 8;
/// Packets of a track in a second. Clients send 50, or 100 with frames of 10 ms.
pub(super) const TRACK_PACKETS_A_SECOND: u32 = 150;
/// Most tracks of all participants of a room.
pub(super) const ROOM_TRACKS_MAX: usize = 64;
/// Most lines that a participant is asked for, to hear others on them.
pub(super) const SUBSCRIPTIONS_MAX: usize = 32;
/// Largest message of a client on its link, in bytes. The largest one has an offer and an answer.
pub(super) const MESSAGE_BYTES_MAX: usize = 512 << 10;
/// Largest message that has no offer, no answer and no facts of the participant, in bytes.
pub(super) const SMALL_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Largest packet of the data channels, in bytes, as LiveKit's server states it in its answers.
pub(super) const PACKET_BYTES_MAX: u32 = 65_535;
/// Largest datagram that is read, in bytes: those of WebRTC fit into a packet of the network.
pub(super) const DATAGRAM_BYTES_MAX: usize = 2_048;
/// How long a participant whose link is lost keeps its place.
pub(super) const RESUME_WITHIN: Duration = Duration::from_secs(15);
/// What was told in this time is told again to one that comes back: the time that it has, and as much for the host or the client to
/// notice the loss.
pub(super) const TOLD_AGAIN_WITHIN: Duration = RESUME_WITHIN.saturating_mul(2);
