//! HTTP requests of the program itself, over the connections of [`connect`]: the calls of the command line, and the posts of webhooks.
//! Redirects are answers like any other: nothing is followed.
//!
//! Bounds: the time limit and the largest answer of a client; [`IDLE_MAX`] connections of a client wait for the next request.
//!
//! A thread that is no part of a runtime waits for its calls: they run on a runtime of one thread, which the first of them starts.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, PROXY_AUTHORIZATION};
use hyper::rt::{Read as HyperRead, ReadBufCursor, Write as HyperWrite};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection as ClientConnection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;
use wasm_worker_network::connect::{self, Stream};
use wasm_worker_network::fault::{self, ConnectionError};
use wasm_worker_sandbox::machine::try_threads;

const IDLE_MAX: usize = 8;
/// A server that takes longer to accept a connection is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A client of any server.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: legacy::Client<Connector, Full<Bytes>>,
    within: Duration,
    answer_bytes_max: usize,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The place that the answer redirects to.
    pub(crate) fn redirect(&self) -> Option<String> {
        let location = self.headers.get(hyper::header::LOCATION).filter(|_| self.status.is_redirection())?;
        Some(wasm_worker_core::text::clip(&String::from_utf8_lossy(location.as_bytes())))
    }
}

impl HttpClient {
    /// A client whose calls end within this time, and whose answers are no longer than this.
    pub(crate) fn new(within: Duration, answer_bytes_max: usize) -> Self {
        let connector = Connector { within: within.min(CONNECT_WITHIN) };
        let client = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector);
        Self { client, within, answer_bytes_max }
    }

    /// Send a request, and read the whole answer.
    pub(crate) async fn call(&self, request: Request<Bytes>) -> Result<Answer, ConnectionError> {
        let (answer, body) = self.exchange(request).await?;
        Ok(Answer { body: body?, ..answer })
    }

    /// The same for a thread that may wait.
    pub(crate) fn call_and_wait(&self, request: Request<Bytes>) -> Result<Answer, ConnectionError> {
        let client = self.clone();
        wait(async move { client.call(request).await })?
    }

    /// Send a request whose answer counts by its head, and wait. A body that is too long or too slow is cut off.
    pub(crate) fn deliver_and_wait(&self, request: Request<Bytes>) -> Result<Answer, ConnectionError> {
        let client = self.clone();
        wait(async move { client.exchange(request).await.map(|(answer, _)| answer) })?
    }

    /// The head of an answer, and its body or why it could not be read.
    async fn exchange(
        &self,
        request: Request<Bytes>,
    ) -> Result<(Answer, Result<Bytes, ConnectionError>), ConnectionError> {
        let (peer, until) = (connect::server_of(request.uri())?, Instant::now() + self.within);
        let late = |_| ConnectionError::Silent { peer: peer.clone(), within: self.within };
        let (head, body) = timeout_at(until, self.send(request)).await.map_err(late)??.into_parts();
        let bytes_max = self.answer_bytes_max;
        let body = match timeout_at(until, Limited::new(body, bytes_max).collect()).await {
            Err(error) => Err(late(error)),
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(ConnectionError::TooLong { peer: peer.clone(), bytes_max })
            }
            Ok(Err(error)) => Err(fault::of_request(peer.clone(), &*error)),
        };
        Ok((Answer { status: head.status, headers: head.headers, body: Bytes::new() }, body))
    }

    /// Send a request whose answer has no end. The time limit is for its head.
    pub(crate) fn follow(&self, request: Request<Bytes>) -> Result<(StatusCode, Followed), ConnectionError> {
        let (client, peer, within) = (self.clone(), connect::server_of(request.uri())?, self.within);
        let answered = wait(async move { timeout(within, client.send(request)).await })?;
        let response = answered.unwrap_or_else(|_| Err(ConnectionError::Silent { peer, within }))?;
        Ok((response.status(), Followed { body: Some(response.into_body()), chunk: Bytes::new() }))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>, ConnectionError> {
        let peer = connect::server_of(request.uri())?;
        let mut request = request.map(Full::new);
        if let Some(password) = connect::password_for_forwarding(request.uri())? {
            request.headers_mut().insert(PROXY_AUTHORIZATION, password);
        }
        self.client.request(request).await.map_err(|error| fault::of_request(peer, &error))
    }
}

/// An answer without an end.
pub(crate) struct Followed {
    /// Absent after its end.
    body: Option<Incoming>,
    /// What has arrived and is not read yet.
    chunk: Bytes,
}

impl Read for Followed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let Some(mut body) = self.body.take() else { return Ok(0) };
            let received = wait(async move { (body.frame().await, body) });
            match received.map_err(io::Error::other)? {
                (None, _) => return Ok(0),
                (Some(Err(error)), _) => return Err(io::Error::other(error)),
                (Some(Ok(frame)), body) => {
                    self.chunk = frame.into_data().unwrap_or_default();
                    self.body = Some(body);
                }
            }
        }
        let length = out.len().min(self.chunk.len());
        self.chunk.split_to(length).as_ref().read(out)
    }
}

/// Threads of the runtime of the waiting threads: the one that works, and the one that resolves names.
const THREADS: usize = 2;

/// Run a call on the runtime of the waiting threads.
fn wait<T: Send + 'static>(call: impl Future<Output = T> + Send + 'static) -> Result<T, ConnectionError> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let start = || {
        // A runtime panics without its threads.
        try_threads(THREADS).ok()?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("network").enable_all().build().ok()
    };
    let runtime = RUNTIME.get_or_init(start).as_ref().ok_or(ConnectionError::NoThread)?;
    let (sender, receiver) = sync_channel(1);
    runtime.spawn(async move {
        // The thread waits until the call has ended.
        sender.send(call.await).ok();
    });
    receiver.recv().map_err(|_| ConnectionError::NoThread)
}

/// Makes the connections of a client.
#[derive(Clone)]
struct Connector {
    within: Duration,
}

impl Service<Uri> for Connector {
    type Response = Transport;
    type Error = ConnectionError;
    type Future = Pin<Box<dyn Future<Output = Result<Transport, ConnectionError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let within = self.within;
        Box::pin(async move {
            let connection = connect::connect_for_requests(&url, within).await?;
            Ok(Transport { stream: TokioIo::new(connection.stream), forwarded: connection.forwarded })
        })
    }
}

/// A connection in the form that hyper takes.
struct Transport {
    stream: TokioIo<Stream>,
    forwarded: bool,
}

impl ClientConnection for Transport {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.forwarded)
    }
}

impl HyperRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl HyperWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
