//! What an agent may do to others in its own room, through the server's API (`livekit.RoomService`, Twirp). Pure: the program sends the
//! requests, if its operator grants them to the agent.

use livekit_protocol as proto;
use serde::Deserialize;
use wasm_worker_core::room::moderation::{Moderation, ModerationFailure};
use wasm_worker_core::text::clip;

/// The type of the body of a request and of its answer.
pub const CONTENT_TYPE: &str = "application/protobuf";

/// Longest body of an answer that counts, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A request to the server's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModerationRequest {
    /// The path of the URL, for a `POST`.
    pub path: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// What its token has to allow.
    pub grant: ModerationGrant,
}

/// What the token of a request has to allow, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModerationGrant {
    /// `roomAdmin` for this room.
    Admin {
        /// The name of the room.
        room: String,
    },
    /// The same, and this `destinationRoom`.
    Move {
        /// The name of the room.
        room: String,
        /// The name of the other room.
        destination: String,
    },
    /// `roomCreate`, by which LiveKit's server allows to delete a room.
    Create,
}

/// The request for an act in this room.
pub fn request_for(act: Moderation, room: &str) -> ModerationRequest {
    let room = room.to_owned();
    match act {
        Moderation::RemoveParticipant { identity } => {
            let body = proto::RoomParticipantIdentity { room: room.clone(), identity, ..Default::default() };
            let grant = ModerationGrant::Admin { room };
            request("/twirp/livekit.RoomService/RemoveParticipant", &body, grant)
        }
        Moderation::MoveParticipant { identity, destination } => {
            let (from, to) = (room.clone(), destination.clone());
            let body = proto::MoveParticipantRequest { room: from, identity, destination_room: to };
            let grant = ModerationGrant::Move { room, destination };
            request("/twirp/livekit.RoomService/MoveParticipant", &body, grant)
        }
        Moderation::MuteTrack { identity, track_sid, muted } => {
            let body = proto::MuteRoomTrackRequest { room: room.clone(), identity, track_sid, muted };
            let grant = ModerationGrant::Admin { room };
            request("/twirp/livekit.RoomService/MutePublishedTrack", &body, grant)
        }
        Moderation::DeleteRoom => {
            let body = proto::DeleteRoomRequest { room };
            request("/twirp/livekit.RoomService/DeleteRoom", &body, ModerationGrant::Create)
        }
    }
}

fn request(path: &'static str, body: &impl prost::Message, grant: ModerationGrant) -> ModerationRequest {
    ModerationRequest { path, body: body.encode_to_vec(), grant }
}

/// The body of Twirp's errors.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TwirpError {
    code: String,
    msg: String,
}

/// What an answer of the API means.
///
/// # Errors
/// When the server did not do what was asked.
pub fn outcome(status: u16, body: &[u8]) -> Result<(), ModerationFailure> {
    if status == 200 {
        return Ok(());
    }
    let body = body.get(..ANSWER_BYTES_MAX).unwrap_or(body);
    let TwirpError { code, msg } = serde_json::from_slice(body).unwrap_or_default();
    let code = match status {
        401 | 403 => "not-allowed",
        // The server has no such call.
        404 if code == "bad_route" => "not-supported",
        404 => "not-found",
        408 | 504 => "timeout",
        400 | 412 => "invalid",
        501 => "not-supported",
        // What only LiveKit's own clusters do.
        500 if msg.ends_with("not implemented") => "not-supported",
        _ => "refused",
    };
    let message = if msg.is_empty() { format!("the server answered {status}") } else { clip(&msg) };
    Err(ModerationFailure { code, status, message })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn requests_are_about_the_own_room_and_need_no_more_than_they_do() {
        let remove = request_for(Moderation::RemoveParticipant { identity: "ann".into() }, "lobby");
        let body = proto::RoomParticipantIdentity::decode(remove.body.as_slice()).unwrap();
        assert_eq!((body.room.as_str(), body.identity.as_str()), ("lobby", "ann"));
        assert_eq!(remove.grant, ModerationGrant::Admin { room: "lobby".into() });
        let (identity, destination) = ("ann".into(), "other".into());
        let moved = request_for(Moderation::MoveParticipant { identity, destination }, "lobby");
        let body = proto::MoveParticipantRequest::decode(moved.body.as_slice()).unwrap();
        assert_eq!((body.room.as_str(), body.destination_room.as_str()), ("lobby", "other"));
        let delete = request_for(Moderation::DeleteRoom, "lobby");
        assert_eq!(proto::DeleteRoomRequest::decode(delete.body.as_slice()).unwrap().room, "lobby");
        assert_eq!((delete.path, delete.grant), ("/twirp/livekit.RoomService/DeleteRoom", ModerationGrant::Create));
    }

    #[test]
    fn answers_have_codes_and_reasons() {
        assert_eq!(outcome(200, b""), Ok(()));
        let failure = |code, status, message: &str| Err(ModerationFailure { code, status, message: message.into() });
        let body = br#"{"code":"unknown","msg":"twirp error unknown: not implemented"}"#;
        assert_eq!(outcome(500, body), failure("not-supported", 500, "twirp error unknown: not implemented"));
        let body = br#"{"code":"not_found","msg":"participant does not exist"}"#;
        assert_eq!(outcome(404, body), failure("not-found", 404, "participant does not exist"));
        let unknown = br#"{"code":"bad_route","msg":"no handler"}"#;
        assert_eq!(outcome(404, unknown), failure("not-supported", 404, "no handler"));
        assert_eq!(outcome(401, b"<html>"), failure("not-allowed", 401, "the server answered 401"));
        assert_eq!(outcome(500, &[0xff; 10]), failure("refused", 500, "the server answered 500"));
    }
}
