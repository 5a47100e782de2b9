//! The headers that an agent gives and gets.
//!
//! Headers of the connection itself are the host's: those that an agent gives are dropped, because client libraries give them by habit,
//! and nobody means more by them than the host does anyway. `host` is one: the server of the URL is the server that is asked.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use wasm_worker_core::network::command::Headers;
use wasm_worker_core::network::event::{Failure, headers_bytes};

use crate::failure::{failure, invalid};

/// Most headers of a request. Servers take about 100.
pub(crate) const HEADERS_MAX: usize = 100;
/// Most bytes of the headers of a request. Servers take 8 to 64 KiB.
pub(crate) const HEADER_BYTES_MAX: usize = 32 << 10;

/// The headers of a request, as they are sent.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) headers: HeaderMap,
    /// The length of the body, where the agent tells it.
    pub(crate) content_length: Option<u64>,
    /// Whether the agent wants the body as it is.
    pub(crate) wants_identity: bool,
}

/// Whether a header is about the connection, and not about what it carries.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    const OTHERS: [&str; 4] = ["keep-alive", "proxy-connection", "http2-settings", "sec-websocket-key"];
    const OWN: [HeaderName; 15] = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::ACCEPT_ENCODING,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::SEC_WEBSOCKET_PROTOCOL,
        header::SEC_WEBSOCKET_ACCEPT,
    ];
    OWN.contains(name) || OTHERS.contains(&name.as_str())
}

/// Read the headers of an agent.
///
/// # Errors
/// `invalid` or `too-large`.
pub(crate) fn read(given: &Headers) -> Result<Given, Failure> {
    let (count, bytes) = (given.len(), headers_bytes(given));
    if count > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        let message = format!(
            "the request has {count} headers with {bytes} bytes, and may have {HEADERS_MAX} with {HEADER_BYTES_MAX}"
        );
        return Err(failure("too-large", message));
    }
    let mut read = Given::default();
    for (name, value) in given {
        let fault = |what: &str| invalid(format!("the header `{name}` {what}"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault("has a name that HTTP does not allow"))?;
        let value = HeaderValue::from_str(value)
            .or_else(|_| HeaderValue::from_bytes(value.as_bytes()))
            .map_err(|_| fault("has a value with a line feed or another control character"))?;
        if name == header::CONTENT_LENGTH {
            let length = value.to_str().ok().and_then(|length| length.parse().ok());
            read.content_length = Some(length.ok_or_else(|| fault("is no number"))?);
        } else if name == header::ACCEPT_ENCODING {
            read.wants_identity = value.as_bytes().eq_ignore_ascii_case(b"identity");
        } else if !is_of_connection(&name) {
            read.headers.append(name, value);
        }
    }
    Ok(read)
}

/// The headers of an answer, for the agent. Values that are no text have marks for what is none.
pub(crate) fn told(headers: &HeaderMap) -> Headers {
    let is_told = |name: &HeaderName| {
        !matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::TRAILER)
            && name.as_str() != "keep-alive"
    };
    let headers = headers.iter().filter(|(name, _)| is_told(name));
    headers
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn headers_of_the_connection_are_the_hosts() {
        let given = headers(&[
            ("Host", "other.test"),
            ("Content-Length", "12"),
            ("Accept-Encoding", "br"),
            ("Transfer-Encoding", "chunked"),
            ("Keep-Alive", "1"),
            ("X-A", "é"),
            ("x-a", "2"),
        ]);
        let read = read(&given).unwrap();
        assert_eq!((read.headers.len(), read.content_length, read.wants_identity), (2, Some(12), false));
        assert_eq!(told(&read.headers), headers(&[("x-a", "é"), ("x-a", "2")]));
    }

    #[test]
    fn headers_that_would_be_two_are_refused() {
        for (name, value) in
            [("a b", "1"), ("a", "1\r\nb: 2"), ("a\r\nb", "1"), ("", "1"), ("content-length", "x"), ("a", "\0")]
        {
            assert_eq!(read(&headers(&[(name, value)])).unwrap_err().code, "invalid", "{name}: {value}");
        }
        let many = vec![("a".to_owned(), "b".to_owned()); HEADERS_MAX + 1];
        assert_eq!(read(&many).unwrap_err().code, "too-large");
        assert_eq!(read(&headers(&[("a", &"b".repeat(HEADER_BYTES_MAX))])).unwrap_err().code, "too-large");
    }
}
