//! Texts, files, transcriptions and data packets of the agent. Pure.
//!
//! Bounds: those of the contract for one operation, [`UNSENT_BYTES_MAX`] before a further write, and [`super::limits::QUEUE_BYTES_MAX`]
//! for all of them. A header and a trailer each fit into a packet.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol as proto;
use prost::Message;
use proto::data_packet::Value;
use proto::data_stream::header::ContentHeader;
use proto::data_stream::{ByteHeader, Header, Trailer};

use super::header;
use super::limits::{CHUNK_BYTES_MAX, UNSENT_BYTES_MAX};
use super::operation::{Envelope, Kind, State, Stream};
use super::outbox::Reply;
use super::shared::{Refusal, Shared};
use crate::wire::{PACKET_BYTES_MAX, some};
use wasm_worker_core::room::command::{OperationId, SendOptions, Transcription};
use wasm_worker_core::room::names::{IS_FINAL, SEGMENT_ID, TRACK_ID, TRANSCRIPTION};
use wasm_worker_core::room::people::Attributes;

/// The attribute of the language of a transcription.
const LANGUAGE: &str = "lk.transcription_language";

/// The reason in the trailer of a stream that does not come to its end: one of those that the protocol names.
const INTERRUPTED: &str = "interrupted";

const TOO_LARGE: Refusal = ("too-large", "it does not fit into a packet");

/// Most transcriptions whose text is kept for the old form, of at most [`CHUNK_BYTES_MAX`] each.
const KEPT_TEXTS_MAX: usize = 16;

/// What the agent sends.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Identity of the agent.
    pub(super) identity: String,
    /// The transcriptions that have not ended.
    spoken: BTreeMap<OperationId, Spoken>,
}

/// A transcription. One that names a track is sent at its end in the old form too, as a packet for front ends that do not read
/// streams.
#[derive(Debug)]
struct Spoken {
    speaker: String,
    track_sid: String,
    segment_id: String,
    language: String,
    is_final: bool,
    /// The text, while the old form fits into a packet.
    text: Option<String>,
}

/// A stream that is about to begin.
struct Beginning {
    topic: String,
    mime_type: String,
    attributes: HashMap<String, String>,
    header: ContentHeader,
    stream: Stream,
}

impl Outgoing {
    /// Begin a text.
    pub(super) fn open_text(
        shared: &mut Shared,
        id: OperationId,
        topic: String,
        size: Option<usize>,
        options: SendOptions,
    ) -> Result<(), Refusal> {
        let SendOptions { destinations, attributes, stream_id, sender, reply_to } = options;
        let (text, attributes) = header::text_header(attributes, reply_to)?;
        let stream_id = if stream_id.is_empty() { shared.new_name("ST") } else { stream_id };
        let size = size.and_then(|size| u64::try_from(size).ok());
        let stream = Stream::new(stream_id, Envelope { sender, destinations }, true, size);
        let (mime_type, header) = (header::TEXT.to_owned(), ContentHeader::TextHeader(text));
        begin(shared, id, Beginning { topic, mime_type, attributes, header, stream })
    }

    /// Begin a file.
    pub(super) fn open_file(
        shared: &mut Shared,
        id: OperationId,
        topic: String,
        (name, mime_type): (String, String),
        size: Option<u64>,
        options: SendOptions,
    ) -> Result<(), Refusal> {
        let SendOptions { destinations, attributes, stream_id, sender, .. } = options;
        let stream_id = if stream_id.is_empty() { shared.new_name("ST") } else { stream_id };
        let mime_type = if mime_type.is_empty() { header::BYTES.to_owned() } else { mime_type };
        let stream = Stream::new(stream_id, Envelope { sender, destinations }, false, size);
        let (attributes, header) = (header::foreign(attributes), ContentHeader::ByteHeader(ByteHeader { name }));
        begin(shared, id, Beginning { topic, mime_type, attributes, header, stream })
    }

