//! Takes connections and answers them over HTTP: a worker's pages, and the dispatcher's.
//!
//! Bounds: [`CONNECTIONS_MAX`] at once, the next waits to be taken; [`SILENCE_MAX`] for the head of a request, between two on one
//! connection, and for a caller that does not read. One that became a WebSocket is no longer counted here. Whoever has a body
//! read, or waits before answering, bounds that.

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

const CONNECTIONS_MAX: usize = 4_096;
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// After a failure to take a connection, which is most often that there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The address at which a listener on all addresses is reached from this machine.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Answer until the process ends.
pub async fn serve(listener: TcpListener, router: Router) -> Infallible {
    allow_many();
    serve_at_most(CONNECTIONS_MAX, SILENCE_MAX, listener, router).await
}

async fn serve_at_most(most: usize, silence_max: Duration, listener: TcpListener, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(most));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                Handle::current().spawn(async move {
                    answer(stream, silence_max, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(target: "host", %error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, silence_max: Duration, router: Router) {
    // A small frame is not to wait for the acknowledgement of the last.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "host", %error, "a connection without TCP_NODELAY");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(silence_max));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(silence_max);
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(target: "host", %error, "a connection ended early");
    }
}

/// Have as many files as the system allows this process, not the few that it gives at first: each connection is one.
fn allow_many() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(target: "host", %error, "no more files than at first");
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

    /// One connection at a time.
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

    /// Says back what it hears.
    async fn upgrade(mut request: Request) -> Response {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
        Handle::current().spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut from, &mut to).await
        });
        (StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade"), (UPGRADE, "echo")]).into_response()
    }

    async fn ask(address: SocketAddr, page: &str, rest: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: a\r\n{rest}").as_bytes()).await.unwrap();
        stream
    }

    /// What comes until the other side closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn the_next_is_heard(address: SocketAddr) {
        let answer = rest(&mut ask(address, "/", "Connection: close\r\n\r\n").await).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn who_says_nothing_is_let_go_and_the_next_is_heard() {
        let address = serving().await;
        let began = Instant::now();
        let mut silent = ask(address, "/", "Half: a hea").await;
        the_next_is_heard(address).await;
        assert!(began.elapsed() >= SHORT, "there was one place");
        assert_eq!(rest(&mut silent).await, "");
    }

    #[tokio::test]
    async fn who_asks_no_more_is_let_go_and_the_next_is_heard() {
        let address = serving().await;
        let mut idle = ask(address, "/", "\r\n").await;
        the_next_is_heard(address).await;
        assert!(rest(&mut idle).await.ends_with("here"));
    }

    #[tokio::test]
    async fn who_does_not_read_is_let_go_and_the_next_is_heard() {
        let address = serving().await;
        let _deaf = ask(address, "/large", "\r\n").await;
        the_next_is_heard(address).await;
    }

    #[tokio::test]
    async fn an_answer_may_take_its_time() {
        let address = serving().await;
        assert!(rest(&mut ask(address, "/slow", "Connection: close\r\n\r\n").await).await.ends_with("late"));
    }

    #[tokio::test]
    async fn a_socket_that_became_another_thing_is_no_longer_counted() {
        let address = serving().await;
        let mut socket = ask(address, "/upgrade", "Connection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
        the_next_is_heard(address).await;
        tokio::time::sleep(SHORT * 2).await;
        socket.write_all(b"still there?").await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"still there?") {
            assert!(timeout(LONG, socket.read_buf(&mut heard)).await.unwrap().unwrap() > 0);
        }
    }

    #[test]
    fn as_many_files_as_may_be() {
        allow_many();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
