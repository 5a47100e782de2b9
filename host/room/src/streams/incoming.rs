//! Texts and files of participants. Pure.
//!
//! A sender is known by its sid, which the server sets: the identity may be of somebody for whom an agent speaks. Chunks arrive in
//! order. What arrives again is ignored; a gap, a wrong length or wrong UTF-8 ends the stream. A stream in parts ends with the reason;
//! of a whole text or file that does not arrive whole, `Lost` tells.
//!
//! Bounds: [`STREAMS_MAX`] streams, [`SENDER_STREAMS_MAX`] of one sender, their bytes (see [`super::inbox`]), and
//! [`STREAM_IDLE_MAX`] without a chunk.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use proto::data_stream::{Chunk, CompressionType, Header, Trailer};
use tokio::time::Instant;

use super::deadlines::Due;
use super::header;
use super::heard::Origin;
use super::held::Held;
use super::limits::{AFTER_LEAVING, SENDER_STREAMS_MAX, STREAM_BYTES, STREAM_IDLE_MAX, STREAMS_MAX, WHOLE_BYTES_MAX};
use super::parts::{Parts, held_by};
use super::receipts::Receipts;
use super::shared::Shared;
use crate::{size, wire};
use wasm_worker_core::room::command::{IncomingId, Receipt};
use wasm_worker_core::room::event::{RoomEvent, StreamInfo};
use wasm_worker_core::room::people::Attributes;
use wasm_worker_core::text::pairs_bytes;

/// Longest reason of a sender that is told, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// The streams that have not ended.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) receipts: Receipts,
    /// All streams whose last event has not been told.
    streams: BTreeMap<IncomingId, Stream>,
    /// Those that their senders have not ended.
    open: BTreeMap<Key, IncomingId>,
    /// Bytes that the streams of each sender hold.
    held: Held,
}

/// The sid of the sender, and the id that it gave the stream.
type Key = (String, String);

#[derive(Debug)]
struct Stream {
    key: Key,
    is_text: bool,
    /// The size that its sender told.
    size: Option<u64>,
    /// Bytes that arrived.
    length: u64,
    next_chunk: u64,
    /// The time of the last packet; none where the sender has left.
    last_at: Option<Instant>,
    /// The deadline that is set.
    due_at: Instant,
    /// Bytes that are counted for it.
    held: usize,
    delivery: Delivery,
}

#[derive(Debug)]
enum Delivery {
    /// The content so far.
    Whole {
        info: Box<StreamInfo>,
        content: Vec<u8>,
    },
    Parts(Parts),
}

impl Incoming {
    /// A stream begins. It is bounded in time where its sender has left since.
    pub(super) fn begun(&mut self, shared: &mut Shared, from: Origin, mut header: Header) {
        let Origin { sid, sender, has_left } = from;
        let (inline, compression) = (header.inline_content.take(), header.compression);
        let Some((info, is_text)) = header::info(header, sender) else {
            shared.counts.ignored += 1;
            return;
        };
        let receipt = self.receipts.of(&info.topic);
        if receipt == Receipt::None {
            return;
        }
        let is_known_form = compression == CompressionType::None as i32;
        let key = (sid, info.stream_id.clone());
        if !is_known_form || !self.try_open(shared, &key, info, is_text, receipt) {
            return shared.inbox.lose(name(is_text), None);
        }
        if has_left {
            self.left(shared, &key.0);
        }
        if let Some(content) = inline {
            self.chunk(shared, key.0.clone(), Chunk { stream_id: key.1.clone(), content, ..Default::default() });
            self.ended(shared, key.0, Trailer { stream_id: key.1, ..Default::default() });
        }
    }

    /// Open a stream. Whether there is room for it.
    fn try_open(&mut self, shared: &mut Shared, key: &Key, info: StreamInfo, is_text: bool, receipt: Receipt) -> bool {
        let size = info.size;
        let is_too_large = receipt == Receipt::Whole && size.is_some_and(|size| size > WHOLE_BYTES_MAX as u64);
        let has_place = self.streams.len() < STREAMS_MAX && self.of(&key.0).len() < SENDER_STREAMS_MAX;
        if is_too_large || !has_place || self.open.contains_key(key) {
            return false;
        }
        let Some(id) = shared.new_incoming() else { return false };
        let carried = size::of_info(&info);
        let held = STREAM_BYTES + carried;
        if !self.held.try_take(&mut shared.inbox, &key.0, held) {
            return false;
        }
        let delivery = if receipt == Receipt::Whole {
            Delivery::Whole { info: Box::new(info), content: Vec::new() }
        } else if shared.inbox.try_tell(RoomEvent::StreamStarted { id, info, is_text }, carried) {
            Delivery::Parts(Parts::default())
        } else {
            self.held.give_back(&key.0, held);
            shared.inbox.release(held);
            return false;
        };
        let (last_at, due_at) = (Some(shared.now), shared.now + STREAM_IDLE_MAX);
        shared.deadlines.set(due_at, Due::Stream(id));
        self.open.insert(key.clone(), id);
        let key = key.clone();
        let stream = Stream { key, is_text, size, length: 0, next_chunk: 0, last_at, due_at, held, delivery };
        self.streams.insert(id, stream);
        true
    }

