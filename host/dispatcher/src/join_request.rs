//! The request by which a client joins a room: a message of LiveKit's protocol in a query value, or the query itself where the client
//! has two peer connections. Pure.
//!
//! Bounds: [`REQUEST_BYTES_MAX`] for a request, compressed or not. The head of the HTTP request bounds the text and the query.

use std::collections::HashMap;
use std::io::Read;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol as proto;
use prost::Message;
use proto::client_info::Capability;
use proto::wrapped_join_request::Compression;
use serde::Deserialize;

/// Largest request, in bytes: most of one is the offer of the client.
const REQUEST_BYTES_MAX: usize = 512 << 10;
/// SDKs differ in the padding.
const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);

/// The request cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinRequestError {
    /// The text is not base64.
    #[error("`join_request` is not base64")]
    Base64,
    /// The bytes are no `WrappedJoinRequest`, or hold no `JoinRequest`.
    #[error("`join_request` holds no `JoinRequest`")]
    Malformed,
    /// The compression is unknown, or its data is damaged.
    #[error("`join_request` cannot be decompressed")]
    Compression,
    /// The request is too long.
    #[error("`join_request` has more than {REQUEST_BYTES_MAX} bytes")]
    TooLong,
    /// The attributes in the query of a client with two peer connections cannot be read.
    #[error("`attributes` is no JSON object of texts in base64")]
    Attributes,
}

/// The query of a client with two peer connections, as far as the host needs it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct QueryRequest {
    protocol: Option<String>,
    client_protocol: Option<String>,
    capabilities: Option<String>,
    auto_subscribe: Option<String>,
    reconnect: Option<String>,
    sid: Option<String>,
    attributes: Option<String>,
}

impl QueryRequest {
    /// The request that says the same. As in LiveKit's server, a client that does not say so hears all.
    pub(crate) fn into_request(self) -> Result<proto::JoinRequest, JoinRequestError> {
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
        let is_yes = |text: &str| text == "1" || text == "true";
        let named = |name| Capability::from_str_name(name).map(|capability| capability as i32);
        let client_info = proto::ClientInfo {
            protocol: number(self.protocol),
            client_protocol: number(self.client_protocol),
            capabilities: self.capabilities.unwrap_or_default().split(',').filter_map(named).collect(),
            ..Default::default()
        };
        let auto_subscribe = self.auto_subscribe.filter(|text| !text.is_empty()).is_none_or(|text| is_yes(&text));
        Ok(proto::JoinRequest {
            client_info: Some(client_info),
            connection_settings: Some(proto::ConnectionSettings { auto_subscribe, ..Default::default() }),
            participant_attributes: self.attributes.as_deref().map(attributes).transpose()?.unwrap_or_default(),
            reconnect: self.reconnect.as_deref().is_some_and(is_yes),
            participant_sid: self.sid.unwrap_or_default(),
            ..Default::default()
        })
    }
}

/// The attributes in a query value; none where it is empty.
fn attributes(text: &str) -> Result<HashMap<String, String>, JoinRequestError> {
    if text.is_empty() {
        return Ok(HashMap::new());
    }
    let bytes = base64_bytes(text).map_err(|_| JoinRequestError::Attributes)?;
    serde_json::from_slice(&bytes).map_err(|_| JoinRequestError::Attributes)
}

/// The request in a query value.
pub(crate) fn read(text: &str) -> Result<proto::JoinRequest, JoinRequestError> {
    let bytes = base64_bytes(text)?;
    let wrapped = proto::WrappedJoinRequest::decode(bytes.as_slice()).map_err(|_| JoinRequestError::Malformed)?;
    let bytes = match Compression::try_from(wrapped.compression) {
        Ok(Compression::None) => wrapped.join_request,
        Ok(Compression::Gzip) => unzipped(&wrapped.join_request)?,
        Err(_) => return Err(JoinRequestError::Compression),
    };
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(JoinRequestError::TooLong);
    }
    proto::JoinRequest::decode(bytes.as_slice()).map_err(|_| JoinRequestError::Malformed)
}

