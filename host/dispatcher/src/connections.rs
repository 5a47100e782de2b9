//! Accepts TCP connections and serves HTTP on them, for workers and for the dispatcher.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections are open, and further ones wait in the backlog. A connection is closed after
//! [`SILENCE_MAX`] without the head of a request, or with a client that does not read. Upgraded connections are not counted.
//! Handlers bound their own body reads and waits.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Longest time that the server waits for a client.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The pause after a failed accept. The usual cause is that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The address at which this machine reaches a listener: loopback for one on all addresses.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Serve the router until the process ends.
pub async fn serve(listener: TcpListener, router: Router) -> Infallible {
    raise_file_limit();
    serve_at_most(CONNECTIONS_MAX, SILENCE_MAX, listener, router).await
}

async fn serve_at_most(most: usize, silence_max: Duration, listener: TcpListener, router: Router) -> Infallible {
    let slots = Arc::new(Semaphore::new(most));
    loop {
        let slot = slots.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                Handle::current().spawn(async move {
                    serve_connection(stream, silence_max, router).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(target: "host", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, silence_max: Duration, router: Router) {
    // A small frame must not wait for the acknowledgement of the one before it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "host", %error, "cannot set TCP_NODELAY on a connection");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(silence_max));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(silence_max);
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(target: "host", %error, "a connection ended with an error");
    }
}

/// Raise the limit of open files to the maximum of this process: each connection is an open file.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(target: "host", %error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::http::header::{CONNECTION, UPGRADE};
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use hyper::upgrade::OnUpgrade;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(200);

    /// A server with one connection at a time.
    async fn serving() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = async || {
            tokio::time::sleep(SHORT * 2).await;
            "late"
        };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(slow))
            .route("/large", get(|| async { vec![0_u8; 64 << 20] }))
            .route("/upgrade", get(upgrade));
        Handle::current().spawn(serve_at_most(1, SHORT, listener, router));
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
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{rest}").as_bytes()).await.unwrap();
        stream
    }

    /// Everything until the server closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn next_request_is_answered(address: SocketAddr) {
        let answer = rest(&mut ask(address, "/", "Connection: close\r\n\r\n").await).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn silent_client_is_disconnected() {
        let address = serving().await;
        let began = Instant::now();
        let mut silent = ask(address, "/", "Half: a hea").await;
        next_request_is_answered(address).await;
        assert!(began.elapsed() >= SHORT, "the server accepted a second connection");
        assert_eq!(rest(&mut silent).await, "");
    }

    #[tokio::test]
    async fn idle_client_is_disconnected() {
        let address = serving().await;
        let mut idle = ask(address, "/", "\r\n").await;
        next_request_is_answered(address).await;
        assert!(rest(&mut idle).await.ends_with("here"));
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
        raise_file_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
