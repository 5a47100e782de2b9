//! Accepts TCP connections and serves HTTP on them, for workers and for the dispatcher.
//!
//! Bounds: at most [`CONNECTIONS_MAX`] connections are open, and at most a quarter of the files that the process may open, because a
//! process has two listeners. When all places are taken, a new connection takes the place of the one that has been silent longest.
//! The first head of a request arrives within [`FIRST_HEAD_WITHIN`], further ones within [`SILENCE_MAX`], and a head has at most
//! [`HEAD_BYTES_MAX`]. A client that does not read is disconnected after [`SILENCE_MAX`]. Upgraded connections are not counted.
//! Handlers bound their own body reads and waits.

pub(crate) mod held;
mod places;

mod awaited;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_io_timeout::TimeoutStream;

use crate::hosts::{HostRule, is_room};
use crate::tls::{Accepted, Tls};
use awaited::AwaitedBody;
use held::hold;
use places::{Place, Places};

/// Most connections of a listener at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// The share of the open files that a listener takes at most: one over this. The sockets of workers take the same, and the links of
/// participants in rooms half of it.
pub const FILES_SHARE: usize = 4;
/// Longest time from the begin of a connection to the end of its first head.
const FIRST_HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Longest time that the server waits for a client.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The pause after a failed accept. The usual cause is that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The address at which this machine reaches a listener: loopback for one on all addresses.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// The bounds of a listener.
#[derive(Clone, Copy)]
struct Bounds {
    places: usize,
    first_head_within: Duration,
    silence_max: Duration,
}

/// Serve the router until the process ends.
pub async fn serve(listener: TcpListener, router: Router) -> Infallible {
    serve_by(None, listener, router).await
}

/// The same, with TLS where there is one.
pub(crate) async fn serve_by(tls: Option<Tls>, listener: TcpListener, router: Router) -> Infallible {
    let places = CONNECTIONS_MAX.min(raise_file_limit() / FILES_SHARE).max(1);
    if places < CONNECTIONS_MAX {
        tracing::info!(target: "host", places, "the limit of open files bounds the number of connections");
    }
    let bounds = Bounds { places, first_head_within: FIRST_HEAD_WITHIN, silence_max: SILENCE_MAX };
    serve_within(bounds, tls, listener, router).await
}

/// Most sockets of one use, of those that a caller wants: a share of the files. Two listeners and the sockets of workers take three
/// shares; the links of participants take half of the last one, and leave the rest for everything else.
pub(crate) fn sockets_max(wanted: usize) -> usize {
    wanted.min(raise_file_limit() / FILES_SHARE).max(1)
}

async fn serve_within(bounds: Bounds, tls: Option<Tls>, listener: TcpListener, router: Router) -> Infallible {
    // A listener without a known address gets the stricter rule, that of loopback.
    let address = listener.local_addr().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let (places, host_rule) = (Places::new(bounds.places), HostRule::of(address));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = places.acquire().await;
                Handle::current().spawn(accept(stream, tls.clone(), bounds, place, host_rule, router.clone()));
            }
            Err(error) => {
                tracing::warn!(target: "host", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The address of this machine that the client of a connection has reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalAddress(pub(crate) SocketAddr);

async fn accept(
    stream: TcpStream,
    tls: Option<Tls>,
    bounds: Bounds,
    place: Arc<Place>,
    host_rule: HostRule,
    router: Router,
) {
    // A small frame must not wait for the acknowledgement of the one before it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "host", %error, "cannot set TCP_NODELAY on a connection");
    }
    let local = stream.local_addr().ok().map(LocalAddress);
    let served = (local, bounds, place.clone(), host_rule, router);
    let Some(tls) = tls else { return serve_connection(stream, served).await };
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = place.released() => None,
    };
    match accepted {
        Some(Accepted::Plain(stream)) => serve_connection(stream, served).await,
        Some(Accepted::Tls(stream)) => serve_connection(*stream, served).await,
        None => {}
    }
}

