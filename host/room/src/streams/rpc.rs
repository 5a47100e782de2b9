//! What both sides of a remote procedure call share: version 1 of LiveKit's protocol, its codes and its packets. Pure.

use livekit_protocol as proto;
use proto::data_packet::Value;

use super::limits::{ERROR_MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use super::operation::Envelope;
use wasm_worker_core::room::command::RpcError;

/// The version of the protocol that is spoken.
pub(super) const VERSION: u32 = 1;

/// An error of the protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    RequestTooLarge = 1_402,
    UnsupportedVersion = 1_404,
    Application = 1_500,
    ConnectionTimeout = 1_501,
    ResponseTimeout = 1_502,
    RecipientDisconnected = 1_503,
    ResponseTooLarge = 1_504,
}

impl Fault {
    /// The error with LiveKit's message.
    pub(super) fn error(self) -> RpcError {
        let message = match self {
            Self::RequestTooLarge => "Request payload too large",
            Self::UnsupportedVersion => "Unsupported RPC version",
            Self::Application => "Application error in method handler",
            Self::ConnectionTimeout => "Connection timeout",
            Self::ResponseTimeout => "Response timeout",
            Self::RecipientDisconnected => "Recipient disconnected",
            Self::ResponseTooLarge => "Response payload too large",
        };
        RpcError { code: self as u32, message: message.into(), data: String::new() }
    }
}

/// An error within the bounds of the protocol.
pub(super) fn bounded(mut error: RpcError) -> RpcError {
    error.message.truncate(error.message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
    error.data.truncate(error.data.floor_char_boundary(PAYLOAD_BYTES_MAX));
    error
}

/// The packet by which a request is acknowledged.
pub(super) fn receipt(caller: &str, request_id: String) -> proto::DataPacket {
    Envelope::to(caller).packet(Value::RpcAck(proto::RpcAck { request_id }))
}

/// The packet with the answer to a request.
pub(super) fn answer(caller: &str, request_id: String, answer: Result<String, RpcError>) -> proto::DataPacket {
    use proto::rpc_response::Value as Answer;
    let value = match answer {
        Ok(payload) if payload.len() > PAYLOAD_BYTES_MAX => Answer::Error(wire_error(Fault::ResponseTooLarge.error())),
        Ok(payload) => Answer::Payload(payload),
        Err(error) => Answer::Error(wire_error(bounded(error))),
    };
    Envelope::to(caller).packet(Value::RpcResponse(proto::RpcResponse { request_id, value: Some(value) }))
}

fn wire_error(RpcError { code, message, data }: RpcError) -> proto::RpcError {
    proto::RpcError { code, message, data }
}
