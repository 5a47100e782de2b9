//! A connection to a server: directly or through a proxy, with TLS or without.
//!
//! A name may have several addresses. Those of IPv4 and IPv6 are tried side by side, those of one family one after another, each for
//! its share of two thirds of the time limit, so that dead ones leave time for the next.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::fault::{self, ConnectionError, Peer, Role};
use crate::proxies::Proxies;
use crate::trust;

/// Both directions of a connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection to a server.
pub type Stream = Box<dyn Io>;

/// A connection, and who reads its requests.
pub struct Connection {
    /// The connection.
    pub stream: Stream,
    /// Whether a proxy reads the requests and forwards them, so that each has to name its server.
    pub forwarded: bool,
}

/// One end that can be connected to.
pub(crate) struct Target {
    /// With the scheme `http` or `https`.
    pub(crate) uri: Uri,
    pub(crate) peer: Peer,
}

/// A connection to the server at a `ws`, `wss`, `http` or `https` URL. A proxy passes its bytes on unread.
///
/// # Errors
/// When there is none within the time.
pub async fn connect(url: &Uri, within: Duration) -> Result<Stream, ConnectionError> {
    let server = Target::new(url, Role::Server)?;
    let connecting = async {
        match Proxies::of_process().proxy_of(&server.uri)? {
            None => server.open_by_name(within).await,
            Some(proxy) => {
                let gate = Target::new(proxy.uri(), Role::Proxy)?;
                let stream = gate.open_by_name(within).await?;
                let stream = tunnel(stream, &server, &gate.peer, proxy.basic_auth()).await?;
                if server.peer.secure {
                    server.secured(stream, trust::client_config().await?).await.map(|secured| secured.stream)
                } else {
                    Ok(stream)
                }
            }
        }
    };
    server.within(within, connecting).await
}

/// A connection for HTTP requests to the server at an `http` or `https` URL. Requests without TLS are for a proxy to forward.
///
/// # Errors
/// When there is none within the time.
pub async fn connect_for_requests(url: &Uri, within: Duration) -> Result<Connection, ConnectionError> {
    let server = Target::new(url, Role::Server)?;
    match Proxies::of_process().proxy_of(&server.uri)? {
        Some(proxy) if !server.peer.secure => {
            let gate = Target::new(proxy.uri(), Role::Proxy)?;
            let stream = gate.within(within, gate.open_by_name(within)).await?;
            Ok(Connection { stream, forwarded: true })
        }
        _ => Ok(Connection { stream: connect(url, within).await?, forwarded: false }),
    }
}

/// The password for the proxy that forwards a request to an `http` URL.
///
/// # Errors
/// When a variable names no proxy.
pub fn password_for_forwarding(url: &Uri) -> Result<Option<HeaderValue>, ConnectionError> {
    if url.scheme_str() != Some("http") {
        return Ok(None);
    }
    Ok(Proxies::of_process().proxy_of(url)?.and_then(|proxy| proxy.basic_auth().cloned()))
}

/// The server of a URL, for messages.
///
/// # Errors
/// When the URL has none.
pub fn server_of(url: &Uri) -> Result<Peer, ConnectionError> {
    Target::new(url, Role::Server).map(|server| server.peer)
}

/// A connection with TLS.
pub(crate) struct Secured {
    pub(crate) stream: Stream,
    /// Whether the server speaks HTTP/2 on it.
    pub(crate) is_http2: bool,
}

impl Target {
    pub(crate) fn new(url: &Uri, role: Role) -> Result<Self, ConnectionError> {
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

    pub(crate) async fn within<T>(
        &self,
        within: Duration,
        connecting: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let late = |_| Err(ConnectionError::Silent { peer: self.peer.clone(), within });
        timeout(within, connecting).await.unwrap_or_else(late)
    }

    /// Connect without a proxy, with TLS where the URL has it. The system finds the addresses.
    pub(crate) async fn open_by_name(&self, within: Duration) -> Result<Stream, ConnectionError> {
        let stream = self.attempt(HttpConnector::new(), within).await?;
        if !self.peer.secure {
            return Ok(stream);
        }
        Ok(self.secured(stream, trust::client_config().await?).await?.stream)
    }

    /// Connect to one of these addresses, without TLS.
    pub(crate) async fn open_at(&self, addresses: Vec<IpAddr>, within: Duration) -> Result<Stream, ConnectionError> {
        self.attempt(HttpConnector::new_with_resolver(Found(addresses)), within).await
    }

    async fn attempt<R>(&self, mut connector: HttpConnector<R>, within: Duration) -> Result<Stream, ConnectionError>
    where
        HttpConnector<R>: Service<Uri, Response = TokioIo<TcpStream>>,
        <HttpConnector<R> as Service<Uri>>::Error: std::error::Error + 'static,
    {
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(within * 2 / 3));
        let failed = |error| fault::of_attempt(self.peer.clone(), &error, within);
        Ok(Box::new(connector.call(self.uri.clone()).await.map_err(failed)?.into_inner()))
    }

    /// The same connection with TLS.
    pub(crate) async fn secured(&self, stream: Stream, config: Arc<ClientConfig>) -> Result<Secured, ConnectionError> {
        let host = self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| ConnectionError::Url)?;
        let failed = |error| fault::of_handshake(self.peer.clone(), &error);
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Secured { stream: Box::new(stream), is_http2 })
    }
}

/// A resolver that has the answer.
#[derive(Clone)]
struct Found(Vec<IpAddr>);

impl Service<Name> for Found {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        // The port is the URL's.
        let addresses: Vec<SocketAddr> = self.0.iter().map(|address| SocketAddr::new(*address, 0)).collect();
        ready(Ok(addresses.into_iter()))
    }
}

/// Have a proxy connect to the server, and pass all bytes on.
pub(crate) async fn tunnel(
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
