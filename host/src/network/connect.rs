//! A connection to a server: directly or through a proxy, with TLS or without.
//!
//! A name may have several addresses. Those of IPv4 and IPv6 are tried side by side, those of one family one after another, each for
//! its share of two thirds of the time limit, so that dead ones leave time for the next.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::PathAndQuery;
use hyper::service::Service as _;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fault::{self, ConnectionError, Peer, Role};
use super::proxies::Proxies;
use super::trust;

/// Both directions of a connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) type Stream = Box<dyn Io>;

/// A connection, and who reads its requests.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Whether a proxy reads the requests and forwards them, so that each has to name its server.
    pub(super) forwarded: bool,
}

/// One end that can be connected to.
struct Target {
    /// With the scheme `http` or `https`.
    uri: Uri,
    peer: Peer,
}

/// A connection to the server at a `ws`, `wss`, `http` or `https` URL. A proxy passes its bytes on unread.
pub(crate) async fn connect(url: &Uri, within: Duration) -> Result<Stream, ConnectionError> {
    let server = Target::new(url, Role::Server)?;
    let connecting = async {
        match Proxies::of_process().proxy_of(&server.uri)? {
            None => server.open(within).await,
            Some(proxy) => {
                let gate = Target::new(proxy.uri(), Role::Proxy)?;
                let stream = gate.open(within).await?;
                server.secured(tunnel(stream, &server, &gate.peer, proxy.basic_auth()).await?).await
            }
        }
    };
    server.within(within, connecting).await
}

/// A connection for HTTP requests to the server at an `http` or `https` URL. Requests without TLS are for a proxy to forward.
pub(super) async fn connect_for_requests(url: &Uri, within: Duration) -> Result<Connection, ConnectionError> {
    let server = Target::new(url, Role::Server)?;
    match Proxies::of_process().proxy_of(&server.uri)? {
        Some(proxy) if !server.peer.secure => {
            let gate = Target::new(proxy.uri(), Role::Proxy)?;
            let stream = gate.within(within, gate.open(within)).await?;
            Ok(Connection { stream, forwarded: true })
        }
        _ => Ok(Connection { stream: connect(url, within).await?, forwarded: false }),
    }
}

/// The password for the proxy that forwards a request to an `http` URL.
pub(super) fn password_for_forwarding(url: &Uri) -> Result<Option<HeaderValue>, ConnectionError> {
    if url.scheme_str() != Some("http") {
        return Ok(None);
    }
    Ok(Proxies::of_process().proxy_of(url)?.and_then(|proxy| proxy.basic_auth().cloned()))
}

/// The server of a URL, for messages.
pub(crate) fn server_of(url: &Uri) -> Result<Peer, ConnectionError> {
    Target::new(url, Role::Server).map(|server| server.peer)
}

impl Target {
    fn new(url: &Uri, role: Role) -> Result<Self, ConnectionError> {
        let (scheme, port) = match url.scheme_str() {
            Some("http" | "ws") => ("http", 80),
            Some("https" | "wss") => ("https", 443),
            _ => return Err(ConnectionError::Url),
        };
        let host = url.host().filter(|host| !host.is_empty()).ok_or(ConnectionError::Url)?;
        let port = match url.port() {
            Some(port) => port.as_str().parse().map_err(|_| ConnectionError::Url)?,
            // `http://host:99999` has no port at all for the parser.
            None if url.authority().is_some_and(|authority| authority.as_str().ends_with(host)) => port,
            None => return Err(ConnectionError::Url),
        };
        let authority = format!("{host}:{port}");
        let uri = Uri::builder().scheme(scheme).authority(authority.as_str());
        let uri = uri.path_and_query(PathAndQuery::from_static("/")).build().map_err(|_| ConnectionError::Url)?;
        Ok(Self { uri, peer: Peer { role, authority, secure: scheme == "https" } })
    }

    async fn within<T>(
        &self,
        within: Duration,
        connecting: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let late = |_| Err(ConnectionError::Silent { peer: self.peer.clone(), within });
        timeout(within, connecting).await.unwrap_or_else(late)
    }

    /// Connect without a proxy.
    async fn open(&self, within: Duration) -> Result<Stream, ConnectionError> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(within * 2 / 3));
        let connecting = TowerToHyperService::new(connector).call(self.uri.clone());
        let failed = |error| fault::of_attempt(self.peer.clone(), &error, within);
        self.secured(Box::new(connecting.await.map_err(failed)?.into_inner())).await
    }

    /// The same connection with TLS, where the URL has it.
    async fn secured(&self, stream: Stream) -> Result<Stream, ConnectionError> {
        if !self.peer.secure {
            return Ok(stream);
        }
        let host = self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| ConnectionError::Url)?;
        let connector = TlsConnector::from(trust::client_config().await?);
        let failed = |error| fault::of_handshake(self.peer.clone(), &error);
        Ok(Box::new(connector.connect(name, stream).await.map_err(failed)?))
    }
}

/// Have a proxy connect to the server, and pass all bytes on.
async fn tunnel(
    stream: Stream,
    server: &Target,
    gate: &Peer,
    password: Option<&HeaderValue>,
) -> Result<Stream, ConnectionError> {
    let failed = |error: hyper::Error| fault::of_request(gate.clone(), &error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let authority = server.peer.authority.as_str();
    let mut request = Request::connect(authority).header(HOST, authority);
    if let Some(password) = password {
        request = request.header(PROXY_AUTHORIZATION, password);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| ConnectionError::Url)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let peer = gate.clone();
        match response.status() {
            status if status.is_success() => hyper::upgrade::on(response).await.map_err(failed),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(ConnectionError::ProxyPassword { peer }),
            status => Err(ConnectionError::ProxyRefused { peer, server: authority.to_owned(), status }),
        }
    };
    // The connection moves the bytes of the question and of the answer. It ends first where the proxy agrees.
    let upgraded = match select(pin!(asking), pin!(connection.with_upgrades())).await {
        Either::Left((upgraded, _)) => upgraded?,
        Either::Right((_, asking)) => asking.await?,
    };
    Ok(Box::new(TokioIo::new(upgraded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_the_port_of_their_scheme_or_their_own() {
        let authority =
            |url: &str| Target::new(&url.parse().unwrap(), Role::Server).map(|target| target.peer.authority);
        assert_eq!(authority("ws://a"), Ok("a:80".into()));
        assert_eq!(authority("wss://a/agent"), Ok("a:443".into()));
        assert_eq!(authority("https://[::1]:7443/x"), Ok("[::1]:7443".into()));
        for bad in ["ftp://a", "http://a:99999", "/path", "a"] {
            assert_eq!(authority(bad), Err(ConnectionError::Url), "{bad}");
        }
    }
}