    /// A part of a stream arrived.
    pub(super) fn chunk(&mut self, shared: &mut Shared, sid: String, chunk: Chunk) {
        let Some((id, stream)) = self.find(sid, &chunk.stream_id) else {
            shared.counts.ignored += 1;
            return;
        };
        if chunk.chunk_index < stream.next_chunk && chunk.version == 0 {
            shared.counts.repeats += 1;
            return;
        }
        let bytes = chunk.content.len();
        let length = stream.length.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let is_whole = matches!(stream.delivery, Delivery::Whole { .. });
        let reason = if chunk.chunk_index < stream.next_chunk {
            "the sender changed a part that was delivered"
        } else if chunk.chunk_index > stream.next_chunk {
            "a part is missing"
        } else if stream.size.is_some_and(|size| length > size) {
            "longer than its sender told"
        } else if is_whole && length > WHOLE_BYTES_MAX as u64 {
            "too large to be delivered whole"
        } else {
            let held = if is_whole { bytes } else { held_by(&chunk.content) };
            let (is_text, sid) = (stream.is_text, stream.key.0.clone());
            if self.held.try_take(&mut shared.inbox, &sid, held) {
                return self.append(shared, id, chunk.content, held);
            }
            if !is_whole {
                shared.inbox.lose(if is_text { "text-chunk" } else { "bytes-chunk" }, Some(id));
            }
            "too much waits to be read"
        };
        self.end(shared, id, Attributes::new(), reason.to_owned());
    }

    fn append(&mut self, shared: &mut Shared, id: IncomingId, part: Vec<u8>, held: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.next_chunk += 1;
        stream.length = stream.length.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        stream.held += held;
        stream.last_at = stream.last_at.map(|_| shared.now);
        match &mut stream.delivery {
            Delivery::Whole { content, .. } => content.extend(part),
            Delivery::Parts(parts) => {
                parts.add(part);
                self.give(shared, id);
            }
        }
    }

    /// A stream came to its end, or its sender gave it up.
    pub(super) fn ended(&mut self, shared: &mut Shared, sid: String, trailer: Trailer) {
        let Trailer { stream_id, mut reason, attributes } = trailer;
        let Some((id, stream)) = self.find(sid, &stream_id) else {
            shared.counts.ignored += 1;
            return;
        };
        let is_short = stream.size.is_some_and(|size| stream.length < size);
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        if reason.is_empty() && is_short {
            reason = "shorter than its sender told".into();
        }
        self.end(shared, id, wire::attributes(&attributes), reason);
    }

    /// The reader has taken bytes of a stream.
    pub(super) fn taken(&mut self, shared: &mut Shared, id: IncomingId, bytes: usize) {
        if let Some(Stream { delivery: Delivery::Parts(parts), .. }) = self.streams.get_mut(&id) {
            parts.taken(bytes);
            self.give(shared, id);
        }
    }

    /// The reader gives a stream up.
    pub(super) fn cancel(&mut self, shared: &mut Shared, id: IncomingId) {
        if let Some(stream) = self.take(shared, id) {
            shared.inbox.release(stream.held);
        }
    }

