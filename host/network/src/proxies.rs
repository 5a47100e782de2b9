//! Which proxy leads to a server, by the variables that curl reads.
//!
//! `http_proxy`, `https_proxy` and `all_proxy` name proxies, and `no_proxy` lists hosts, domains and networks without one. The name
//! in lower case takes precedence over the one in upper case, and an empty value stands for no proxy. As most programs do, and other
//! than curl, `HTTP_PROXY` is read too, except in a CGI program, where a caller could set it. A connection to this machine never has
//! a proxy: its token is for this machine alone.

use std::net::IpAddr;
use std::sync::OnceLock;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::fault::ConnectionError;

const HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NONE: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// Set in a CGI program, where `HTTP_PROXY` is the header `Proxy` of a caller.
const CGI: &str = "REQUEST_METHOD";
/// Stands for a proxy that cannot be parsed, so that no connection goes past it.
const UNUSABLE: &str = "http://unusable.invalid";

/// The proxies of one process.
pub(crate) struct Proxies {
    matcher: Matcher,
    /// The variables whose values name no HTTP proxy, for `http` and for `https`.
    unusable: [Option<&'static str>; 2],
}

impl Proxies {
    /// The proxies of this process. Its environment does not change.
    pub(crate) fn of_process() -> &'static Self {
        static PROXIES: OnceLock<Proxies> = OnceLock::new();
        PROXIES
            .get_or_init(|| Self::new(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())))
    }

    fn new(variable: impl Fn(&'static str) -> Option<String>) -> Self {
        let in_cgi = variable(CGI).is_some();
        let first = |names: &[&'static str]| {
            let names = names.iter().filter(|name| !(in_cgi && **name == "HTTP_PROXY"));
            names.copied().find_map(|name| Some((name, variable(name)?.trim().to_owned())))
        };
        let [(http, http_fault), (https, https_fault)] = [first(&HTTP), first(&HTTPS)].map(checked);
        let (_, without) = first(&NONE).unwrap_or_default();
        // The matcher wants commas; curl takes spaces too.
        let without = without.split_whitespace().collect::<Vec<_>>().join(",");
        let matcher = Matcher::builder().http(http).https(https).no(without).build();
        Self { matcher, unusable: [http_fault, https_fault] }
    }

    /// The proxy to a server at an `http` or `https` URL.
    pub(crate) fn proxy_of(&self, server: &Uri) -> Result<Option<Intercept>, ConnectionError> {
        if server.host().is_none_or(is_this_machine) {
            return Ok(None);
        }
        let Some(proxy) = self.matcher.intercept(server) else { return Ok(None) };
        let [http, https] = self.unusable;
        match if server.scheme_str() == Some("https") { https } else { http } {
            Some(variable) => Err(ConnectionError::ProxySetting { variable }),
            None => Ok(Some(proxy)),
        }
    }
}

/// The value of a variable for the matcher, and the name of the variable where the value names no HTTP proxy.
fn checked(setting: Option<(&'static str, String)>) -> (String, Option<&'static str>) {
    let Some((variable, value)) = setting.filter(|(_, value)| !value.is_empty()) else { return (String::new(), None) };
    let parsed = Matcher::builder().http(&value).build().intercept(&Uri::from_static("http://server.invalid"));
    let usable = parsed.is_some_and(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")));
    if usable { (value, None) } else { (UNUSABLE.into(), Some(variable)) }
}

/// Whether a host is this machine, whatever it is called.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authority of the proxy to a server, in an environment.
    fn proxy(variables: &[(&'static str, &str)], server: &'static str) -> Option<String> {
        let proxies = Proxies::new(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        });
        let proxy = proxies.proxy_of(&Uri::from_static(server)).unwrap();
        proxy.map(|proxy| proxy.uri().authority().unwrap().to_string())
    }

    #[test]
    fn proxies_are_found_by_the_rules_of_curl() {
        let both = [("HTTP_PROXY", "http://plain:1"), ("HTTPS_PROXY", "http://tls:2")];
        for (variables, server, wanted) in [
            (&both[..], "http://a.test", Some("plain:1")),
            (&both[..], "https://a.test", Some("tls:2")),
            (&[("https_proxy", "lower:1"), ("HTTPS_PROXY", "upper:2")], "https://a.test", Some("lower:1")),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "upper:2")], "https://a.test", None),
            (&[("https_proxy", ""), ("ALL_PROXY", "all:2")], "https://a.test", None),
            (&[("ALL_PROXY", "all:1")], "http://a.test", Some("all:1")),
            (&[("ALL_PROXY", "all:1"), ("https_proxy", "tls:2")], "https://a.test", Some("tls:2")),
            (&[("ALL_PROXY", "http://me:word@all:1")], "https://a.test", Some("all:1")),
            // A caller of a CGI program sets `HTTP_PROXY` by a header.
            (&[("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")], "http://a.test", None),
            (&[("http_proxy", "good:1"), ("REQUEST_METHOD", "GET")], "http://a.test", Some("good:1")),
            (&[], "https://a.test", None),
        ] {
            assert_eq!(proxy(variables, server).as_deref(), wanted, "{variables:?} {server}");
        }
    }

    #[test]
    fn hosts_and_networks_of_no_proxy_are_reached_directly() {
        for (without, server, direct) in [
            ("a.test", "http://a.test", true),
            ("a.test", "http://b.a.test:7880", true),
            ("a.test", "http://ba.test", false),
            (".a.test", "http://b.A.test", true),
            ("x.test, 10.0.0.0/8", "http://10.1.2.3", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("10.1.2.3 fd00::/8", "http://[fd00::1]:80", true),
            ("*", "http://c.test", true),
            ("", "http://c.test", false),
        ] {
            let variables = [("all_proxy", "proxy:1"), ("NO_PROXY", without)];
            assert_eq!(proxy(&variables, server).is_none(), direct, "{without} {server}");
        }
    }

    #[test]
    fn connections_to_this_machine_have_no_proxy() {
        for server in [
            "http://127.0.0.1:8081",
            "https://localhost",
            "http://LocalHost.:80",
            "http://a.localhost",
            "http://[::1]:80",
            "http://[::ffff:127.0.0.9]",
            "http://127.8.9.10",
            "http://0.0.0.0:7880",
        ] {
            assert_eq!(proxy(&[("ALL_PROXY", "http://all:1")], server), None, "{server}");
        }
        assert!(proxy(&[("ALL_PROXY", "http://all:1")], "http://localhost.test").is_some());
    }

    #[test]
    fn unusable_proxy_is_an_error_and_not_a_direct_connection() {
        for value in ["socks5://a:1", "http://", "http://a b", "ftp://a"] {
            let proxies = Proxies::new(|name| (name == "ALL_PROXY").then(|| value.to_owned()));
            let fault = proxies.proxy_of(&Uri::from_static("https://a.test")).map(|proxy| proxy.is_some());
            assert_eq!(fault, Err(ConnectionError::ProxySetting { variable: "ALL_PROXY" }), "{value}");
        }
    }
}
