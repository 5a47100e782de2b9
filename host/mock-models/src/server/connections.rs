//! Accepts connections and serves the router on them.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections, and more wait in the queue of the operating system. A head has at most
//! [`HEAD_BYTES_MAX`] and arrives within [`SILENCE_MAX`], and a client that does not read for that time is disconnected.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::Broken;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Longest time that the server waits for a client.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The pause after a failed accept. The usual cause is that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn serve(listener: TcpListener, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with the future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let place = places.clone().acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    connection(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(target: "mock-models", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, router: Router) {
    // A small frame must not wait for the acknowledgement of the one before it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "mock-models", %error, "cannot set TCP_NODELAY on a connection");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(SILENCE_MAX));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE_MAX);
    // The first bounds the memory, the second the head, of which the buffer may hold more than its bound.
    http.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request);
        async move {
            match answer.await {
                Ok(response) if response.extensions().get::<Broken>().is_some() => {
                    Err(io::Error::other("the script never answers"))
                }
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        }
    });
    if let Err(error) = http.serve_connection(TokioIo::new(Box::pin(stream)), service).await {
        tracing::debug!(target: "mock-models", %error, "a connection ended with an error");
    }
}
