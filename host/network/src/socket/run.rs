//! One socket, from its handshake to its last event.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use wasm_worker_core::network::command::SocketRequest;
use wasm_worker_core::network::event::{Failure, NetworkEvent};
use wasm_worker_core::network::traffic::Traffic;

use super::handshake::Handshake;
use super::wire::{Wire, WireEvent};
use crate::connect::Io;
use crate::dial::{Purpose, told};
use crate::failure::failure;
use crate::fault::{self, Peer, Role};
use crate::headers;
use crate::job::Teller;
use crate::network::Shared;
use crate::outbox::{ClosesOutbox, Outbox};
use crate::secrets::blank::{Patterns, blank, blank_text};

/// The least that `hyper` takes for a head, in bytes.
const HEAD_BYTES_MIN: usize = 8_192;

/// One socket.
pub(crate) struct Socket {
    pub(crate) shared: Arc<Shared>,
    pub(crate) teller: Teller,
    /// What the agent sends.
    pub(crate) outbox: Arc<Outbox>,
}

/// A socket whose handshake succeeded.
struct Opened {
    stream: Box<dyn Io>,
    _seat: OwnedSemaphorePermit,
    event: NetworkEvent,
    patterns: Arc<Patterns>,
}

impl Socket {
    /// Run the socket to its last event.
    pub(crate) async fn run(self, request: SocketRequest) {
        let _closes = ClosesOutbox(self.outbox.clone());
        let limits = &self.shared.limits;
        let handshake = match Handshake::new(&request, self.shared.dialer.rules()) {
            Ok(handshake) => handshake,
            Err(failure) => return self.teller.fail(failure),
        };
        let host = handshake.target.name.to_string();
        let within = if request.timeout.is_zero() {
            limits.connect_within
        } else {
            request.timeout.min(limits.exchange_longest)
        };
        let late = |_| {
            let shown = handshake.target.shown();
            Err(failure("timeout", format!("no WebSocket to `{shown}` within {within:?}; check the host and the path")))
        };
        let opened = match timeout(within, self.open(&handshake, &host)).await.unwrap_or_else(late) {
            Ok(opened) => opened,
            Err(failure) => {
                self.teller.count(&host, Traffic { failures: 1, ..Traffic::default() });
                return self.teller.fail(failure);
            }
        };
        self.teller.tell(opened.event);
        let wire = Wire::new(opened.stream, self.outbox.clone(), limits).await;
        self.carry(wire, &host, &opened.patterns).await;
    }

    async fn open(&self, handshake: &Handshake, host: &str) -> Result<Opened, Failure> {
        let target = &handshake.target;
        let additions = self.shared.additions(target).await?;
        let dialled = self.shared.dialer.dial(target, Purpose::Socket).await?;
        let url = additions.url(&target.url);
        let mut request = handshake.request(&url, Empty::<Bytes>::new())?;
        for (name, value) in &additions.headers {
            request.headers_mut().insert(name, value.clone());
        }
        self.teller.count(host, Traffic { sockets: 1, bytes_sent: url.as_str().len() as u64, ..Traffic::default() });
        let limits = &self.shared.limits;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits.head_bytes_max.max(HEAD_BYTES_MIN)).max_headers(limits.headers_max);
        let peer = Peer { role: Role::Server, authority: target.authority.clone(), secure: target.secure };
        let failed = |error: hyper::Error| told(&fault::of_request(peer.clone(), &error));
        let (mut sender, connection) = builder.handshake(TokioIo::new(dialled.stream)).await.map_err(failed)?;
        let asking = async {
            let mut response = sender.send_request(request).await.map_err(failed)?;
            let chosen = handshake.check(response.status(), response.headers())?;
            let upgraded = hyper::upgrade::on(&mut response).await.map_err(failed)?;
            Ok((chosen, response, upgraded))
        };
        // The connection moves the bytes of the handshake. It ends first where the server agrees.
        let (chosen, response, upgraded) = match select(pin!(asking), pin!(connection.with_upgrades())).await {
            Either::Left((asked, _)) => asked?,
            Either::Right((_, asking)) => asking.await?,
        };
        let patterns = additions.patterns;
        let blanked = |(name, value): (String, String)| (blank_text(&patterns, &name), blank_text(&patterns, &value));
        let headers = headers::told(response.headers()).into_iter().map(blanked).collect();
        let event = NetworkEvent::Opened { id: self.teller.id(), protocol: chosen, headers };
        Ok(Opened { stream: Box::new(TokioIo::new(upgraded)), _seat: dialled.seat, event, patterns })
    }

    async fn carry(&self, mut wire: Wire, host: &str, patterns: &Arc<Patterns>) {
        let id = self.teller.id();
        loop {
            let room = |context: &mut std::task::Context<'_>| self.teller.poll_room(context);
            let event = match std::future::poll_fn(|context| wire.poll_next(context, room)).await {
                WireEvent::Sent { bytes, is_writable } => {
                    self.teller.count(host, Traffic { bytes_sent: bytes as u64, ..Traffic::default() });
                    if is_writable {
                        self.teller.tell(NetworkEvent::Writable { id });
                    }
                    continue;
                }
                WireEvent::Text(text) => {
                    self.received(host, text.len());
                    NetworkEvent::Text { id, text: blank_text(patterns, &text) }
                }
                WireEvent::Bytes(bytes) => {
                    self.received(host, bytes.len());
                    NetworkEvent::Bytes { id, bytes: blank(patterns, &bytes) }
                }
                WireEvent::Over { code, reason } => {
                    let reason = wasm_worker_core::text::clip(&blank_text(patterns, &reason));
                    NetworkEvent::Closed { id, code, reason }
                }
            };
            if !self.teller.tell(event) {
                return;
            }
        }
    }

    fn received(&self, host: &str, bytes: usize) {
        self.teller.count(host, Traffic { bytes_received: bytes as u64, ..Traffic::default() });
    }
}
