//! The request by which a client joins a room: a message of LiveKit's protocol in a query value. Pure.
//!
//! Bounds: [`REQUEST_BYTES_MAX`] for a request, compressed or not. The head of the HTTP request bounds the text.

use std::io::Read;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol as proto;
use prost::Message;
use proto::wrapped_join_request::Compression;

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
}

/// The request in a query value.
pub(crate) fn read(text: &str) -> Result<proto::JoinRequest, JoinRequestError> {
    // A plus sign of the standard alphabet is a space in a query.
    let text = text.replace(' ', "+");
    let bytes = URL_SAFE.decode(&text).or_else(|_| STANDARD.decode(&text)).map_err(|_| JoinRequestError::Base64)?;
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
