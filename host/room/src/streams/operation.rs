//! An operation that sends something, and the pieces of it that wait. Pure.

use livekit_protocol as proto;
use prost::Message;
use proto::data_packet::Value;

use super::limits::{WRITABLE_AFTER_BYTES, WRITABLE_BELOW_BYTES};
use super::unicode::end_of_chunk;
use wasm_worker_core::room::command::OperationId;
use wasm_worker_core::text::text_bytes;

/// An operation that sends something.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// Pieces in the queue.
    pub(super) pieces: usize,
    /// Bytes in the queue.
    pub(super) bytes: usize,
    /// Bytes of the names that are kept until its end.
    pub(super) kept_bytes: usize,
    /// Bytes that were written since the writer was last told to go on.
    pub(super) written: usize,
    /// Whether something of it has been handed over.
    pub(super) has_begun: bool,
}

/// What an operation is.
#[derive(Debug)]
pub(super) enum Kind {
    /// One packet.
    Packet,
    /// The request of a remote procedure call. Its answer ends it.
    Call,
    /// A text or a file.
    Stream(Stream),
}

/// Whether more of a stream may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The trailer is in the queue.
    Closed,
}

/// A text or a file that is sent.
#[derive(Debug)]
pub(super) struct Stream {
    /// The id by which receivers know it.
    pub(super) stream_id: String,
    pub(super) envelope: Envelope,
    pub(super) is_text: bool,
    /// The size that was announced.
    pub(super) size: Option<u64>,
    /// Bytes that were written.
    pub(super) length: u64,
    pub(super) state: State,
    /// The number of the next chunk.
    next_chunk: u64,
}

impl Stream {
    /// A stream of which nothing is written.
    pub(super) const fn new(stream_id: String, envelope: Envelope, is_text: bool, size: Option<u64>) -> Self {
        Self { stream_id, envelope, is_text, size, length: 0, state: State::Open, next_chunk: 0 }
    }

    /// Memory of its names, in bytes.
    fn names_bytes(&self) -> usize {
        let Envelope { sender, destinations } = &self.envelope;
        let destinations: usize = destinations.iter().map(|identity| text_bytes(identity)).sum();
        self.stream_id.len() + sender.len() + destinations
    }

    fn next_chunk(&mut self, content: &[u8]) -> proto::DataPacket {
        let chunk = proto::data_stream::Chunk {
            stream_id: self.stream_id.clone(),
            chunk_index: self.next_chunk,
            content: content.to_vec(),
            ..Default::default()
        };
        self.next_chunk += 1;
        self.envelope.packet(Value::StreamChunk(chunk))
    }
}

/// For whom a packet is, and from whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope {
    /// Identity of the participant that the packet speaks for; empty: the agent.
    pub(super) sender: String,
    /// Identities of the receivers; everyone when empty.
    pub(super) destinations: Vec<String>,
}

impl Envelope {
    /// To one participant.
    pub(super) fn to(identity: &str) -> Self {
        Self { sender: String::new(), destinations: vec![identity.to_owned()] }
    }

    /// A packet with this content.
    pub(super) fn packet(&self, value: Value) -> proto::DataPacket {
        proto::DataPacket {
            participant_identity: self.sender.clone(),
            destination_identities: self.destinations.clone(),
            value: Some(value),
            ..Default::default()
        }
    }
}

/// A piece that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The operation; none of what is sent for others.
    pub(super) id: Option<OperationId>,
    pub(super) bytes: usize,
    pub(super) piece: Piece,
}

/// Something that gives packets.
#[derive(Debug)]
pub(super) enum Piece {
    /// A packet. The last one of an operation ends it.
    Packet { packet: Box<proto::DataPacket>, is_last: bool },
    /// A content of which the bytes up to `at` have been handed over.
    Content { content: Vec<u8>, at: usize },
}

/// What follows from a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Little of this stream waits: its writer may go on.
    Writable(OperationId),
    /// The request of this call is on its way.
    Asked(OperationId),
}

/// What a piece of an operation gives next.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) packet: Option<proto::DataPacket>,
    /// Bytes that do not wait any more.
    pub(super) freed: usize,
    pub(super) after: After,
}

/// What is left after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// More of the piece.
    Rest,
    /// Nothing of the piece.
    Nothing,
    /// Nothing of the operation: it ends with the packet.
    End,
}

impl Operation {
    /// An operation of which nothing waits.
    pub(super) fn new(kind: Kind) -> Self {
        let kept_bytes = match &kind {
            Kind::Stream(stream) => stream.names_bytes(),
            Kind::Packet | Kind::Call => 0,
        };
        Self { kind, pieces: 0, bytes: 0, kept_bytes, written: 0, has_begun: false }
    }

    /// The next packet of a piece.
    pub(super) fn take(&mut self, waiting: &mut Waiting) -> Taken {
        let all = waiting.bytes;
        match (&mut waiting.piece, &mut self.kind) {
            (Piece::Packet { packet, is_last }, _) => {
                let after = if *is_last { After::End } else { After::Nothing };
                Taken { packet: Some(std::mem::take(packet)), freed: all, after }
            }
            (Piece::Content { content, at }, Kind::Stream(stream)) => {
                let end = end_of_chunk(content, *at, stream.is_text);
                let packet = stream.next_chunk(content.get(*at..end).unwrap_or_default());
                let (freed, after) =
                    if end == content.len() { (all, After::Nothing) } else { (end - *at, After::Rest) };
                waiting.bytes -= freed;
                *at = end;
                Taken { packet: Some(packet), freed, after }
            }
            (Piece::Content { .. }, Kind::Packet | Kind::Call) => {
                Taken { packet: None, freed: all, after: After::Nothing }
            }
        }
    }

    /// What follows from a packet.
    pub(super) fn effect(&mut self, id: OperationId) -> Option<Effect> {
        match &self.kind {
            Kind::Call => Some(Effect::Asked(id)),
            Kind::Stream(stream)
                if stream.state == State::Open
                    && self.written > WRITABLE_AFTER_BYTES
                    && self.bytes < WRITABLE_BELOW_BYTES =>
            {
                self.written = 0;
                Some(Effect::Writable(id))
            }
            Kind::Packet | Kind::Stream(_) => None,
        }
    }
}

impl Waiting {
    /// A packet that waits.
    pub(super) fn packet(id: Option<OperationId>, packet: proto::DataPacket, is_last: bool) -> Self {
        let bytes = size_of::<Self>() + size_of::<proto::DataPacket>() + packet.encoded_len();
        Self { id, bytes, piece: Piece::Packet { packet: Box::new(packet), is_last } }
    }

    /// A content that waits.
    pub(super) fn content(id: OperationId, content: Vec<u8>) -> Self {
        let bytes = size_of::<Self>() + content.len();
        Self { id: Some(id), bytes, piece: Piece::Content { content, at: 0 } }
    }
}
