//! The warm connections of an agent, by `hyper_util`: one pool, from which each request takes one, or has one made by the dialer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::OwnedSemaphorePermit;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

use crate::connect::Stream;
use crate::dial::{Dialer, Purpose, Spoken};
use crate::failure::{Fault, invalid};
use crate::rate::Metered;
use crate::request_body::RequestBody;
use crate::rules::target::Kind;
use crate::settings::NetworkLimits;

pub(crate) type Client = legacy::Client<Connector, RequestBody>;

/// The least that `hyper` takes for a head, in bytes.
const HEAD_BYTES_MIN: usize = 8_192;

/// How far the server of HTTP/2 may be ahead with one answer, in bytes.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// The most that HTTP/2 has for all answers of a connection, in bytes (RFC 9113, section 6.9.1).
const CONNECTION_WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// Enough for as many answers as there may be at once, so that an agent that does not take its answer does not hold up others.
fn connection_window_bytes(answers: usize) -> u32 {
    let answers = u32::try_from(answers).unwrap_or(u32::MAX).max(1);
    STREAM_WINDOW_BYTES.saturating_mul(answers).min(CONNECTION_WINDOW_BYTES_MAX)
}

/// The client of an agent.
pub(crate) fn client(dialer: Arc<Dialer>, limits: &NetworkLimits) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits.warm_for)
        .pool_max_idle_per_host(limits.warm_per_server_max)
        .http1_max_buf_size(limits.head_bytes_max.max(HEAD_BYTES_MIN))
        .http1_max_headers(limits.headers_max)
        .http2_max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(connection_window_bytes(limits.per_server_max))
        .http2_max_send_buf_size(STREAM_WINDOW_BYTES as usize)
        .http2_keep_alive_interval(limits.ping_every)
        .http2_keep_alive_timeout(limits.ping_every)
        .build(Connector { dialer })
}

/// Makes the connections.
#[derive(Clone)]
pub(crate) struct Connector {
    dialer: Arc<Dialer>,
}

impl Service<Uri> for Connector {
    type Response = Transport;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Transport, Fault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.dialer.clone();
        Box::pin(async move {
            let authority = uri.authority().ok_or_else(|| Fault(invalid("the URL has no host")))?;
            let url = format!("{}://{authority}/", uri.scheme_str().unwrap_or_default());
            // The URL was checked; nothing is connected to that is not.
            let target = dialer.rules().check_url(&url, Kind::Http).map_err(Fault)?;
            let dialled = dialer.dial(&target, Purpose::Requests).await.map_err(Fault)?;
            let stream = TokioIo::new(dialled.stream);
            Ok(Transport { stream, _seat: dialled.seat, spoken: dialled.spoken })
        })
    }
}

/// A connection in the form that `hyper` takes.
pub(crate) struct Transport {
    stream: TokioIo<Metered<Pin<Box<TimeoutStream<Stream>>>>>,
    /// Given back with the connection.
    _seat: OwnedSemaphorePermit,
    spoken: Spoken,
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        match self.spoken {
            Spoken::Http1 => Connected::new(),
            Spoken::Http2 => Connected::new().negotiated_h2(),
            Spoken::Http1ForProxy => Connected::new().proxy(true),
        }
    }
}

impl Read for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl Write for Transport {
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