/// What a connection is served with: the address that its client has reached, the bounds, the place, the rule, and the routes.
type Served = (Option<LocalAddress>, Bounds, Arc<Place>, HostRule, Router);

async fn serve_connection<S>(stream: S, (local, bounds, place, host_rule, router): Served)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(bounds.silence_max));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.silence_max);
    // The first bounds the memory, the second the head, of which the buffer may hold more than its bound.
    http.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
    let (router, asked) = (TowerToHyperService::new(router), place.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = asked.answering();
        let mut request = request.map(|body| AwaitedBody::new(body, asked.clone()));
        // Nothing else asks for it.
        if let Some(local) = local.filter(|_| is_room(request.uri().path())) {
            request.extensions_mut().insert(local);
        }
        let answer = host_rule.check(request.uri(), request.headers()).map(|()| router.call(request));
        async move {
            let response = match answer {
                Ok(answer) => answer.await?,
                Err(foreign) => foreign.into_response(),
            };
            Ok::<_, Infallible>(response.map(|body| hold(body, answering)))
        }
    });
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service).with_upgrades();
    tokio::select! {
        // A request that has just arrived is answered.
        biased;
        ended = connection => if let Err(error) = ended {
            tracing::debug!(target: "host", %error, "a connection ended with an error");
        },
        () = place.released() => {}
        () = place.without_request_for(bounds.first_head_within) => {
            tracing::debug!(target: "host", "a connection sent no request in time");
        }
    }
}

