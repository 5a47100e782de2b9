//! The request of a WebSocket, and the check of its answer (RFC 6455, section 4). By `hyper`, whose bounds of heads hold. A server may
//! choose no protocol where several were offered, but no other.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use wasm_worker_core::network::command::SocketRequest;
use wasm_worker_core::network::event::Failure;

use crate::failure::{failure, invalid};
use crate::headers;
use crate::rules::Rules;
use crate::rules::target::{Kind, Target};

/// Most protocols that are offered.
const PROTOCOLS_MAX: usize = 32;

/// A handshake, without what the host adds for its server.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    protocols: Vec<String>,
    key: String,
}

impl Handshake {
    /// Check the request of an agent.
    pub(crate) fn new(request: &SocketRequest, rules: &Rules) -> Result<Self, Failure> {
        let target = rules.check_url(&request.url, Kind::Socket)?;
        let mut headers = headers::read(&request.headers)?.headers;
        let is_token = |protocol: &String| HeaderName::from_bytes(protocol.as_bytes()).is_ok();
        if request.protocols.len() > PROTOCOLS_MAX || !request.protocols.iter().all(is_token) {
            return Err(invalid(format!(
                "a protocol of a WebSocket is a word of visible characters, and there are at most {PROTOCOLS_MAX}"
            )));
        }
        if !request.protocols.is_empty() {
            let list = HeaderValue::from_str(&request.protocols.join(", "));
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, list.map_err(|_| invalid("the protocols are too long"))?);
        }
        let key = generate_key();
        let value = HeaderValue::from_str(&key).map_err(|_| failure("fault", "no key for the handshake"))?;
        headers.insert(header::SEC_WEBSOCKET_KEY, value);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let host = target.url.port().map_or_else(|| target.name.to_string(), |port| format!("{}:{port}", target.name));
        headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|_| invalid("the host is none"))?);
        Ok(Self { target, headers, protocols: request.protocols.clone(), key })
    }

    /// The request on its connection.
    pub(crate) fn request<B>(&self, url: &url::Url, body: B) -> Result<Request<B>, Failure> {
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let uri: Uri = path.parse().map_err(|_| invalid("the URL has characters that HTTP does not allow"))?;
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::GET, uri, self.headers.clone());
        Ok(request)
    }

    /// The protocol that the server chose.
    pub(crate) fn check(&self, status: StatusCode, headers: &HeaderMap) -> Result<String, Failure> {
        let shown = self.target.shown();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let message =
                format!("`{shown}` refuses the WebSocket: {status}; check the path, and what the server wants to know");
            return Err(Failure { status: status.as_u16(), ..failure("refused", message) });
        }
        let has = |name: &HeaderName, wanted: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
        };
        let malformed =
            |what: &str| failure("malformed", format!("`{shown}` answers the handshake of the WebSocket {what}"));
        if !has(&header::UPGRADE, "websocket") || !has(&header::CONNECTION, "upgrade") {
            return Err(malformed("without `upgrade: websocket`"));
        }
        let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accept != Some(derive_accept_key(self.key.as_bytes()).as_bytes()) {
            return Err(malformed("with the key of another one"));
        }
        if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(malformed("with extensions that were not asked for"));
        }
        let Some(chosen) = headers.get(header::SEC_WEBSOCKET_PROTOCOL) else { return Ok(String::new()) };
        let chosen = chosen.to_str().unwrap_or_default();
        let known = self.protocols.iter().find(|protocol| *protocol == chosen);
        known.cloned().ok_or_else(|| malformed("with a protocol that was not offered"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(protocols: &[&str]) -> Result<Handshake, Failure> {
        let rules = Rules::new("helper".into(), vec!["a.test".parse().unwrap()]);
        let headers = [("host", "b.test"), ("sec-websocket-key", "mine"), ("x-a", "1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let protocols = protocols.iter().map(|protocol| (*protocol).to_owned()).collect();
        Handshake::new(
            &SocketRequest { url: "wss://a.test/x?y".into(), headers, protocols, ..SocketRequest::default() },
            &rules,
        )
    }

    #[test]
    fn the_host_owns_the_headers_of_the_handshake() {
        let handshake = handshake(&["one", "two"]).unwrap();
        let request = handshake.request(&handshake.target.url, ()).unwrap();
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()["host"]),
            ("/x?y", &HeaderValue::from_static("a.test"))
        );
        assert!(request.headers()["sec-websocket-key"] != "mine" && request.headers()["x-a"] == "1");
        assert_eq!(request.headers()["sec-websocket-protocol"], "one, two");
        for bad in ["", "a b", "a,b", "a\r\nb"] {
            assert_eq!(super::tests::handshake(&[bad]).unwrap_err().code, "invalid", "{bad}");
        }
    }

    #[test]
    fn answers_are_checked() {
        let handshake = handshake(&["one", "two"]).unwrap();
        let accept = derive_accept_key(handshake.key.as_bytes());
        let switching = StatusCode::SWITCHING_PROTOCOLS;
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", accept.as_str()),
        ];
        let headers = |more: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in good.iter().chain(more) {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        assert_eq!(handshake.check(switching, &headers(&[])), Ok(String::new()));
        assert_eq!(handshake.check(switching, &headers(&[("sec-websocket-protocol", "two")])), Ok("two".into()));
        assert_eq!(handshake.check(switching, &HeaderMap::new()).unwrap_err().code, "malformed");
        for (status, more, code) in [
            (StatusCode::UNAUTHORIZED, ("x", "y"), "refused"),
            (switching, ("sec-websocket-protocol", "three"), "malformed"),
            (switching, ("sec-websocket-extensions", "permessage-deflate"), "malformed"),
            (switching, ("sec-websocket-accept", "other"), "malformed"),
        ] {
            let failure = handshake.check(status, &headers(&[more])).unwrap_err();
            assert_eq!(
                (failure.code, failure.status == 401),
                (code, status == StatusCode::UNAUTHORIZED),
                "{failure:?}"
            );
        }
    }
}
