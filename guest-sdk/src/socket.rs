//! WebSockets, to the hosts that the operator allows.
//!
//! The agent holds no key: the host adds the headers that its operator has set for a server.
//!
//! ```no_run
//! use wasm_worker_sdk::{Result, socket};
//!
//! async fn echo() -> Result {
//!     let socket = socket::connect("wss://echo.websocket.org").open().await?;
//!     socket.send_text("hello").await?;
//!     while let Some(message) = socket.next().await? {
//!         log::info!("{message:?}");
//!     }
//!     Ok(())
//! }
//! ```

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::pacing::{self, Pacing};
use crate::types::{Failure, SocketClosed, SocketOpened};
use crate::waits::{self, On};
use crate::{Event, Operation, calls, executor, http, time};

/// The codes of a close that is no error: normal, going away, no code (RFC 6455, section 7.4.1).
const GOOD: [u16; 3] = [1000, 1001, 1005];
/// The time that the other side has to answer a close.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

/// A connection to this address (`wss://…`), until it is opened.
///
/// ```no_run
/// # async fn example() -> wasm_worker_sdk::Result {
/// let socket = wasm_worker_sdk::socket::connect("wss://example.com/speech").protocol("v1").open().await?;
/// # Ok(())
/// # }
/// ```
pub fn connect(url: impl Into<String>) -> Connect {
    Connect { url: url.into(), headers: Vec::new(), protocols: Vec::new(), timeout_ms: 0 }
}

/// A connection that is not opened yet: see [`connect`].
#[derive(Clone, Debug)]
pub struct Connect {
    url: String,
    headers: Vec<(String, String)>,
    protocols: Vec<String>,
    timeout_ms: u32,
}

