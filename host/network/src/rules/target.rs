//! The server of a URL, and the URL as it is requested.
//!
//! URLs are read as browsers read them (the URL standard, by the crate `url`): `0x7f000001`, `0177.1` and `127.1` are addresses,
//! full-width digits are digits, names of other scripts are punycode. What is checked is what is connected to.

use std::net::IpAddr;

use url::Url;

use super::name::Name;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 16 << 10;

/// What a URL is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `http` and `https`.
    Http,
    /// `ws` and `wss`.
    Socket,
}

/// A server, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL without its fragment.
    pub url: Url,
    /// The host.
    pub name: Name,
    /// The port.
    pub port: u16,
    /// Host and port.
    pub authority: String,
    /// Whether the connection has TLS.
    pub secure: bool,
}

/// Why a URL cannot be requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Too long.
    #[error("the URL has {0} bytes, and may have {URL_BYTES_MAX}")]
    Long(usize),
    /// No URL.
    #[error("the URL is not usable: {0}; want one such as `{example}`", example = "https://api.example.com/path")]
    Parse(String),
    /// Another scheme.
    #[error("the URL has the scheme `{scheme}`; want {wanted}")]
    Scheme {
        /// The scheme.
        scheme: String,
        /// Those that are possible.
        wanted: &'static str,
    },
    /// A user or a password.
    #[error("the URL has a user or a password; send them in the header `authorization`")]
    Credentials,
}

impl Target {
    /// Read a URL.
    ///
    /// # Errors
    /// When it cannot be requested.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, UrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlError::Long(text.len()));
        }
        let url = Url::parse(text).map_err(|error| UrlError::Parse(error.to_string()))?;
        Self::new(url, kind)
    }

    /// The server of a URL that was read.
    ///
    /// # Errors
    /// When it cannot be requested.
    pub fn new(mut url: Url, kind: Kind) -> Result<Self, UrlError> {
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(UrlError::Long(url.as_str().len()));
        }
        let secure = match (url.scheme(), kind) {
            ("http", Kind::Http) | ("ws", Kind::Socket) => false,
            ("https", Kind::Http) | ("wss", Kind::Socket) => true,
            (scheme, _) => {
                let wanted = match kind {
                    Kind::Http => "`https` or `http`",
                    Kind::Socket => "`wss` or `ws`",
                };
                return Err(UrlError::Scheme { scheme: wasm_worker_core::text::clip(scheme), wanted });
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        url.set_fragment(None);
        let host = url.host().ok_or_else(|| UrlError::Parse("no host".into()))?;
        let name = Name::of(host).map_err(|want| UrlError::Parse(format!("the host is no name: want {want}")))?;
        if let Name::Domain(domain) = &name {
            // Without the dot at its end, which certificates do not have.
            let domain = domain.clone();
            url.set_host(Some(&domain)).map_err(|error| UrlError::Parse(error.to_string()))?;
        }
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or_else(|| UrlError::Parse("the port is 0".into()))?;
        let authority = format!("{name}:{port}");
        Ok(Self { url, name, port, authority, secure })
    }

    /// The address, where the URL has one in the place of a name.
    pub const fn address(&self) -> Option<IpAddr> {
        match self.name {
            Name::Address(address) => Some(address),
            Name::Domain(_) => None,
        }
    }

    /// Scheme, host and port for people, the usual port left out.
    pub fn shown(&self) -> String {
        let (scheme, name) = (self.url.scheme(), &self.name);
        self.url.port().map_or_else(|| format!("{scheme}://{name}"), |port| format!("{scheme}://{name}:{port}"))
    }

    /// Whether both have the same scheme, host and port.
    pub fn has_same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.authority == other.authority
    }
}