    /// A participant left. What it sent before may still be on its way.
    pub(super) fn left(&mut self, shared: &mut Shared, sid: &str) {
        for id in self.of(sid) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            shared.deadlines.clear(stream.due_at, Due::Stream(id));
            (stream.last_at, stream.due_at) = (None, shared.now + AFTER_LEAVING);
            shared.deadlines.set(stream.due_at, Due::Stream(id));
        }
    }

    /// The room is joined anew, or left: what was missed of the streams does not come.
    pub(super) fn break_all(&mut self, shared: &mut Shared, reason: &str) {
        for id in self.open.values().copied().collect::<Vec<_>>() {
            self.break_off(shared, id, reason);
        }
    }

    /// A stream may have been left by its sender.
    pub(super) fn due(&mut self, shared: &mut Shared, id: IncomingId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(last_at) = stream.last_at else {
            return self.break_off(shared, id, "the sender left");
        };
        stream.due_at = last_at + STREAM_IDLE_MAX;
        if stream.due_at > shared.now {
            return shared.deadlines.set(stream.due_at, Due::Stream(id));
        }
        self.break_off(shared, id, "no part came for a long time");
    }

    /// The number of streams.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert!(self.open.len() <= self.streams.len());
        assert_eq!(self.held.sum(), self.streams.values().map(|stream| stream.held).sum::<usize>());
        self.streams.len()
    }

    /// End a stream without a trailer. It is whole where all of the size that its sender told is there.
    fn break_off(&mut self, shared: &mut Shared, id: IncomingId, reason: &str) {
        let is_whole = |stream: &Stream| stream.size == Some(stream.length);
        let reason = if self.streams.get(&id).is_some_and(is_whole) { "" } else { reason };
        self.end(shared, id, Attributes::new(), reason.to_owned());
    }

    /// End a stream that is open.
    fn end(&mut self, shared: &mut Shared, id: IncomingId, mut attributes: Attributes, mut reason: String) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.open.remove(&stream.key);
        shared.deadlines.clear(stream.due_at, Due::Stream(id));
        let (sid, carried) = (stream.key.0.clone(), pairs_bytes(&attributes));
        if self.held.try_take(&mut shared.inbox, &sid, carried) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.held += carried;
            }
        } else {
            attributes.clear();
            reason = "too much waits to be read".into();
        }
        if let Some(Stream { delivery: Delivery::Parts(parts), .. }) = self.streams.get_mut(&id) {
            parts.end(attributes, reason);
            return self.give(shared, id);
        }
        self.finish_whole(shared, id, attributes, &reason);
    }

    /// Tell a whole text or file, or that it did not arrive whole.
    fn finish_whole(&mut self, shared: &mut Shared, id: IncomingId, attributes: Attributes, reason: &str) {
        let Some(stream) = self.take(shared, id) else { return };
        let Delivery::Whole { mut info, content } = stream.delivery else { return };
        header::merge(&mut info.attributes, attributes);
        let event = match (reason, stream.is_text) {
            ("", false) => Some(RoomEvent::File { info: *info, bytes: content }),
            ("", true) => String::from_utf8(content).ok().map(|text| RoomEvent::Text { info: *info, text }),
            _ => None,
        };
        match event {
            Some(event) => shared.inbox.tell_reserved(event, stream.held),
            None => {
                shared.inbox.release(stream.held);
                shared.inbox.lose(name(stream.is_text), None);
            }
        }
    }

    /// Give the reader of a stream what it may be given.
    fn give(&mut self, shared: &mut Shared, id: IncomingId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Delivery::Parts(parts) = &mut stream.delivery else { return };
        let given = parts.give(&mut shared.inbox, id, stream.is_text);
        let is_over = parts.is_over();
        stream.held -= given;
        self.held.give_back(&stream.key.0, given);
        if is_over {
            self.finish_parts(shared, id);
        }
    }

    /// Tell the end of a stream in parts.
    fn finish_parts(&mut self, shared: &mut Shared, id: IncomingId) {
        let Some(stream) = self.take(shared, id) else { return };
        let Delivery::Parts(parts) = stream.delivery else { return };
        let (attributes, reason) = parts.into_end();
        shared.inbox.tell_reserved(RoomEvent::StreamEnded { id, attributes, reason }, stream.held);
    }

    /// Remove a stream. Its bytes stay counted in the inbox.
    fn take(&mut self, shared: &mut Shared, id: IncomingId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if self.open.get(&stream.key) == Some(&id) {
            self.open.remove(&stream.key);
        }
        shared.deadlines.clear(stream.due_at, Due::Stream(id));
        self.held.give_back(&stream.key.0, stream.held);
        Some(stream)
    }

    /// The open streams of a sender.
    fn of(&self, sid: &str) -> Vec<IncomingId> {
        let from = (sid.to_owned(), String::new());
        self.open.range(from..).take_while(|(key, _)| key.0 == sid).map(|(_, id)| *id).collect()
    }

    fn find(&mut self, sid: String, stream_id: &str) -> Option<(IncomingId, &mut Stream)> {
        let id = *self.open.get(&(sid, stream_id.to_owned()))?;
        self.streams.get_mut(&id).map(|stream| (id, stream))
    }
}

/// The name of a whole text or file in the contract's `lost`.
const fn name(is_text: bool) -> &'static str {
    if is_text { "text" } else { "file" }
}
