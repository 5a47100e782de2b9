//! The `Host` and `Origin` headers that a listener answers.
//!
//! The browser of a developer reaches every port of that machine, and a page of any web site can make it send requests and open
//! WebSockets. Two headers, which no page can set, show it. A name that the page's owner controls may lead to 127.0.0.1, so a
//! listener on loopback answers to no name but `localhost`. A request that a page of another origin sent is refused on every
//! listener. Programs other than browsers send no `Origin`.
//!
//! Rooms are for pages of any origin: a front end is served from elsewhere. Nothing but the token, which no browser adds by itself,
//! opens them. With the development key every page can make such a token: then rooms are for pages of this machine only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Json;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use wasm_worker_core::api::Problem;
use wasm_worker_core::text::clip;

/// The one host name that always means this machine.
const LOCALHOST: &str = "localhost";

/// The rule of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostRule {
    bound: IpAddr,
}

/// A request that the listener does not answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// The request is for another host.
    Host(String),
    /// A page of another origin sent the request.
    Origin(String),
}

impl IntoResponse for Foreign {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Host(host) => {
                let why = "this address is for this machine only: want `localhost` or a loopback address as the host";
                (StatusCode::MISDIRECTED_REQUEST, format!("{why}, got `{}`", clip(&host)))
            }
            Self::Origin(origin) => {
                let why = "a web page of another origin sent the request";
                (StatusCode::FORBIDDEN, format!("{why}: `{}`", clip(&origin)))
            }
        };
        (status, Json(Problem { error })).into_response()
    }
}

impl HostRule {
    /// The rule of a listener that is bound to this address.
    pub(crate) fn of(address: SocketAddr) -> Self {
        Self { bound: address.ip().to_canonical() }
    }

    /// Check the head of a request.
    pub(crate) fn check(self, uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let named = headers.get_all(HOST).iter().map(text);
        // The authority of an absolute URI takes precedence over the header.
        let absolute = uri.authority().map(|authority| authority.as_str().to_owned());
        let hosts: Vec<String> = absolute.into_iter().chain(named).collect();
        if self.bound.is_loopback()
            && let Some(foreign) = hosts.iter().find(|host| !self.is_local(host))
        {
            return Err(Foreign::Host(foreign.clone()));
        }
        if is_room(uri.path()) {
            return Ok(());
        }
        let is_foreign = |origin: &String| hosts.is_empty() || hosts.iter().any(|host| !is_same_origin(origin, host));
        let mut origins = headers.get_all(ORIGIN).iter().map(text);
        match origins.find(is_foreign) {
            Some(origin) => Err(Foreign::Origin(origin)),
            None => Ok(()),
        }
    }

    /// Whether this is a name of the machine itself, with any port: a tunnel may have another one.
    fn is_local(self, host: &str) -> bool {
        let Some((name, _)) = name_and_port(host) else { return false };
        let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let is_ours = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.to_canonical() == self.bound;
        name == LOCALHOST || address.is_some_and(is_ours)
    }
}

/// The first origin of a request that is no page of this machine, with any port.
pub(crate) fn origin_from_elsewhere(headers: &HeaderMap) -> Option<String> {
    let loopback = HostRule { bound: Ipv4Addr::LOCALHOST.into() };
    let is_ours = |origin: &String| origin.split_once("://").is_some_and(|(_, host)| loopback.is_local(host));
    let mut origins =
        headers.get_all(ORIGIN).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    origins.find(|origin| !is_ours(origin))
}

/// Whether a path is one of those by which clients join rooms.
pub(crate) fn is_room(path: &str) -> bool {
    path == "/rtc" || path.starts_with("/rtc/")
}

/// Whether a page of this origin came from this host.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let of = |text: &str| name_and_port(text).map(|(name, port)| (name, port.unwrap_or(default)));
    of(authority).is_some_and(|origin| of(host) == Some(origin))
}

