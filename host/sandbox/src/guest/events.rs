//! Facts about each event of the contract: its id, its size, its name. Pure.

use wasm_worker_core::text::pairs_bytes;

use super::bindings::wasm_worker::agent::events::{Event, StreamInfo, Track};
use super::contract::{JobInfo, Participant};

/// The id that an event belongs to; 0 where there is none. An event that begins something outside has 0 until its delivery.
pub(crate) const fn id_of(event: &Event) -> u32 {
    match event {
        Event::StreamStarted(of) => of.id,
        Event::TextChunk(of) => of.id,
        Event::BytesChunk(of) => of.id,
        Event::StreamEnded(of) => of.id,
        Event::RpcRequest(of) => of.id,
        Event::RpcAnswer(of) => of.id,
        Event::AudioStarted(of) => of.id,
        Event::Audio(of) => of.id,
        Event::AudioLevel(of) => of.id,
        Event::VoiceStarted(of) | Event::VoiceEnded(of) => of.id,
        Event::AudioEnded(id) | Event::AudioSubscribed(id) | Event::Writable(id) => *id,
        Event::AudioPublished(of) => of.id,
        Event::AudioPlayout(of) => of.id,
        Event::AudioMarked(of) => of.id,
        Event::HttpHead(of) => of.id,
        Event::HttpBody(of) => of.id,
        Event::SocketOpened(of) => of.id,
        Event::SocketText(of) => of.id,
        Event::SocketBytes(of) => of.id,
        Event::SocketClosed(of) => of.id,
        Event::Done(of) => of.id,
        Event::Failed(of) => of.id,
        Event::Other(of) => of.id,
        _ => 0,
    }
}

/// The place for the id of an event that begins something outside.
pub(crate) const fn id_to_give(event: &mut Event) -> Option<&mut u32> {
    match event {
        Event::RpcRequest(of) => Some(&mut of.id),
        Event::StreamStarted(of) => Some(&mut of.id),
        Event::AudioStarted(of) if of.rule != 0 => Some(&mut of.id),
        _ => None,
    }
}

/// Whether an event is the last of its id.
pub(crate) const fn is_last(event: &Event) -> bool {
    match event {
        Event::Done(_)
        | Event::Failed(_)
        | Event::RpcAnswer(_)
        | Event::StreamEnded(_)
        | Event::AudioEnded(_)
        | Event::SocketClosed(_) => true,
        Event::HttpBody(body) => body.last,
        _ => false,
    }
}

/// The name of an event's case in the contract.
pub(crate) const fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "started",
        Event::Resumed(_) => "resumed",
        Event::Connected(_) => "connected",
        Event::Reconnecting => "reconnecting",
        Event::Disconnected(_) => "disconnected",
        Event::ParticipantJoined(_) => "participant-joined",
        Event::ParticipantLeft(_) => "participant-left",
        Event::ParticipantChanged(_) => "participant-changed",
        Event::RoomChanged(_) => "room-changed",
        Event::SpeakersChanged(_) => "speakers-changed",
        Event::QualityChanged(_) => "quality-changed",
        Event::Text(_) => "text",
        Event::File(_) => "file",
        Event::StreamStarted(_) => "stream-started",
        Event::TextChunk(_) => "text-chunk",
        Event::BytesChunk(_) => "bytes-chunk",
        Event::StreamEnded(_) => "stream-ended",
        Event::Data(_) => "data",
        Event::Dtmf(_) => "dtmf",
        Event::RpcRequest(_) => "rpc-request",
        Event::RpcAnswer(_) => "rpc-answer",
        Event::TrackPublished(_) => "track-published",
        Event::TrackUnpublished(_) => "track-unpublished",
        Event::TrackChanged(_) => "track-changed",
        Event::AudioStarted(_) => "audio-started",
        Event::Audio(_) => "audio",
        Event::AudioLevel(_) => "audio-level",
        Event::VoiceStarted(_) => "voice-started",
        Event::VoiceEnded(_) => "voice-ended",
        Event::AudioEnded(_) => "audio-ended",
        Event::AudioPublished(_) => "audio-published",
        Event::AudioSubscribed(_) => "audio-subscribed",
        Event::AudioPlayout(_) => "audio-playout",
        Event::AudioMarked(_) => "audio-marked",
        Event::HttpHead(_) => "http-head",
        Event::HttpBody(_) => "http-body",
        Event::SocketOpened(_) => "socket-opened",
        Event::SocketText(_) => "socket-text",
        Event::SocketBytes(_) => "socket-bytes",
        Event::SocketClosed(_) => "socket-closed",
        Event::Writable(_) => "writable",
        Event::Done(_) => "done",
        Event::Failed(_) => "failed",
        Event::Lost(_) => "lost",
        Event::LimitWarning(_) => "limit-warning",
        Event::ShutdownRequested(_) => "shutdown-requested",
        Event::TasksWanted => "tasks-wanted",
        Event::Other(_) => "other",
    }
}

