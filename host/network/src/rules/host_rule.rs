//! One line of an allow-list: `[SCHEME://]HOST[:PORT]`.
//!
//! - HOST is a name, `*.` and a name (every name below that one, and not the name itself), or an address, which for IPv6 has brackets.
//! - Without a scheme the connection has TLS (`https` and `wss`), because secrets go over it. For this machine (`localhost`, and
//!   addresses of loopback) it may do without. `http` and `ws` both stand for a connection without TLS, `https` and `wss` for one with.
//! - Without a port it is the one of the scheme: 443 with TLS, 80 without.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Host;

use super::address::{self, Class};
use super::name::{LOCAL_DOMAINS, Name, is_below, is_localhost};
use super::target::Target;

/// Longest line, in bytes: a name has at most 253.
const TEXT_BYTES_MAX: usize = 300;
/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    text: String,
    pattern: Pattern,
    tls: Tls,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Is(Name),
    /// Names below this one.
    Below(String),
}

/// Whether connections have TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    With,
    Without,
    Either,
}

/// Why a line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostRuleError {
    /// Too short or too long.
    #[error("a host has 1 to {TEXT_BYTES_MAX} characters")]
    Length,
    /// Everything at once.
    #[error("`{text}` would allow every server; list the hosts by name, or the hosts of one domain as `*.example.com`")]
    Everything {
        /// The line.
        text: String,
    },
    /// A star in another place.
    #[error("`{text}` has a `*` in a place that means nothing; want `*.example.com`, for all names below that one")]
    Star {
        /// The line.
        text: String,
    },
    /// All names of a registry.
    #[error(
        "`{text}` would allow every name below `.{domain}`; want a domain with at least two parts, as in `*.example.com`"
    )]
    Broad {
        /// The line.
        text: String,
        /// The domain.
        domain: String,
    },
    /// No scheme that can be allowed.
    #[error("`{text}` has the scheme `{scheme}`; want `https`, `wss`, `http` or `ws`, or none")]
    Scheme {
        /// The line.
        text: String,
        /// The scheme.
        scheme: String,
    },
    /// More than a host.
    #[error("`{text}` has more than a host and a port; want no path, no `?`, no `#`, no user and no password")]
    More {
        /// The line.
        text: String,
    },
    /// No port.
    #[error("`{text}` has the port `{port}`; want a number from 1 to 65535")]
    Port {
        /// The line.
        text: String,
        /// The port.
        port: String,
    },
    /// No host.
    #[error(
        "`{text}` has no usable host: {why}; want a name such as `api.example.com`, or an address such as `10.0.0.7` or `[fd00::7]`"
    )]
    Host {
        /// The line.
        text: String,
        /// The fault.
        why: String,
    },
    /// An address in a form that people misread.
    #[error("`{text}` is the address {address}; write it so")]
    Form {
        /// The line.
        text: String,
        /// The address.
        address: IpAddr,
    },
    /// An address that no single server has.
    #[error("`{text}` is {class}; no server has it")]
    NoServer {
        /// The line.
        text: String,
        /// The class, in words.
        class: &'static str,
    },
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(line: &str) -> Result<Self, HostRuleError> {
        if line.trim().is_empty() || line.len() > TEXT_BYTES_MAX {
            return Err(HostRuleError::Length);
        }
        let text = line.trim().to_owned();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text.as_str()),
        };
        let tls = match scheme.as_deref() {
            None => None,
            Some("https" | "wss") => Some(Tls::With),
            Some("http" | "ws") => Some(Tls::Without),
            Some(scheme) => return Err(HostRuleError::Scheme { scheme: scheme.into(), text: text.clone() }),
        };
        if rest.contains(['/', '?', '#', '@', '\\']) || rest.contains(char::is_whitespace) {
            return Err(HostRuleError::More { text });
        }
        let (host, port) = split_port(rest, &text)?;
        let pattern = pattern_of(host, &text)?;
        let tls = tls.unwrap_or(if pattern.is_this_machine() { Tls::Either } else { Tls::With });
        Ok(Self { text, pattern, tls, port })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl HostRule {
    /// Whether the line allows this server.
    pub fn allows(&self, target: &Target) -> bool {
        self.has_host(&target.name) && self.has_way(target)
    }

    /// Whether the line is about this host, whatever its port.
    pub(super) fn has_host(&self, name: &Name) -> bool {
        match (&self.pattern, name) {
            (Pattern::Is(own), name) => own == name,
            (Pattern::Below(domain), Name::Domain(name)) => is_below(name, domain),
            (Pattern::Below(_), Name::Address(_)) => false,
        }
    }

    /// Whether the line names this address, on the way to the target.
    pub(super) fn grants(&self, target: &Target, address: IpAddr) -> bool {
        self.pattern == Pattern::Is(Name::Address(address)) && self.has_way(target)
    }

    fn has_way(&self, target: &Target) -> bool {
        let tls = match self.tls {
            Tls::With => target.secure,
            Tls::Without => !target.secure,
            Tls::Either => true,
        };
        tls && target.port == self.port.unwrap_or(if target.secure { 443 } else { 80 })
    }

    /// The narrowest line that allows a server.
    pub(super) fn text_for(target: &Target) -> String {
        line(&target.name, target)
    }

    /// The narrowest line that grants an address on the way to a server.
    pub(super) fn text_for_address(target: &Target, address: IpAddr) -> String {
        line(&Name::Address(address), target)
    }
}