    /// Begin a transcription.
    pub(super) fn open_transcription(
        &mut self,
        shared: &mut Shared,
        id: OperationId,
        size: Option<usize>,
        options: Transcription,
    ) -> Result<(), Refusal> {
        let Transcription { segment_id, speaker, track_sid, language, mut attributes, is_final } = options;
        let segment_id = if segment_id.is_empty() { shared.new_name("SG") } else { segment_id };
        let own = [
            (SEGMENT_ID, segment_id.as_str()),
            (IS_FINAL, if is_final { "true" } else { "false" }),
            (TRACK_ID, &track_sid),
            (LANGUAGE, &language),
        ];
        let own = own.into_iter().filter(|(_, value)| !value.is_empty());
        header::merge(&mut attributes, own.map(|(name, value)| (name.into(), value.into())).collect());
        let options = SendOptions { attributes, sender: speaker.clone(), ..SendOptions::default() };
        Self::open_text(shared, id, TRANSCRIPTION.into(), size, options)?;
        let has_old_form = !track_sid.is_empty() && self.spoken.len() < KEPT_TEXTS_MAX;
        let speaker = if speaker.is_empty() { self.identity.clone() } else { speaker };
        let text = has_old_form.then(String::new);
        shared.outbox.keep(id, speaker.len() + track_sid.len() + segment_id.len() + language.len());
        self.spoken.insert(id, Spoken { speaker, track_sid, segment_id, language, is_final, text });
        Ok(())
    }

    /// Write a part of a stream.
    pub(super) fn write(
        &mut self,
        shared: &mut Shared,
        id: OperationId,
        content: Vec<u8>,
        is_text: bool,
    ) -> Result<(), Refusal> {
        let has_room = shared.outbox.has_room();
        let Some(operation) = shared.outbox.operation(id) else { return Ok(()) };
        let waiting = operation.bytes;
        let Kind::Stream(stream) = &mut operation.kind else { return Ok(()) };
        if stream.state == State::Closed {
            return Ok(());
        }
        let length = stream.length.saturating_add(u64::try_from(content.len()).unwrap_or(u64::MAX));
        if stream.is_text != is_text {
            return Err(("invalid", "a text is written by texts, and a file by bytes"));
        } else if waiting > UNSENT_BYTES_MAX {
            return Err(("too-large", "more than 1 MiB waits to be sent"));
        } else if !has_room {
            return Err(("limit", "too much waits to be sent"));
        } else if stream.size.is_some_and(|size| length > size) {
            return Err(("invalid", "more was written than the size that was announced"));
        }
        stream.length = length;
        if let Some(spoken) = self.spoken.get_mut(&id) {
            spoken.add(&content);
        }
        shared.outbox.push_content(id, content);
        Ok(())
    }

    /// End a stream: one that was sent whole, or by a call of the agent, which makes a transcription final.
    pub(super) fn close(
        &mut self,
        shared: &mut Shared,
        id: OperationId,
        mut attributes: Attributes,
        is_by_call: bool,
    ) -> Result<(), Refusal> {
        let Some(operation) = shared.outbox.operation(id) else { return Ok(()) };
        let Kind::Stream(stream) = &mut operation.kind else { return Ok(()) };
        if stream.state == State::Closed {
            return Ok(());
        }
        if stream.size.is_some_and(|size| stream.length < size) {
            return Err(("invalid", "less was written than the size that was announced"));
        }
        let mut spoken = self.spoken.remove(&id);
        if let Some(spoken) = spoken.as_mut().filter(|_| is_by_call) {
            spoken.is_final = true;
            header::merge(&mut attributes, vec![(IS_FINAL.into(), "true".into())]);
        }
        let packet = trailer(stream, header::foreign(attributes), "");
        if packet.encoded_len() > PACKET_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        stream.state = State::Closed;
        let old_form = spoken.and_then(|spoken| spoken.packet(&stream.envelope));
        if let Some(packet) = old_form {
            shared.outbox.push_packet(id, packet, false);
        }
        shared.outbox.push_packet(id, packet, true);
        Ok(())
    }

