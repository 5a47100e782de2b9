//! The host of a server: a name or an address.

use std::fmt;
use std::net::IpAddr;

use url::Host;

/// Longest name, in bytes (RFC 1035, in text).
const NAME_BYTES_MAX: usize = 253;
/// Domains that no public name server answers for: RFC 6761, 6762 and 8375, and ICANN's resolution of 29 July 2024.
pub(super) const LOCAL_DOMAINS: [&str; 4] = ["localhost", "local", "home.arpa", "internal"];

/// The host of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// In lower case, in ASCII (punycode), without a dot at its end.
    Domain(String),
    /// An address of IPv4 in a form of IPv6 is one of IPv4 here.
    Address(IpAddr),
}

impl Name {
    /// The host of a parsed URL.
    pub(super) fn of(host: Host<&str>) -> Result<Self, &'static str> {
        match host {
            Host::Ipv4(address) => Ok(Self::Address(address.into())),
            Host::Ipv6(address) => Ok(Self::Address(IpAddr::V6(address).to_canonical())),
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let has_labels = name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
                if !has_labels || name.len() > NAME_BYTES_MAX {
                    return Err("labels of 1 to 63 characters between dots, 253 in all");
                }
                Ok(Self::Domain(name))
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => out.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(out, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(out, "[{address}]"),
        }
    }
}

/// Whether a name is this machine's.
pub(super) fn is_localhost(name: &str) -> bool {
    name == "localhost" || is_below(name, "localhost")
}

/// Whether no public name server answers for a name.
pub(super) fn is_local(name: &str) -> bool {
    !name.contains('.') || LOCAL_DOMAINS.iter().any(|domain| is_below(name, domain))
}

/// Whether a name is below a domain, and not the domain itself.
pub(super) fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}
