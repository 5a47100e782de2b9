//! A request as it is sent, and what it becomes by a redirect. Pure.
//!
//! Redirects are those of the Fetch standard: 301 and 302 turn `POST` into `GET`, 303 turns everything but `GET` and `HEAD` into it, 307
//! and 308 keep the method and the body. A body that is written in parts cannot be sent again, so that only 303 can follow it. What
//! proves who the agent is (`authorization`, `cookie`) stays with its server.

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use wasm_worker_core::network::command::HttpRequest;
use wasm_worker_core::network::event::Failure;

use crate::failure::{failure, invalid};
use crate::headers;
use crate::rules::Rules;
use crate::rules::target::{Kind, Target};

/// What the host decompresses.
const ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate");
/// The name of the program, where the agent has none. Some servers refuse requests without one.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("wasm-worker/", env!("CARGO_PKG_VERSION")));

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    None,
    Whole(Bytes),
    /// Written in parts. The length, where the agent told it.
    Parts(Option<u64>),
}

/// A request, without what the host adds for its server.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

impl Outgoing {
    /// Check a request of an agent.
    pub(crate) fn new(request: HttpRequest, is_in_parts: bool, rules: &Rules, bytes_max: u64) -> Result<Self, Failure> {
        let method = method_of(&request.method)?;
        let target = rules.check_url(&request.url, Kind::Http)?;
        let given = headers::read(&request.headers)?;
        let mut headers = given.headers;
        headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
        let encodings = if given.wants_identity { HeaderValue::from_static("identity") } else { ENCODINGS };
        headers.insert(header::ACCEPT_ENCODING, encodings);
        let length = given.content_length.unwrap_or_default().max(request.body.len() as u64);
        if length > bytes_max {
            return Err(failure(
                "too-large",
                format!("the body of the request has {length} bytes, and may have {bytes_max}"),
            ));
        }
        let has_body = !matches!(method, Method::GET | Method::HEAD);
        let content = if is_in_parts {
            Content::Parts(given.content_length)
        } else if request.body.is_empty() && !has_body {
            Content::None
        } else {
            Content::Whole(request.body.into())
        };
        Ok(Self { method, target, headers, content })
    }

    /// What an answer redirects to; none where it does not.
    pub(crate) fn redirected(
        &mut self,
        status: StatusCode,
        location: Option<&str>,
        rules: &Rules,
    ) -> Result<bool, Failure> {
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(false);
        }
        let (Some(location), from) = (location, self.target.shown()) else { return Ok(false) };
        if matches!(self.content, Content::Parts(_)) && status != StatusCode::SEE_OTHER {
            return Err(failure(
                "redirect",
                format!(
                    "`{from}` redirects a request whose body is written in parts ({}); send the body whole",
                    status.as_u16()
                ),
            ));
        }
        let next = self.target.url.join(location);
        let next =
            next.map_err(|error| failure("redirect", format!("`{from}` redirects to an URL that is none: {error}")))?;
        let redirected =
            |failure: Failure| Failure { message: format!("`{from}` redirects: {}", failure.message), ..failure };
        let target = rules.check_url(next.as_str(), Kind::Http).map_err(redirected)?;
        let becomes_get = match status.as_u16() {
            301 | 302 => self.method == Method::POST,
            303 => !matches!(self.method, Method::GET | Method::HEAD),
            _ => false,
        };
        if becomes_get {
            (self.method, self.content) = (Method::GET, Content::None);
            self.drop_headers(&[
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LOCATION,
                header::CONTENT_TYPE,
            ]);
        }
        if !target.has_same_origin(&self.target) {
            self.drop_headers(&[header::AUTHORIZATION, header::COOKIE]);
        }
        self.target = target;
        Ok(true)
    }

    fn drop_headers(&mut self, names: &[HeaderName]) {
        for name in names {
            self.headers.remove(name);
        }
    }
}

