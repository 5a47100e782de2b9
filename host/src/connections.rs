//! Takes connections and answers them over HTTP: a worker's pages, and the dispatcher's.
//!
//! Bounds: [`CONNECTIONS_MAX`] at once, the next waits to be taken; [`HEAD_WITHIN`] for the head of a request, and between two
//! on one connection. One that became a WebSocket is no longer counted here.

use std::convert::Infallible;
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

/// Callers that wait for the end of a dispatch hold one each.
const CONNECTIONS_MAX: usize = 4_096;
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// After a failure to take a connection, which is most often that there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Answer until the process ends.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> Infallible {
    serve_at_most(CONNECTIONS_MAX, HEAD_WITHIN, listener, router).await
}

async fn serve_at_most(most: usize, head_within: Duration, listener: TcpListener, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(most));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                Handle::current().spawn(async move {
                    answer(stream, head_within, router).await;
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

async fn answer(stream: TcpStream, head_within: Duration, router: Router) {
    // A small frame is not to wait for the acknowledgement of the last.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "host", %error, "a connection without TCP_NODELAY");
    }
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_within);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(target: "host", %error, "a connection ended early");
    }
}

/// Have as many files as the system allows this process, not the few that it gives at first: each worker of a pool is one.
pub(crate) fn allow_many() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(target: "host", %error, "no more files than at first");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    async fn serving(most: usize, head_within: Duration) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Handle::current().spawn(serve_at_most(
            most,
            head_within,
            listener,
            Router::new().route("/", get(|| async { "here" })),
        ));
        address
    }

    /// What comes until the other side closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn get_page(stream: &mut TcpStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn who_says_nothing_is_let_go_and_the_next_is_heard() {
        let address = serving(1, Duration::from_millis(200)).await;
        let began = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nHos").await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        get_page(&mut next).await;
        let answer = rest(&mut next).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        assert!(began.elapsed() >= Duration::from_millis(200), "there was one place");
        assert_eq!(rest(&mut silent).await, "");
    }

    #[test]
    fn as_many_files_as_may_be() {
        allow_many();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