/// Host memory of what an event carries, in bytes, near enough for a budget. The event itself takes `size_of::<Event>()` more.
pub(crate) fn payload_bytes(event: &Event) -> usize {
    match event {
        Event::Started(info) => job_info_bytes(info),
        Event::Resumed(of) => of.cause.len(),
        Event::Connected(of) => {
            participant_bytes(&of.local) + of.room.metadata.len() + pairs_bytes(&of.room.attributes)
        }
        Event::Disconnected(reason) => reason.len(),
        Event::ParticipantJoined(who) => participant_bytes(who),
        Event::ParticipantLeft(of) => participant_bytes(&of.participant) + of.reason.len(),
        Event::ParticipantChanged(of) => participant_bytes(&of.participant) + pairs_bytes(&of.attributes),
        Event::RoomChanged(room) => room.metadata.len() + pairs_bytes(&room.attributes),
        Event::SpeakersChanged(all) => all.iter().map(|of| size_of_val(of) + of.identity.len()).sum(),
        Event::QualityChanged(all) => all.iter().map(|of| size_of_val(of) + of.identity.len()).sum(),
        Event::Text(of) => stream_bytes(&of.info) + of.text.len(),
        Event::File(of) => stream_bytes(&of.info) + of.bytes.len(),
        Event::StreamStarted(of) => stream_bytes(&of.info),
        Event::TextChunk(of) => of.text.len(),
        Event::BytesChunk(of) => of.bytes.len(),
        Event::StreamEnded(of) => pairs_bytes(&of.attributes) + of.reason.len(),
        Event::Data(of) => optional(of.sender.as_ref()) + of.topic.len() + of.payload.len(),
        Event::Dtmf(of) => optional(of.sender.as_ref()) + of.digit.len(),
        Event::RpcRequest(of) => optional(of.caller.as_ref()) + of.method.len() + of.payload.len(),
        Event::RpcAnswer(of) => match &of.answer {
            Ok(answer) => answer.len(),
            Err(error) => error.message.len() + error.data.len(),
        },
        Event::TrackPublished(track) | Event::TrackUnpublished(track) | Event::TrackChanged(track) => {
            track_bytes(track)
        }
        Event::AudioStarted(of) => track_bytes(&of.track),
        Event::Audio(of) => of.pcm.len(),
        Event::AudioPublished(of) => of.track_sid.len(),
        Event::HttpHead(of) => of.url.len() + pairs_bytes(&of.headers),
        Event::HttpBody(of) => of.bytes.len(),
        Event::SocketOpened(of) => of.protocol.len() + pairs_bytes(&of.headers),
        Event::SocketText(of) => of.text.len(),
        Event::SocketBytes(of) => of.bytes.len(),
        Event::SocketClosed(of) => of.reason.len(),
        Event::Done(of) => of.value.len(),
        Event::Failed(of) => of.code.len() + of.message.len(),
        Event::Lost(of) => of.what.len(),
        Event::LimitWarning(of) => of.budget.len(),
        Event::ShutdownRequested(of) => of.code.len() + of.reason.len(),
        Event::Other(of) => of.kind.len() + of.json.len() + of.bytes.len(),
        Event::Reconnecting
        | Event::AudioLevel(_)
        | Event::VoiceStarted(_)
        | Event::VoiceEnded(_)
        | Event::AudioEnded(_)
        | Event::AudioSubscribed(_)
        | Event::AudioPlayout(_)
        | Event::AudioMarked(_)
        | Event::Writable(_)
        | Event::TasksWanted => 0,
    }
}

/// Host memory of a participant, in bytes.
pub(crate) fn participant_bytes(who: &Participant) -> usize {
    size_of::<Participant>()
        + who.sid.len()
        + who.identity.len()
        + who.name.len()
        + who.metadata.len()
        + pairs_bytes(&who.attributes)
}

/// Host memory of a job's facts, in bytes.
pub(crate) fn job_info_bytes(info: &JobInfo) -> usize {
    info.metadata.len()
        + info.room.metadata.len()
        + pairs_bytes(&info.attributes)
        + info.participant.as_ref().map_or(0, participant_bytes)
}

/// Host memory of an event with what it carries, in bytes.
pub(crate) fn event_bytes(event: &Event) -> usize {
    size_of::<Event>() + payload_bytes(event)
}

fn stream_bytes(info: &StreamInfo) -> usize {
    info.stream_id.len()
        + optional(info.sender.as_ref())
        + info.topic.len()
        + info.name.len()
        + info.mime_type.len()
        + pairs_bytes(&info.attributes)
        + info.reply_to.len()
}

fn track_bytes(track: &Track) -> usize {
    track.sid.len()
        + track.participant.len()
        + track.name.len()
        + track.source.len()
        + track.mime_type.len()
        + pairs_bytes(&track.attributes)
}

fn optional(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}