/// The name in lower case, and the port where there is one.
fn name_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let parsed: Authority = authority.parse().ok()?;
    let valid = !parsed.as_str().contains('@');
    valid.then(|| (parsed.host().to_ascii_lowercase(), parsed.port_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bound: &str, host: &str, origin: Option<&str>) -> u16 {
        let headers = [(HOST, Some(host)), (ORIGIN, origin)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?.parse().unwrap()))).collect();
        let checked = HostRule::of(bound.parse().unwrap()).check(&Uri::from_static("/agent"), &headers);
        checked.err().map_or(200, |foreign| foreign.into_response().status().as_u16())
    }

    #[test]
    fn loopback_listener_answers_to_names_of_this_machine_only() {
        for local in ["localhost", "LOCALHOST:7880", "127.0.0.1:7880", "[::1]:7880", "127.0.0.1:9", "127.9.9.9"] {
            assert_eq!(check("127.0.0.1:7880", local, None), 200, "{local}");
        }
        for foreign in
            ["evil.example", "evil.example:7880", "localhost.evil.example", "10.0.0.1:7880", "a@localhost", "a b", ""]
        {
            assert_eq!(check("127.0.0.1:7880", foreign, None), 421, "{foreign}");
        }
        assert_eq!(check("[::1]:7880", "[::1]:7880", None), 200);
        assert_eq!(check("10.0.0.1:7880", "agents.example", None), 200, "others reach it by any name");
        assert_eq!(check("0.0.0.0:7880", "agents.example", None), 200);
    }

    #[test]
    fn page_of_another_origin_is_refused_on_every_listener() {
        for bound in ["127.0.0.1:7880", "0.0.0.0:7880"] {
            for foreign in
                ["https://evil.example", "http://127.0.0.1:3000", "http://localhost:7880", "null", "file://", ""]
            {
                assert_eq!(check(bound, "127.0.0.1:7880", Some(foreign)), 403, "{bound} {foreign}");
            }
            assert_eq!(check(bound, "127.0.0.1:7880", Some("http://127.0.0.1:7880")), 200);
        }
        // A proxy that terminates TLS passes the host on.
        assert_eq!(check("0.0.0.0:7880", "agents.example", Some("https://agents.example")), 200);
        assert_eq!(check("0.0.0.0:7880", "agents.example:443", Some("https://AGENTS.example")), 200);
        assert_eq!(check("0.0.0.0:7880", "agents.example:7880", Some("https://agents.example")), 403);
    }

    #[test]
    fn pages_of_this_machine_have_a_loopback_origin_with_any_port() {
        let from_elsewhere = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            origin_from_elsewhere(&headers)
        };
        assert_eq!(from_elsewhere(&[]), None, "no browser");
        for ours in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:9", "http://LOCALHOST"] {
            assert_eq!(from_elsewhere(&[ours]), None, "{ours}");
            let other = "https://front.example";
            assert_eq!(from_elsewhere(&[ours, other]).as_deref(), Some(other));
        }
        for other in ["null", "", "file://", "http://localhost.evil.example", "http://10.0.0.1", "localhost"] {
            assert_eq!(from_elsewhere(&[other]).as_deref(), Some(other), "{other}");
        }
    }

    #[test]
    fn rooms_are_for_pages_of_any_origin() {
        let rule = HostRule::of("127.0.0.1:7880".parse().unwrap());
        let check = |path: &'static str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(ORIGIN, "https://front.example".parse().unwrap());
            rule.check(&Uri::from_static(path), &headers)
        };
        for path in ["/rtc", "/rtc/v1?join_request=a", "/rtc/v1/validate"] {
            assert_eq!(check(path, "localhost:7880"), Ok(()), "{path}");
            assert!(check(path, "evil.example").is_err(), "{path}");
        }
        assert!(check("/rtcx", "localhost:7880").is_err() && check("/agent", "localhost:7880").is_err());
    }

    #[test]
    fn absolute_uri_and_a_second_host_are_checked_too() {
        let rule = HostRule::of("127.0.0.1:7880".parse().unwrap());
        let host = |names: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(HOST, (*name).parse().unwrap());
            }
            headers
        };
        let absolute = Uri::from_static("http://evil.example/");
        assert_eq!(rule.check(&absolute, &host(&["localhost"])), Err(Foreign::Host("evil.example".into())));
        let relative = Uri::from_static("/");
        assert!(rule.check(&relative, &host(&["localhost", "evil.example"])).is_err());
        // HTTP/1.0 has no `Host`; browsers always send one.
        assert_eq!(rule.check(&relative, &host(&[])), Ok(()));
    }
}
