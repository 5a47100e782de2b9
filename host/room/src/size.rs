//! The memory that events take while they wait.

use wasm_worker_core::room::audio::AudioEvent;
use wasm_worker_core::room::event::{RoomEvent, StreamInfo};
use wasm_worker_core::room::people::{Participant, Track};
use wasm_worker_core::text::{pairs_bytes, text_bytes};

/// The bytes of an event.
pub(crate) fn of_event(event: &RoomEvent) -> usize {
    let content = match event {
        RoomEvent::Connected { local, room } => of_participant(local) + room.metadata.len() + room.name.len(),
        RoomEvent::Disconnected { message, .. } | RoomEvent::RpcRequestFailed { message, .. } => message.len(),
        RoomEvent::ParticipantJoined(participant) | RoomEvent::ParticipantLeft { participant, .. } => {
            of_participant(participant)
        }
        RoomEvent::ParticipantChanged { participant, attributes, .. } => {
            of_participant(participant) + pairs_bytes(attributes)
        }
        RoomEvent::RoomChanged(room) => room.metadata.len() + room.name.len(),
        RoomEvent::SpeakersChanged(speakers) => speakers.iter().map(|speaker| text_bytes(&speaker.identity)).sum(),
        RoomEvent::QualityChanged(all) => all.iter().map(|quality| text_bytes(&quality.identity)).sum(),
        RoomEvent::Text { info, text } => of_info(info) + text.len(),
        RoomEvent::File { info, bytes } => of_info(info) + bytes.len(),
        RoomEvent::StreamStarted { info, .. } => of_info(info),
        RoomEvent::TextChunk { text, .. } => text.len(),
        RoomEvent::BytesChunk { bytes, .. } => bytes.len(),
        RoomEvent::StreamEnded { attributes, reason, .. } => pairs_bytes(attributes) + reason.len(),
        RoomEvent::Data { sender, topic, payload, .. } => of_sender(sender) + topic.len() + payload.len(),
        RoomEvent::Dtmf { sender, digit, .. } => of_sender(sender) + digit.len(),
        RoomEvent::RpcRequest { caller, method, payload, .. } => of_sender(caller) + method.len() + payload.len(),
        RoomEvent::RpcAnswer { answer: Ok(payload), .. } => payload.len(),
        RoomEvent::RpcAnswer { answer: Err(error), .. } => error.message.len() + error.data.len(),
        RoomEvent::TrackPublished(track) | RoomEvent::TrackUnpublished(track) | RoomEvent::TrackChanged(track) => {
            of_track(track)
        }
        RoomEvent::Audio(AudioEvent::Frame(frame)) => frame.pcm.len(),
        RoomEvent::Audio(AudioEvent::Started { track, .. }) => of_track(track),
        RoomEvent::Audio(_) => 0,
        RoomEvent::Failed(failure) => failure.message.len(),
        RoomEvent::Reconnecting | RoomEvent::Writable(_) | RoomEvent::Done(_) | RoomEvent::Lost { .. } => 0,
    };
    size_of::<RoomEvent>() + content
}

/// The bytes of the facts of a text or a file.
pub(crate) fn of_info(info: &StreamInfo) -> usize {
    let texts = [&info.stream_id, &info.topic, &info.name, &info.mime_type, &info.reply_to];
    texts.iter().map(|text| text.len()).sum::<usize>() + of_sender(&info.sender) + pairs_bytes(&info.attributes)
}

fn of_participant(participant: &Participant) -> usize {
    let texts = [&participant.sid, &participant.identity, &participant.name, &participant.metadata];
    texts.iter().map(|text| text_bytes(text)).sum::<usize>() + pairs_bytes(&participant.attributes)
}

fn of_track(track: &Track) -> usize {
    let texts = [&track.sid, &track.name, &track.participant, &track.mime_type];
    texts.iter().map(|text| text.len()).sum::<usize>() + pairs_bytes(&track.attributes)
}

fn of_sender(sender: &Option<String>) -> usize {
    sender.as_ref().map_or(0, String::len)
}
