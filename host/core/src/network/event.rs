//! What the network tells an agent.

use super::command::{Headers, OperationId};

/// The charge of an event beside its content, in bytes: its place in queues, so that many small ones count in full.
pub const EVENT_CHARGE: usize = 128;

/// The head of an answer by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The URL, after redirects, without what the host added to it.
    pub url: String,
    /// The headers.
    pub headers: Headers,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of [`FAILURE_CODES`](super::code::FAILURE_CODES).
    pub code: &'static str,
    /// The status of HTTP, where there was an answer, else 0.
    pub status: u16,
    /// The reason for people: one line that names the host and what helps.
    pub message: String,
}

/// Something that happened to an operation. Each operation ends with exactly one last event: a `Body` with `last`, `Closed` or
/// `Failed`; after `Cancel` none follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// The head of an answer.
    Head { id: OperationId, head: Head },
    /// A part of the body, decompressed. Cuts mean nothing.
    Body { id: OperationId, bytes: Vec<u8>, last: bool },
    /// A WebSocket is open. `protocol`: the one that the server chose; empty: none.
    Opened { id: OperationId, protocol: String, headers: Headers },
    /// A whole text.
    Text { id: OperationId, text: String },
    /// A whole binary message.
    Bytes { id: OperationId, bytes: Vec<u8> },
    /// The last event of a socket that was open. `code` is 1006 where it was lost.
    Closed { id: OperationId, code: u16, reason: String },
    /// Little waits to be sent on this operation: write on.
    Writable { id: OperationId },
    /// The operation failed and is over.
    Failed { id: OperationId, failure: Failure },
}

impl NetworkEvent {
    /// The operation.
    pub const fn id(&self) -> OperationId {
        match self {
            Self::Head { id, .. }
            | Self::Body { id, .. }
            | Self::Opened { id, .. }
            | Self::Text { id, .. }
            | Self::Bytes { id, .. }
            | Self::Closed { id, .. }
            | Self::Writable { id }
            | Self::Failed { id, .. } => *id,
        }
    }

    /// Whether the operation is over with it.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Body { last: true, .. } | Self::Closed { .. } | Self::Failed { .. })
    }

    /// What the event counts against the bytes that are read ahead: its content, and [`EVENT_CHARGE`].
    pub fn charge(&self) -> usize {
        let content = match self {
            Self::Head { head, .. } => head.url.len() + headers_bytes(&head.headers),
            Self::Body { bytes, .. } | Self::Bytes { bytes, .. } => bytes.len(),
            Self::Opened { protocol, headers, .. } => protocol.len() + headers_bytes(headers),
            Self::Text { text, .. } => text.len(),
            Self::Closed { reason, .. } => reason.len(),
            Self::Writable { .. } => 0,
            Self::Failed { failure, .. } => failure.message.len(),
        };
        EVENT_CHARGE + content
    }
}

/// The bytes of headers as HTTP/1.1 writes them.
pub fn headers_bytes(headers: &[(String, String)]) -> usize {
    // Each has a colon, a space, and the end of its line.
    headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_one_kind_of_last_event() {
        let part = |last| NetworkEvent::Body { id: 7, bytes: vec![0; 10], last };
        assert!(part(true).is_last() && !part(false).is_last());
        assert!(NetworkEvent::Closed { id: 7, code: 1000, reason: String::new() }.is_last());
        let head = Head { status: 200, url: "http://a/".into(), headers: vec![("a".into(), "b".into())] };
        let head = NetworkEvent::Head { id: 7, head };
        assert!(!head.is_last() && !NetworkEvent::Writable { id: 7 }.is_last());
        assert_eq!((part(false).charge(), head.charge()), (EVENT_CHARGE + 10, EVENT_CHARGE + 15));
    }
}