fn method_of(method: &str) -> Result<Method, Failure> {
    // As in the Fetch standard: the usual names in any case, and none that is about the connection.
    let upper = method.to_ascii_uppercase();
    let method = match upper.as_str() {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH" => upper.as_str(),
        "CONNECT" | "TRACE" | "TRACK" => {
            return Err(invalid(format!("the method `{upper}` is about the connection, which is the host's")));
        }
        _ => method,
    };
    Method::from_bytes(method.as_bytes()).map_err(|_| invalid("the method is none; want one such as `GET` or `POST`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::new(
            "helper".into(),
            ["a.test", "b.test", "http://plain.test"].map(|line| line.parse().unwrap()).to_vec(),
        )
    }

    fn request(method: &str, body: &str) -> HttpRequest {
        let headers = [("authorization", "mine"), ("cookie", "c"), ("content-type", "text/plain"), ("x-a", "1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        HttpRequest {
            method: method.into(),
            url: "https://a.test/x/y?z#f".into(),
            headers,
            body: body.into(),
            ..HttpRequest::default()
        }
    }

    fn outgoing(method: &str, body: &str, in_parts: bool) -> Outgoing {
        Outgoing::new(request(method, body), in_parts, &rules(), 1_000).unwrap()
    }

    #[test]
    fn redirects_follow_the_fetch_standard() {
        for (method, status, becomes, keeps_body) in [
            ("POST", 301, "GET", false),
            ("POST", 302, "GET", false),
            ("PUT", 301, "PUT", true),
            ("PUT", 303, "GET", false),
            ("HEAD", 303, "HEAD", true),
            ("POST", 307, "POST", true),
            ("DELETE", 308, "DELETE", true),
        ] {
            let mut outgoing = outgoing(method, "body", false);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(outgoing.redirected(status, Some("../other?q"), &rules()), Ok(true));
            assert_eq!((outgoing.method.as_str(), outgoing.target.url.as_str()), (becomes, "https://a.test/other?q"));
            assert_eq!(outgoing.content != Content::None, keeps_body, "{method} {status}");
            assert_eq!(outgoing.headers.contains_key("content-type"), keeps_body, "{method} {status}");
            assert!(outgoing.headers.contains_key("authorization"), "the server is the same");
        }
    }

    #[test]
    fn credentials_stay_with_their_server_and_every_hop_is_checked() {
        let found = StatusCode::FOUND;
        let mut other = outgoing("GET", "", false);
        assert_eq!(other.redirected(found, Some("//b.test/x"), &rules()), Ok(true));
        assert!(!other.headers.contains_key("authorization") && !other.headers.contains_key("cookie"));
        assert!(other.headers.contains_key("x-a"));
        for (location, code) in [
            ("http://127.0.0.1/", "not-allowed"),
            ("http://a.test/", "not-allowed"),
            ("https://c.test/", "not-allowed"),
            ("file:///etc/passwd", "invalid"),
            ("https://me:word@b.test/", "invalid"),
            ("https://[", "redirect"),
        ] {
            let failure = outgoing("GET", "", false).redirected(found, Some(location), &rules()).unwrap_err();
            assert!(failure.code == code && failure.message.starts_with("`https://a.test` redirects"), "{failure:?}");
        }
        assert_eq!(outgoing("GET", "", false).redirected(found, None, &rules()), Ok(false));
        assert_eq!(outgoing("GET", "", false).redirected(StatusCode::NOT_MODIFIED, Some("/"), &rules()), Ok(false));
    }

    #[test]
    fn a_body_in_parts_is_not_sent_twice() {
        let status = StatusCode::TEMPORARY_REDIRECT;
        assert_eq!(outgoing("POST", "", true).redirected(status, Some("/"), &rules()).unwrap_err().code, "redirect");
        assert_eq!(outgoing("POST", "", true).redirected(StatusCode::SEE_OTHER, Some("/"), &rules()), Ok(true));
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        for method in ["CONNECT", "trace", "a b", "", "GET\r\n"] {
            assert_eq!(
                Outgoing::new(request(method, ""), false, &rules(), 10).unwrap_err().code,
                "invalid",
                "{method}"
            );
        }
        assert_eq!(
            Outgoing::new(request("post", "too long for it"), false, &rules(), 10).unwrap_err().code,
            "too-large"
        );
        assert_eq!(
            (outgoing("post", "", false).method, outgoing("Custom", "", false).method.as_str()),
            (Method::POST, "Custom")
        );
    }
}
