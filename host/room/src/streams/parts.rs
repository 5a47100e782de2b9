//! A stream that is delivered in parts: chunks that wait for the reader, and become texts or bytes. Pure.
//!
//! Bounds: [`READ_AHEAD_BYTES_MAX`] are given before the reader takes any; what waits is counted by [`super::held`].

use std::collections::VecDeque;

use super::inbox::{EVENT_BYTES, Inbox};
use super::limits::READ_AHEAD_BYTES_MAX;
use super::unicode::Decoder;
use wasm_worker_core::room::command::IncomingId;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::people::Attributes;

/// The reason of a text that is none.
const NOT_TEXT: &str = "no UTF-8";

/// What waits of a stream, and what its reader has.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Chunks that wait until the reader has taken others.
    waiting: VecDeque<Vec<u8>>,
    /// Bytes that were given and not taken.
    ahead: usize,
    decoder: Decoder,
    /// Attributes and reason, once the end is known.
    end: Option<(Attributes, String)>,
}

impl Parts {
    /// Add a chunk for which [`held_by`] is counted.
    pub(super) fn add(&mut self, part: Vec<u8>) {
        self.waiting.push_back(part);
    }

    /// The stream ends after what waits.
    pub(super) fn end(&mut self, attributes: Attributes, reason: String) {
        self.end = Some((attributes, reason));
    }

    /// The reader has taken bytes.
    pub(super) const fn taken(&mut self, bytes: usize) {
        self.ahead = self.ahead.saturating_sub(bytes);
    }

    /// Whether only the end is left to be told.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.end.is_some()
    }

    /// The attributes and the reason of the end.
    pub(super) fn into_end(self) -> (Attributes, String) {
        let (attributes, reason) = self.end.unwrap_or_default();
        let is_cut = reason.is_empty() && !self.decoder.is_whole();
        (attributes, if is_cut { NOT_TEXT.into() } else { reason })
    }

    /// Give the reader what it may be given. Returns the bytes that do not wait here any more.
    pub(super) fn give(&mut self, inbox: &mut Inbox, id: IncomingId, is_text: bool) -> usize {
        let mut given = 0;
        while self.ahead < READ_AHEAD_BYTES_MAX
            && let Some(part) = self.waiting.pop_front()
        {
            let (bytes, held) = (part.len(), held_by(&part));
            given += held;
            let event = match self.decode(part, is_text) {
                Part::Text(text) => RoomEvent::TextChunk { id, text },
                Part::Bytes(bytes) => RoomEvent::BytesChunk { id, bytes },
                Part::Nothing { dropped } => {
                    inbox.release(held + dropped);
                    given += dropped;
                    continue;
                }
            };
            self.ahead += bytes;
            inbox.tell_reserved(event, held);
        }
        given
    }

    fn decode(&mut self, part: Vec<u8>, is_text: bool) -> Part {
        if !is_text && !part.is_empty() {
            return Part::Bytes(part);
        }
        match self.decoder.decode(part) {
            Ok(text) if text.is_empty() => Part::Nothing { dropped: 0 },
            Ok(text) => Part::Text(text),
            Err(_) => {
                self.end = Some((Attributes::new(), NOT_TEXT.into()));
                Part::Nothing { dropped: self.waiting.drain(..).map(|part| held_by(&part)).sum() }
            }
        }
    }
}

/// What a chunk becomes for the reader.
enum Part {
    Text(String),
    Bytes(Vec<u8>),
    /// Nothing: it is empty so far, or no text. These bytes of later chunks were dropped with it.
    Nothing {
        dropped: usize,
    },
}

/// Memory of a chunk that waits, and of the event that it becomes, in bytes.
pub(super) const fn held_by(part: &[u8]) -> usize {
    EVENT_BYTES + part.len()
}
