//! The request that opens a link, and the errors of a link that does not open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use livekit_protocol as proto;
use prost::Message as _;
use wasm_worker_core::secret::Secret;
use wasm_worker_core::text::clip;

use super::reconnect::Way;
use crate::wire::{self, Description};
use wasm_worker_core::room::event::Reason;

/// The path for a single peer connection. LiveKit's servers have it from 1.9.10 on.
const PATH: &str = "/rtc/v1";
/// The version that has this path.
const SERVER_VERSION_MIN: &str = "1.9.10";

/// The request that opens a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkRequest {
    /// With the scheme `ws` or `wss`.
    pub(crate) url: String,
    /// For the header `Authorization: Bearer …`.
    pub(crate) token: Secret,
}

/// Why a link does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// The server answered by HTTP, and opens no WebSocket.
    Status { status: u16, body: String },
    /// Nothing answered.
    Unreachable { why: String },
}

/// The end of an attempt, or of a stay in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The code of operations that fail by it.
    pub(super) code: &'static str,
    pub(super) reason: Reason,
    /// For people.
    pub(super) message: String,
    pub(super) cure: Cure,
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// The same again.
    Again,
    /// A new join.
    Join,
    /// A new join where this was none, else nothing.
    OtherWay,
    /// Nothing.
    None,
}

impl Fault {
    /// A fault with its words for people, and what may cure it.
    pub(super) fn new(code: &'static str, reason: Reason, message: impl Into<String>, cure: Cure) -> Self {
        Self { code, reason, message: message.into(), cure }
    }
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        let (status, body) = match error {
            LinkError::Unreachable { why } => {
                return Self::new("unreachable", Reason::SignalClose, clip(&why), Cure::Again);
            }
            LinkError::Status { status, body } => (status, clip(&body)),
        };
        let (code, cure, message) = match status {
            401 | 403 => (
                "not-allowed",
                Cure::OtherWay,
                format!("the server refused the token, or attributes without its permission: {body}"),
            ),
            404 => {
                let message = format!(
                    "the server answered 404 at {PATH}: LiveKit {SERVER_VERSION_MIN} or newer is needed, and the room has to \
                     exist where the server creates none: {body}"
                );
                ("not-supported", Cure::OtherWay, message)
            }
            429 | 500.. => ("refused", Cure::Again, format!("the server answered {status}: {body}")),
            _ => ("refused", Cure::OtherWay, format!("the server answered {status}: {body}")),
        };
        Self { code, reason: Reason::JoinFailure, message, cure }
    }
}

/// The base of the links to a server.
///
/// # Errors
/// What is wrong with the URL.
pub(super) fn base(url: &str) -> Result<String, String> {
    let (scheme, rest) = url.split_once("://").ok_or("the server's URL has no scheme")?;
    let scheme = match scheme {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err("the server's URL has another scheme than ws, wss, http or https".into()),
    };
    if rest.contains(['?', '#']) {
        return Err("the server's URL has a query".into());
    }
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// The request for a new place in the room.
pub(super) fn join(
    base: &str,
    token: &Secret,
    offer: &Description,
    (metadata, participant_attributes): (String, std::collections::HashMap<String, String>),
) -> LinkRequest {
    let request = proto::JoinRequest {
        client_info: Some(client_info()),
        connection_settings: Some(connection_settings()),
        metadata,
        participant_attributes,
        publisher_offer: Some(offer.message("offer")),
        ..Default::default()
    };
    link_request(base, token, &request)
}

/// The request for the same place with the same peer.
pub(super) fn resume(base: &str, token: &Secret, participant_sid: &str, way: Way) -> LinkRequest {
    let reason = match way {
        Way::Resume { restart: true } => proto::ReconnectReason::RrPublisherFailed,
        Way::Resume { restart: false } | Way::Join => proto::ReconnectReason::RrSignalDisconnected,
    };
    let request = proto::JoinRequest {
        client_info: Some(client_info()),
        connection_settings: Some(connection_settings()),
        reconnect: true,
        reconnect_reason: reason as i32,
        participant_sid: participant_sid.to_owned(),
        ..Default::default()
    };
    link_request(base, token, &request)
}

fn link_request(base: &str, token: &Secret, request: &proto::JoinRequest) -> LinkRequest {
    let wrapped = proto::WrappedJoinRequest {
        compression: proto::wrapped_join_request::Compression::None as i32,
        join_request: request.encode_to_vec(),
    };
    let wrapped = URL_SAFE.encode(wrapped.encode_to_vec()).replace('=', "%3D");
    LinkRequest { url: format!("{base}{PATH}?join_request={wrapped}"), token: token.clone() }
}

fn client_info() -> proto::ClientInfo {
    proto::ClientInfo {
        sdk: proto::client_info::Sdk::Rust as i32,
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: wire::PROTOCOL,
        os: std::env::consts::OS.into(),
        ..Default::default()
    }
}

/// Tracks are subscribed one by one, where the agent asks for them.
fn connection_settings() -> proto::ConnectionSettings {
    proto::ConnectionSettings { auto_subscribe: false, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_form_that_servers_read() {
        let base = base("https://example.com/livekit/").unwrap();
        let offer = Description { id: 7, sdp: "v=0".into() };
        let facts = ("m".to_owned(), [("a".to_owned(), "1".to_owned())].into());
        let LinkRequest { url, token } = join(&base, &Secret("jwt".into()), &offer, facts);
        assert_eq!(token.0, "jwt");
        let encoded = url.strip_prefix("wss://example.com/livekit/rtc/v1?join_request=").unwrap().replace("%3D", "=");
        let wrapped = proto::WrappedJoinRequest::decode(URL_SAFE.decode(encoded).unwrap().as_slice()).unwrap();
        let request = proto::JoinRequest::decode(wrapped.join_request.as_slice()).unwrap();
        assert_eq!(request.publisher_offer.unwrap().id, 7);
        assert_eq!((request.metadata.as_str(), request.reconnect), ("m", false));
        assert_eq!(request.client_info.unwrap().protocol, wire::PROTOCOL);
    }

    #[test]
    fn urls_of_other_schemes_and_with_queries_are_refused() {
        assert_eq!(base("ws://a:7880").unwrap(), "ws://a:7880");
        for bad in ["a:7880", "ftp://a", "ws://a?b", "ws://a#b"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_of_http_say_what_helps() {
        let fault = |status| Fault::from(LinkError::Status { status, body: "b".into() });
        assert_eq!((fault(401).code, fault(401).cure), ("not-allowed", Cure::OtherWay));
        assert_eq!((fault(503).code, fault(503).cure), ("refused", Cure::Again));
        assert_eq!((fault(400).code, fault(400).cure), ("refused", Cure::OtherWay));
        assert_eq!(fault(404).code, "not-supported");
        assert!(fault(404).message.contains("LiveKit 1.9.10 or newer is needed"), "{}", fault(404).message);
        let unreachable = Fault::from(LinkError::Unreachable { why: "w".into() });
        assert_eq!((unreachable.code, unreachable.cure), ("unreachable", Cure::Again));
    }
}