impl Connect {
    /// Adds a header of the handshake.
    ///
    /// ```no_run
    /// let asked = wasm_worker_sdk::socket::connect("wss://example.com").header("x-language", "en");
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Offers a protocol. The server chooses one of them, or none.
    ///
    /// ```no_run
    /// let asked = wasm_worker_sdk::socket::connect("wss://example.com").protocol("v2").protocol("v1");
    /// ```
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Limits the connecting. The host has a limit too.
    ///
    /// ```no_run
    /// let asked = wasm_worker_sdk::socket::connect("wss://example.com").timeout(std::time::Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = http::millis(timeout);
        self
    }

    /// Connects. Dropping the future gives the connection up.
    ///
    /// ```no_run
    /// # async fn example() -> wasm_worker_sdk::Result {
    /// let socket = wasm_worker_sdk::socket::connect("wss://example.com").open().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure; its `status` is the server's, where the server refused.
    pub async fn open(self) -> Result<Socket, Failure> {
        executor::count_call();
        let id = calls::socket::connect(&self.url, &self.headers, &self.protocols, self.timeout_ms);
        let mut operation = Operation::new(id, "socket::connect");
        while let Some(event) = operation.next().await {
            match event {
                Event::SocketOpened(opened) => {
                    let (pacing, closed) = (Cell::default(), RefCell::default());
                    return Ok(Socket { operation: RefCell::new(operation), pacing, opened, closed });
                }
                Event::SocketClosed(closed) => return Err(failure(&closed)),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        let message = "nothing is sent in this phase of a job".into();
        Err(Failure { id, code: "not-supported".into(), status: 0, message })
    }
}

/// A message of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// An open WebSocket. Dropping it gives the connection up.
///
/// One task can read while another one sends, with the socket in an `Rc`. The server is made to wait while the agent
/// does not read.
#[derive(Debug)]
pub struct Socket {
    operation: RefCell<Operation>,
    pacing: Cell<Pacing>,
    opened: SocketOpened,
    /// How the connection ended, once that was read.
    closed: RefCell<Option<SocketClosed>>,
}

impl Socket {
    /// The protocol that the server chose; empty: none.
    pub fn protocol(&self) -> &str {
        &self.opened.protocol
    }

    /// The headers of the server's answer.
    pub fn headers(&self) -> &[(String, String)] {
        &self.opened.headers
    }

    /// How the connection ended: its code and reason. `None` before [`next`](Self::next) has told the end.
    pub fn closed(&self) -> Option<SocketClosed> {
        self.closed.borrow().clone()
    }

    /// The next message; `None` once the connection was closed by the codes 1000, 1001 or none.
    ///
    /// ```no_run
    /// # async fn example(socket: wasm_worker_sdk::socket::Socket) -> wasm_worker_sdk::Result {
    /// use wasm_worker_sdk::socket::Message;
    /// while let Some(message) = socket.next().await? {
    ///     match message {
    ///         Message::Text(text) => log::info!("{text}"),
    ///         Message::Bytes(bytes) => log::info!("{} bytes", bytes.len()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `closed` for any other code, 1006 where the connection was lost, and the contract's failure.
    pub async fn next(&self) -> Result<Option<Message>, Failure> {
        loop {
            let Some(event) = self.event().await else { return Ok(None) };
            match event {
                Event::SocketText(message) => return Ok(Some(Message::Text(message.text))),
                Event::SocketBytes(message) => return Ok(Some(Message::Bytes(message.bytes))),
                Event::SocketClosed(closed) => {
                    let result = if GOOD.contains(&closed.code) { Ok(None) } else { Err(failure(&closed)) };
                    self.closed.replace(Some(closed));
                    return result;
                }
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
    }

    /// Sends a text. Waits first where much is not sent yet, so no message is lost. A future that is dropped while it
    /// waits sends nothing.
    ///
    /// ```no_run
    /// # async fn example(socket: wasm_worker_sdk::socket::Socket) -> wasm_worker_sdk::Result {
    /// socket.send_text(r#"{"type":"hello"}"#).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `closed` once the connection has ended, whose reason [`next`](Self::next) tells. `limit` where the wait is long and
    /// 256 messages wait to be read.
    pub async fn send_text(&self, text: &str) -> Result<(), Failure> {
        self.make_room().await?;
        calls::socket::send_text(self.id(), text);
        self.count(text.len());
        Ok(())
    }

    /// Sends bytes: as [`send_text`](Self::send_text).
    ///
    /// ```no_run
    /// # async fn example(socket: wasm_worker_sdk::socket::Socket, sound: Vec<u8>) -> wasm_worker_sdk::Result {
    /// socket.send_bytes(&sound).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    pub async fn send_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.make_room().await?;
        calls::socket::send_bytes(self.id(), bytes);
        self.count(bytes.len());
        Ok(())
    }

    /// Closes the connection after what was sent, and waits up to 10 s for the other side. Messages that still come are
    /// dropped.
    ///
    /// ```no_run
    /// # async fn example(socket: wasm_worker_sdk::socket::Socket) -> wasm_worker_sdk::Result {
    /// socket.close(1000, "done").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and `timeout`.
    pub async fn close(self, code: u16, reason: &str) -> Result<(), Failure> {
        if !self.operation.borrow().is_ending() {
            executor::count_call();
            calls::socket::close(self.id(), code, reason);
        }
        let end = async {
            while self.next().await?.is_some() {}
            Ok(())
        };
        time::timeout(CLOSES_WITHIN, end).await.unwrap_or_else(|| {
            let message = "the other side does not close the connection".into();
            Err(Failure { id: self.id(), code: "timeout".into(), status: 0, message })
        })
    }

    fn id(&self) -> u32 {
        self.operation.borrow().id()
    }

    /// The next event for a reader. `None` after the last one.
    async fn event(&self) -> Option<Event> {
        waits::until(On::Id(self.id()), "socket::Socket::next", || {
            let mut operation = self.operation.borrow_mut();
            match operation.try_next_where(|event| !matches!(event, Event::Writable(_))) {
                Some(event) => Some(Some(event)),
                None => operation.is_ending().then_some(None),
            }
        })
        .await
    }

    /// Waits until another message can be sent.
    async fn make_room(&self) -> Result<(), Failure> {
        let room = waits::until(On::Id(self.id()), "socket::Socket::send", || self.has_room()).await;
        self.operation.borrow().has_written();
        room?;
        pacing::spread_calls().await;
        Ok(())
    }

    /// Whether another message can be sent, or why not. `None`: not yet.
    fn has_room(&self) -> Option<Result<(), Failure>> {
        let mut operation = self.operation.borrow_mut();
        let mut pacing = self.pacing.get();
        while operation.try_next_where(|event| matches!(event, Event::Writable(_))).is_some() {
            pacing.note_writable();
        }
        self.pacing.set(pacing);
        let cannot = |code: &str, message: &str| {
            Some(Err(Failure { id: operation.id(), code: code.into(), status: 0, message: message.into() }))
        };
        if operation.is_ending() {
            return cannot("closed", "the connection has ended");
        }
        if !pacing.is_full() {
            return Some(Ok(()));
        }
        if operation.is_flooded() {
            return cannot("limit", "too many messages wait to be read");
        }
        None
    }

    fn count(&self, bytes: usize) {
        let mut pacing = self.pacing.get();
        pacing.count(bytes);
        self.pacing.set(pacing);
    }
}

fn failure(closed: &SocketClosed) -> Failure {
    let reason = if closed.reason.is_empty() { "no reason" } else { closed.reason.as_str() };
    let message = format!("closed with {}: {reason}", closed.code);
    Failure { id: closed.id, code: "closed".into(), status: 0, message }
}
