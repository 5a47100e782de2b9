//! What an agent asks of the network.

use std::time::Duration;

/// An exchange by HTTP, or a WebSocket. The caller gives the number: it is the id of the contract.
pub type OperationId = u32;

/// Names and values of headers, in the order given.
pub type Headers = Vec<(String, String)>;

/// A request by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method, such as `GET`.
    pub method: String,
    /// The URL: `http://` or `https://`.
    pub url: String,
    /// The headers. Those of the connection itself, such as `host` and `content-length`, are the host's.
    pub headers: Headers,
    /// The body, or the beginning of one that is written in parts.
    pub body: Vec<u8>,
    /// Longest time of the whole exchange; zero: the network's.
    pub timeout: Duration,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
}

/// A WebSocket to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketRequest {
    /// The URL: `ws://` or `wss://`.
    pub url: String,
    /// Headers of the handshake.
    pub headers: Headers,
    /// The protocols that the agent speaks, the preferred one first.
    pub protocols: Vec<String>,
    /// Longest time of the connecting; zero: the network's.
    pub timeout: Duration,
}

/// One request to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a request. `Head` follows, then `Body`; the one that is the last ends the operation.
    Send { id: OperationId, request: HttpRequest },
    /// The same, and the body goes on by `Write`, up to `End`.
    Open { id: OperationId, request: HttpRequest },
    /// Write a part of the body of `Open`.
    Write { id: OperationId, bytes: Vec<u8> },
    /// End the body of `Open`.
    End { id: OperationId },

    /// Open a WebSocket. `Opened` follows; `Closed` ends the operation.
    Connect { id: OperationId, request: SocketRequest },
    /// Send a text. Before `Opened` it waits.
    SendText { id: OperationId, text: String },
    /// Send a binary message. Before `Opened` it waits.
    SendBytes { id: OperationId, bytes: Vec<u8> },
    /// Close the socket after what was sent.
    Close { id: OperationId, code: u16, reason: String },

    /// Give up an operation. No event of it follows, and those that wait are dropped.
    Cancel { id: OperationId },
    /// The caller has handed on events of this [charge](super::event::NetworkEvent::charge), so that as much may be read ahead
    /// again.
    Taken { id: OperationId, charge: usize },
}

impl Command {
    /// The operation that the command is about.
    pub const fn id(&self) -> OperationId {
        match self {
            Self::Send { id, .. }
            | Self::Open { id, .. }
            | Self::Write { id, .. }
            | Self::End { id }
            | Self::Connect { id, .. }
            | Self::SendText { id, .. }
            | Self::SendBytes { id, .. }
            | Self::Close { id, .. }
            | Self::Cancel { id }
            | Self::Taken { id, .. } => *id,
        }
    }

    /// Whether the command begins its operation.
    pub const fn begins(&self) -> bool {
        matches!(self, Self::Send { .. } | Self::Open { .. } | Self::Connect { .. })
    }
}
