//! Why an outgoing connection failed. Each text says what was found, what was expected, and what to change.
//!
//! A text does not repeat the URL: the caller names it. It never holds the password of a proxy.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hyper::StatusCode;
use rustls::CertificateError;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub(crate) role: Role,
    /// Host and port.
    pub(crate) authority: String,
    /// Whether the connection has TLS.
    pub(crate) secure: bool,
}

impl Peer {
    /// What a mute peer may expect.
    fn advice(&self) -> &'static str {
        if self.secure { "" } else { "; the port may expect TLS: use a URL with `wss://` or `https://`" }
    }
}

/// What the other end is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Proxy,
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Server => "server",
            Role::Proxy => "proxy",
        };
        write!(out, "the {role} `{}`", self.authority)
    }
}

/// Why a connection, or a request over it, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    #[error("the URL is not usable: want a scheme, a host, a port of at most 65535, and neither `?` nor `#`")]
    Url,
    #[error("the variable `{variable}` names no HTTP proxy; want a URL such as http://proxy:3128")]
    ProxySetting { variable: &'static str },
    #[error("{peer} refused the connection: nothing listens there; check the host and the port")]
    Refused { peer: Peer },
    #[error("no answer from {peer} within {within:?}; check the host, the port and the firewalls")]
    Silent { peer: Peer, within: Duration },
    #[error("{peer} cannot be reached: {why}; check the host and the port")]
    Unreachable { peer: Peer, why: String },
    #[error("{peer} does not speak TLS on this port; use a URL with `ws://` or `http://`, or the port with TLS")]
    NotTls { peer: Peer },
    #[error("no trusted CA signed the certificate of {peer}; set SSL_CERT_FILE to the file of the CA")]
    UnknownIssuer { peer: Peer },
    #[error("the certificate of {peer} is for another name; use a URL with that name")]
    OtherName { peer: Peer },
    #[error(
        "the certificate of {peer} is expired or not yet valid; check the certificate and the clock of this machine"
    )]
    NotValidNow { peer: Peer },
    #[error("the TLS handshake with {peer} failed: {why}")]
    Tls { peer: Peer, why: String },
    #[error("there is no certificate of a CA to trust: {why}; set SSL_CERT_FILE or SSL_CERT_DIR")]
    NoTrust { why: String },
    #[error("{peer} wants a password; set it in the URL of the proxy: http://USER:PASSWORD@HOST:PORT")]
    ProxyPassword { peer: Peer },
    #[error(
        "{peer} refuses a connection to `{server}`: {status}; check the rules of the proxy, or list the host in NO_PROXY"
    )]
    ProxyRefused { peer: Peer, server: String, status: StatusCode },
    #[error("{peer} sends no HTTP{}", peer.advice())]
    NotHttp { peer: Peer },
    #[error("{peer} ended the connection without an answer{}", peer.advice())]
    NoAnswer { peer: Peer },
    #[error("the head of the answer of {peer} is too long")]
    LongHead { peer: Peer },
    #[error("the answer of {peer} has more than {bytes_max} bytes")]
    TooLong { peer: Peer, bytes_max: usize },
    #[error("the request to {peer} failed: {why}")]
    Request { peer: Peer, why: String },
    #[error("the system provides no thread for the connection")]
    NoThread,
}

/// The fault of an attempt to connect.
pub(crate) fn of_attempt(peer: Peer, error: &(dyn Error + 'static), within: Duration) -> ConnectionError {
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => ConnectionError::Refused { peer },
        Some(io::ErrorKind::TimedOut) => ConnectionError::Silent { peer, within },
        _ => ConnectionError::Unreachable { peer, why: innermost(error) },
    }
}

/// The fault of a TLS handshake.
pub(crate) fn of_handshake(peer: Peer, error: &io::Error) -> ConnectionError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => ConnectionError::NotTls { peer },
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::UnknownIssuer => ConnectionError::UnknownIssuer { peer },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ConnectionError::OtherName { peer }
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ConnectionError::NotValidNow { peer },
            other => ConnectionError::Tls { peer, why: other.to_string() },
        },
        Some(other) => ConnectionError::Tls { peer, why: other.to_string() },
        // A server without TLS may hang up on what it cannot read.
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            ConnectionError::NotTls { peer }
        }
        None => ConnectionError::Tls { peer, why: error.to_string() },
    }
}

/// The fault of an HTTP request on a connection.
pub fn of_request(peer: Peer, error: &(dyn Error + 'static)) -> ConnectionError {
    if let Some(fault) = find::<ConnectionError>(error) {
        return fault.clone();
    }
    match find::<hyper::Error>(error) {
        Some(http) if http.is_parse_too_large() => ConnectionError::LongHead { peer },
        Some(http) if http.is_parse() => ConnectionError::NotHttp { peer },
        Some(http) if http.is_incomplete_message() || http.is_closed() => ConnectionError::NoAnswer { peer },
        _ => ConnectionError::Request { peer, why: innermost(error) },
    }
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The first cause of this type.
pub(crate) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