/// Raise the limit of open files to the maximum of this process, because each connection is an open file. Returns the limit.
pub fn raise_file_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current == maximum
        || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
            .inspect_err(|error| tracing::debug!(target: "host", %error, "cannot raise the limit of open files"))
            .is_ok();
    let limit = if raised { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::http::header::{CONNECTION, UPGRADE};
    use axum::response::Response;
    use axum::routing::get;
    use hyper::upgrade::OnUpgrade;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(200);

    /// A server with one place, which does not wait long.
    async fn serving() -> SocketAddr {
        serving_within(Bounds { places: 1, first_head_within: LONG, silence_max: SHORT }).await
    }

    /// A server with this number of places, which waits long.
    async fn patient(places: usize) -> SocketAddr {
        serving_within(Bounds { places, first_head_within: LONG, silence_max: LONG }).await
    }

    async fn serving_within(bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = async || {
            tokio::time::sleep(SHORT * 2).await;
            "late"
        };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(slow))
            .route("/body", get(|body: String| async { body }))
            .route("/large", get(|| async { vec![0_u8; 64 << 20] }))
            .route("/upgrade", get(upgrade));
        Handle::current().spawn(serve_within(bounds, None, listener, router));
        address
    }

    /// An upgrade to an echo protocol.
    async fn upgrade(mut request: Request) -> Response {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
        Handle::current().spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut from, &mut to).await
        });
        (StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade"), (UPGRADE, "echo")]).into_response()
    }

    async fn ask(address: SocketAddr, path: &str, rest: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{rest}").as_bytes()).await.unwrap();
        stream
    }

    /// Everything until the server closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        // A server that has read enough may reset the connection.
        drop(timeout(LONG * 2, stream.read_to_end(&mut bytes)).await.unwrap());
        String::from_utf8(bytes).unwrap()
    }

    async fn next_request_is_answered(address: SocketAddr) {
        let answer = rest(&mut ask(address, "/", "Connection: close\r\n\r\n").await).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn silent_client_is_disconnected() {
        let address = serving_within(Bounds { places: 2, first_head_within: SHORT, silence_max: LONG }).await;
        let began = Instant::now();
        let mut half = ask(address, "/", "Half: a hea").await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!((rest(&mut half).await.as_str(), rest(&mut silent).await.as_str()), ("", ""));
        assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn idle_client_is_disconnected() {
        let address = serving().await;
        assert!(rest(&mut ask(address, "/", "\r\n").await).await.ends_with("here"));
    }

    #[tokio::test]
    async fn new_client_takes_the_place_of_the_one_silent_longest() {
        let address = patient(2).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = ask(address, "/", "Half: a hea").await;
        let began = Instant::now();
        next_request_is_answered(address).await;
        assert!(began.elapsed() < LONG / 2, "the new client waited for {:?}", began.elapsed());
        assert_eq!(rest(&mut first).await, "", "the oldest is gone");
        second.write_all(b"d\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut second).await.ends_with("here"), "the younger one stays");
    }

    #[tokio::test]
    async fn client_that_is_being_answered_keeps_its_place() {
        let address = patient(1).await;
        let mut slow = ask(address, "/slow", "Connection: close\r\n\r\n").await;
        tokio::time::sleep(SHORT / 4).await;
        let began = Instant::now();
        next_request_is_answered(address).await;
        assert!(began.elapsed() >= SHORT, "the new client took a place that was in use");
        assert!(rest(&mut slow).await.ends_with("late"));
    }

    #[tokio::test]
    async fn client_whose_body_does_not_come_is_silent() {
        let address = patient(1).await;
        let mut slow = ask(address, "/body", "Content-Length: 5\r\n\r\nhal").await;
        tokio::time::sleep(SHORT / 4).await;
        let began = Instant::now();
        next_request_is_answered(address).await;
        assert!(began.elapsed() < LONG / 2, "the new client waited for {:?}", began.elapsed());
        assert_eq!(rest(&mut slow).await, "", "it is gone");
        let mut whole = ask(address, "/body", "Connection: close\r\nContent-Length: 5\r\n\r\nhal").await;
        tokio::time::sleep(SHORT / 4).await;
        whole.write_all(b"ve").await.unwrap();
        assert!(rest(&mut whole).await.ends_with("halve"));
    }

    #[tokio::test]
    async fn head_of_a_request_is_bounded() {
        let address = serving().await;
        let mut large = ask(address, "/", &format!("X: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX))).await;
        let refused = rest(&mut large).await;
        assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
        let mut allowed = ask(address, "/", &format!("X: {}\r\nConnection: close\r\n\r\n", "x".repeat(50 << 10))).await;
        assert!(rest(&mut allowed).await.ends_with("here"));
    }

    #[tokio::test]
    async fn foreign_host_and_origin_are_refused_before_any_handler() {
        let address = serving().await;
        let refused = async |head: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(format!("GET /upgrade HTTP/1.1\r\n{head}Connection: close\r\n\r\n").as_bytes())
                .await
                .unwrap();
            rest(&mut stream).await
        };
        assert!(refused("Host: evil.example\r\n").await.starts_with("HTTP/1.1 421"));
        assert!(refused("Host: localhost\r\nOrigin: http://evil.example\r\n").await.starts_with("HTTP/1.1 403"));
    }

    #[tokio::test]
    async fn slow_reader_is_disconnected() {
        let address = serving().await;
        let _slow = ask(address, "/large", "\r\n").await;
        next_request_is_answered(address).await;
    }

    #[tokio::test]
    async fn slow_handler_is_not_interrupted() {
        let address = serving().await;
        assert!(rest(&mut ask(address, "/slow", "Connection: close\r\n\r\n").await).await.ends_with("late"));
    }

    #[tokio::test]
    async fn upgraded_connection_is_not_counted() {
        let address = serving().await;
        let mut socket = ask(address, "/upgrade", "Connection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
        next_request_is_answered(address).await;
        tokio::time::sleep(SHORT * 2).await;
        socket.write_all(b"still there?").await.unwrap();
        let mut echoed = Vec::new();
        while !echoed.ends_with(b"still there?") {
            assert!(timeout(LONG, socket.read_buf(&mut echoed)).await.unwrap().unwrap() > 0);
        }
    }

    #[test]
    fn file_limit_is_raised_to_the_maximum() {
        let limit = raise_file_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert!(maximum.is_none_or(|maximum| maximum == limit as u64));
    }
}
