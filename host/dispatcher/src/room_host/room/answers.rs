//! The messages of the host that need no state.

use livekit_protocol as proto;
use proto::leave_request::Action;
use proto::signal_response::Message as Response;
use proto::{DisconnectReason, request_response};

use crate::limits::PROTOCOL;

/// The version of LiveKit's server that rooms stand for: the first one with `/rtc/v1`. Clients make no calls to servers before 1.8.
const SERVER_VERSION: &str = "1.9.10";
/// Pause between the pings of a client, in seconds, as in LiveKit's server.
const PING_INTERVAL_S: i32 = 5;
/// Silence of the host after which a client takes its link for lost, in seconds, as in LiveKit's server.
const PING_TIMEOUT_S: i32 = 15;

pub(super) fn leave(reason: DisconnectReason, action: Action) -> Response {
    let can_reconnect = action != Action::Disconnect;
    Response::Leave(proto::LeaveRequest { can_reconnect, reason: reason as i32, action: action as i32, regions: None })
}

/// The first message to a new participant. With `subscriber_primary` it gets all on a second peer connection, and offers on the first
/// one only when it has something to send.
pub(super) fn join(
    room: proto::Room,
    participant: proto::ParticipantInfo,
    other_participants: Vec<proto::ParticipantInfo>,
    subscriber_primary: bool,
) -> Response {
    let codec = |mime: &str| proto::Codec { mime: mime.into(), ..Default::default() };
    Response::Join(proto::JoinResponse {
        room: Some(room),
        participant: Some(participant),
        other_participants,
        subscriber_primary,
        server_version: server_info().version,
        server_info: Some(server_info()),
        ping_interval: PING_INTERVAL_S,
        ping_timeout: PING_TIMEOUT_S,
        enabled_publish_codecs: vec![codec("audio/opus"), codec("video/VP8")],
        ..Default::default()
    })
}

/// The first message to a participant that came back.
pub(super) fn reconnect(last_message_seq: u32) -> Response {
    let server_info = Some(server_info());
    Response::Reconnect(proto::ReconnectResponse { server_info, last_message_seq, ..Default::default() })
}

/// The answer to a change of the own participant.
pub(super) fn updated(
    update: proto::UpdateParticipantMetadata,
    refused: Option<(request_response::Reason, String)>,
) -> Response {
    let request_id = update.request_id;
    let (reason, message) = refused.unwrap_or((request_response::Reason::Ok, String::new()));
    let request = Some(request_response::Request::UpdateMetadata(update));
    Response::RequestResponse(proto::RequestResponse { request_id, reason: reason as i32, message, request })
}

fn server_info() -> proto::ServerInfo {
    proto::ServerInfo {
        version: SERVER_VERSION.into(),
        protocol: PROTOCOL,
        node_id: "wasm-worker".into(),
        debug_info: concat!("wasm-worker ", env!("CARGO_PKG_VERSION")).into(),
        ..Default::default()
    }
}
