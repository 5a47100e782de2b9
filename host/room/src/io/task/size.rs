//! The memory that commands and events take while they wait.

use wasm_worker_core::text::{pairs_bytes, text_bytes};

use wasm_worker_core::room::command::{Command, SendOptions, Transcription};
use wasm_worker_core::room::event::{RoomEvent, StreamInfo};
use wasm_worker_core::room::people::Participant;

/// The bytes of a command.
pub(super) fn of_command(command: &Command) -> usize {
    let content = match command {
        Command::Receive { topic, .. } => topic.len(),
        Command::SendText { topic, text, options, .. } => topic.len() + text.len() + of_options(options),
        Command::OpenText { topic, options, .. } => topic.len() + of_options(options),
        Command::WriteText { text, .. } => text.len(),
        Command::SendFile { topic, name, mime_type, bytes, options, .. } => {
            topic.len() + name.len() + mime_type.len() + bytes.len() + of_options(options)
        }
        Command::OpenFile { topic, name, mime_type, options, .. } => {
            topic.len() + name.len() + mime_type.len() + of_options(options)
        }
        Command::WriteBytes { bytes, .. } => bytes.len(),
        Command::CloseStream { attributes, .. } | Command::SetAttributes { attributes, .. } => pairs_bytes(attributes),
        Command::SendData { topic, payload, destinations, .. } => topic.len() + payload.len() + of_texts(destinations),
        Command::SendDtmf { digit, .. } => digit.len(),
        Command::SendTranscription { text, options, .. } => text.len() + of_transcription(options),
        Command::OpenTranscription { options, .. } => of_transcription(options),
        Command::Call { destination, method, payload, .. } => destination.len() + method.len() + payload.len(),
        Command::Answer { answer: Ok(payload), .. } => payload.len(),
        Command::Answer { answer: Err(error), .. } => error.message.len() + error.data.len(),
        Command::SetMetadata { metadata, .. } => metadata.len(),
        Command::SetName { name, .. } => name.len(),
        Command::Connect { .. }
        | Command::Disconnect
        | Command::Cancel { .. }
        | Command::CancelIncoming { .. }
        | Command::Taken { .. }
        | Command::SetAgentState { .. } => 0,
    };
    size_of::<Command>() + content
}

/// The bytes of an event.
pub(super) fn of_event(event: &RoomEvent) -> usize {
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
            track.sid.len() + track.name.len() + track.participant.len() + pairs_bytes(&track.attributes)
        }
        RoomEvent::Failed(failure) => failure.message.len(),
        RoomEvent::Reconnecting | RoomEvent::Writable(_) | RoomEvent::Done(_) | RoomEvent::Lost { .. } => 0,
    };
    size_of::<RoomEvent>() + content
}

fn of_options(options: &SendOptions) -> usize {
    of_texts(&options.destinations)
        + pairs_bytes(&options.attributes)
        + options.stream_id.len()
        + options.sender.len()
        + options.reply_to.len()
}

fn of_transcription(options: &Transcription) -> usize {
    let texts = [&options.segment_id, &options.speaker, &options.track_sid, &options.language];
    texts.iter().map(|text| text.len()).sum::<usize>() + pairs_bytes(&options.attributes)
}

fn of_info(info: &StreamInfo) -> usize {
    let texts = [&info.stream_id, &info.topic, &info.name, &info.mime_type, &info.reply_to];
    texts.iter().map(|text| text.len()).sum::<usize>() + of_sender(&info.sender) + pairs_bytes(&info.attributes)
}

fn of_participant(participant: &Participant) -> usize {
    let texts = [&participant.sid, &participant.identity, &participant.name, &participant.metadata];
    texts.iter().map(|text| text_bytes(text)).sum::<usize>() + pairs_bytes(&participant.attributes)
}

fn of_texts(texts: &[String]) -> usize {
    texts.iter().map(|text| text_bytes(text)).sum()
}

fn of_sender(sender: &Option<String>) -> usize {
    sender.as_ref().map_or(0, String::len)
}