fn base64_bytes(text: &str) -> Result<Vec<u8>, JoinRequestError> {
    // A plus sign of the standard alphabet is a space in a query.
    let text = text.replace(' ', "+");
    URL_SAFE.decode(&text).or_else(|_| STANDARD.decode(&text)).map_err(|_| JoinRequestError::Base64)
}

fn unzipped(bytes: &[u8]) -> Result<Vec<u8>, JoinRequestError> {
    let mut plain = Vec::new();
    let most = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(bytes).take(most).read_to_end(&mut plain).map_err(|_| JoinRequestError::Compression)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn wrapped(compression: Compression, join_request: Vec<u8>) -> Vec<u8> {
        proto::WrappedJoinRequest { compression: compression as i32, join_request }.encode_to_vec()
    }

    #[test]
    fn both_alphabets_any_padding_and_gzip_are_read() {
        // Bytes whose text has both characters that the alphabets do not share.
        let request = proto::JoinRequest { metadata: "ûûû???>>>".into(), reconnect: true, ..Default::default() };
        let plain = request.encode_to_vec();
        for bytes in [wrapped(Compression::None, plain.clone()), wrapped(Compression::Gzip, zipped(&plain))] {
            let url_safe = base64::engine::general_purpose::URL_SAFE.encode(&bytes);
            let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let in_query = standard.replace('+', " ");
            for text in
                [&url_safe, &standard, &in_query, url_safe.trim_end_matches('='), standard.trim_end_matches('=')]
            {
                assert_eq!(read(text), Ok(request.clone()), "{text}");
            }
        }
    }

    #[test]
    fn query_of_a_client_with_two_peer_connections_says_the_same() {
        let request = |query: QueryRequest| query.into_request().unwrap();
        let nothing = request(QueryRequest::default());
        assert!(nothing.connection_settings.unwrap().auto_subscribe && !nothing.reconnect);
        let text = |text: &str| Some(text.to_owned());
        let attributes = base64::engine::general_purpose::URL_SAFE.encode(r#"{"a":"?>"}"#);
        let query = QueryRequest {
            protocol: text("16"),
            client_protocol: text("much"),
            capabilities: text("CAP_PACKET_TRAILER,CAP_OTHER"),
            auto_subscribe: text("0"),
            reconnect: text("1"),
            sid: text("PA_1"),
            attributes: Some(attributes),
        };
        let expected = proto::JoinRequest {
            client_info: Some(proto::ClientInfo {
                protocol: 16,
                capabilities: vec![Capability::CapPacketTrailer as i32],
                ..Default::default()
            }),
            connection_settings: Some(proto::ConnectionSettings::default()),
            participant_attributes: HashMap::from([("a".into(), "?>".into())]),
            reconnect: true,
            participant_sid: "PA_1".into(),
            ..Default::default()
        };
        assert_eq!(request(query), expected);
        for wrong in ["%", "e30", "WzFd"] {
            let read = QueryRequest { attributes: text(wrong), ..Default::default() }.into_request();
            assert_eq!(read.is_ok(), wrong == "e30", "{wrong}");
        }
    }

    #[test]
    fn faults_are_told_apart_and_bombs_are_bounded() {
        let text = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE.encode(bytes);
        assert_eq!(read("%%%"), Err(JoinRequestError::Base64));
        assert_eq!(read(&text(&[0xff; 9])), Err(JoinRequestError::Malformed));
        assert_eq!(read(&text(&wrapped(Compression::None, vec![0xff; 9]))), Err(JoinRequestError::Malformed));
        assert_eq!(read(&text(&wrapped(Compression::Gzip, vec![1, 2, 3]))), Err(JoinRequestError::Compression));
        let unknown = proto::WrappedJoinRequest { compression: 9, join_request: Vec::new() }.encode_to_vec();
        assert_eq!(read(&text(&unknown)), Err(JoinRequestError::Compression));
        let bomb = wrapped(Compression::Gzip, zipped(&vec![0; 100 << 20]));
        assert!(bomb.len() < 1 << 20);
        assert_eq!(read(&text(&bomb)), Err(JoinRequestError::TooLong));
    }
}