fn line(name: &Name, target: &Target) -> String {
    let needs_scheme = !target.secure && !Pattern::Is(name.clone()).is_this_machine();
    let scheme = if needs_scheme { "http://" } else { "" };
    let usual = if target.secure { 443 } else { 80 };
    if target.port == usual { format!("{scheme}{name}") } else { format!("{scheme}{name}:{}", target.port) }
}

impl Pattern {
    fn is_this_machine(&self) -> bool {
        match self {
            Self::Is(Name::Address(address)) => address.is_loopback(),
            Self::Is(Name::Domain(name)) | Self::Below(name) => is_localhost(name),
        }
    }
}

/// Host and port of a line.
fn split_port<'a>(rest: &'a str, text: &str) -> Result<(&'a str, Option<u16>), HostRuleError> {
    let (host, port) = match rest.rsplit_once(':') {
        // A colon inside the brackets is part of the address.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Ok((rest, None)),
    };
    if host.contains(':') && !host.starts_with('[') {
        let why = "an address of IPv6 needs brackets".into();
        return Err(HostRuleError::Host { text: text.into(), why });
    }
    let number = port.parse().ok().filter(|number| *number != 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
    let fault = || HostRuleError::Port { port: port.into(), text: text.into() };
    Ok((host, Some(number.ok_or_else(fault)?)))
}

fn pattern_of(host: &str, text: &str) -> Result<Pattern, HostRuleError> {
    let text = || text.to_owned();
    if host == "*" || host == "*." {
        return Err(HostRuleError::Everything { text: text() });
    }
    let (domain, is_below) = host.strip_prefix("*.").map_or((host, false), |domain| (domain, true));
    if domain.contains('*') {
        return Err(HostRuleError::Star { text: text() });
    }
    let parsed = Host::parse(domain).map_err(|error| HostRuleError::Host { text: text(), why: error.to_string() })?;
    let borrowed = match &parsed {
        Host::Domain(name) => Host::Domain(name.as_str()),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    };
    let name = Name::of(borrowed).map_err(|want| HostRuleError::Host { text: text(), why: format!("want {want}") })?;
    match name {
        Name::Address(_) if is_below => Err(HostRuleError::Star { text: text() }),
        Name::Address(address) => {
            if matches!(address, IpAddr::V4(_)) && domain != address.to_string() {
                return Err(HostRuleError::Form { text: text(), address });
            }
            let class = address::class_of(address);
            if class != Class::Public && !class.is_for_one_host() {
                return Err(HostRuleError::NoServer { text: text(), class: class.in_words() });
            }
            Ok(Pattern::Is(Name::Address(address)))
        }
        Name::Domain(domain) if is_below => {
            if !domain.contains('.') && !LOCAL_DOMAINS.contains(&domain.as_str()) {
                return Err(HostRuleError::Broad { text: text(), domain });
            }
            Ok(Pattern::Below(domain))
        }
        Name::Domain(name) => Ok(Pattern::Is(Name::Domain(name))),
    }
}