    /// Send a data packet.
    pub(super) fn send_data(
        shared: &mut Shared,
        id: Option<OperationId>,
        topic: String,
        payload: Vec<u8>,
        destinations: Vec<String>,
    ) -> Result<(), Refusal> {
        let user = proto::UserPacket { payload, topic: some(topic), ..Default::default() };
        let packet = Envelope { sender: String::new(), destinations }.packet(Value::User(user));
        match id {
            Some(id) => send_packet(shared, id, packet),
            None if packet.encoded_len() > PACKET_BYTES_MAX => {
                shared.counts.lossy_dropped += 1;
                Ok(())
            }
            None => {
                shared.counts.lossy_dropped += shared.outbox.push_lossy(packet);
                Ok(())
            }
        }
    }

    /// Send a key of a telephone.
    pub(super) fn send_dtmf(shared: &mut Shared, id: OperationId, code: u32, digit: String) -> Result<(), Refusal> {
        send_packet(shared, id, Envelope::default().packet(Value::SipDtmf(proto::SipDtmf { code, digit })))
    }

    /// Give up an operation. Receivers that know of a stream are told.
    pub(super) fn cancel(&mut self, shared: &mut Shared, id: OperationId) {
        self.spoken.remove(&id);
        let Some(operation) = shared.outbox.remove(id) else { return };
        if let Kind::Stream(stream) = operation.kind
            && operation.has_begun
        {
            shared.reply(trailer(&stream, HashMap::new(), INTERRUPTED), Reply::Answer);
        }
    }

    /// These operations are over.
    pub(super) fn forget(&mut self, ids: &[OperationId]) {
        self.spoken.retain(|id, _| !ids.contains(id));
    }
}

impl Spoken {
    fn add(&mut self, content: &[u8]) {
        let fits = |text: &String| text.len() + content.len() <= CHUNK_BYTES_MAX;
        self.text = self.text.take().filter(fits).map(|text| text + std::str::from_utf8(content).unwrap_or_default());
    }

    /// The old form, if there is one.
    fn packet(self, envelope: &Envelope) -> Option<proto::DataPacket> {
        let Self { speaker, track_sid, segment_id, language, is_final, text } = self;
        let segment = proto::TranscriptionSegment {
            id: segment_id,
            text: text?,
            language,
            r#final: is_final,
            ..Default::default()
        };
        let packet = envelope.packet(Value::Transcription(proto::Transcription {
            transcribed_participant_identity: speaker,
            track_id: track_sid,
            segments: vec![segment],
        }));
        Some(packet).filter(|packet| packet.encoded_len() <= PACKET_BYTES_MAX)
    }
}

fn begin(shared: &mut Shared, id: OperationId, beginning: Beginning) -> Result<(), Refusal> {
    let Beginning { topic, mime_type, attributes, header, stream } = beginning;
    if !shared.outbox.has_room() {
        return Err(("limit", "too much waits to be sent"));
    }
    let header = Header {
        stream_id: stream.stream_id.clone(),
        timestamp: shared.now_ms(),
        topic,
        mime_type,
        total_length: stream.size,
        attributes,
        content_header: Some(header),
        ..Default::default()
    };
    let packet = stream.envelope.packet(Value::StreamHeader(header));
    // The other packets of the stream carry the same names and a chunk.
    let names = trailer(&stream, HashMap::new(), INTERRUPTED).encoded_len();
    if packet.encoded_len() > PACKET_BYTES_MAX || names + CHUNK_BYTES_MAX > PACKET_BYTES_MAX - 1_000 {
        return Err(TOO_LARGE);
    }
    shared.outbox.begin(id, Kind::Stream(stream));
    shared.outbox.push_packet(id, packet, false);
    Ok(())
}

fn send_packet(shared: &mut Shared, id: OperationId, packet: proto::DataPacket) -> Result<(), Refusal> {
    if packet.encoded_len() > PACKET_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    if !shared.outbox.has_room() {
        return Err(("limit", "too much waits to be sent"));
    }
    shared.outbox.begin(id, Kind::Packet);
    shared.outbox.push_packet(id, packet, true);
    Ok(())
}

fn trailer(stream: &Stream, attributes: HashMap<String, String>, reason: &str) -> proto::DataPacket {
    let (stream_id, reason) = (stream.stream_id.clone(), reason.to_owned());
    stream.envelope.packet(Value::StreamTrailer(Trailer { stream_id, reason, attributes }))
}
