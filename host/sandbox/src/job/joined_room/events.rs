//! The events of a room as those of the contract. Pure.

use tokio::time::Instant;
use wasm_worker_core::room::command::{IncomingId, OperationId};
use wasm_worker_core::room::event::RoomEvent;

use super::audio_events;
use crate::guest::bindings::wasm_worker::agent::events::{
    BytesChunk, Completion, DataMessage, Departure, Dtmf, Event, Failure, FileMessage, JoinedRoom, Loss,
    ParticipantChange, RpcAnswer, RpcRequest, StreamEnd, StreamStart, TextChunk, TextMessage,
};

/// The id of what an event goes on with or ends, where that began outside.
pub(super) const fn incoming_of(event: &RoomEvent) -> Option<IncomingId> {
    match event {
        RoomEvent::TextChunk { id, .. }
        | RoomEvent::BytesChunk { id, .. }
        | RoomEvent::StreamEnded { id, .. }
        | RoomEvent::RpcRequestFailed { id, .. } => Some(*id),
        RoomEvent::Lost { id, .. } => *id,
        RoomEvent::Audio(event) => audio_events::incoming_of(event),
        _ => None,
    }
}

/// The operation that an event goes on with or ends.
pub(super) const fn operation_of(event: &RoomEvent) -> Option<OperationId> {
    match event {
        RoomEvent::Writable(id) | RoomEvent::Done(id) | RoomEvent::RpcAnswer { id, .. } => Some(*id),
        RoomEvent::Failed(failure) => Some(failure.id),
        RoomEvent::Audio(event) => audio_events::operation_of(event),
        _ => None,
    }
}

/// An event as the contract has it. `incoming` is the id of the contract for [`incoming_of`], and 0 where that is over. What begins
/// outside gets its id at its delivery. Nothing becomes of an event about what is over. `moment` is a time as the guest counts it,
/// in milliseconds.
pub(super) fn event_of(event: RoomEvent, incoming: u32, moment: &dyn Fn(Instant) -> f64) -> Option<Event> {
    Some(match event {
        RoomEvent::Connected { local, room } => Event::Connected(JoinedRoom { local: local.into(), room: room.into() }),
        RoomEvent::Reconnecting => Event::Reconnecting,
        RoomEvent::Disconnected { reason, .. } => Event::Disconnected(reason.as_str().into()),
        RoomEvent::ParticipantJoined(who) => Event::ParticipantJoined(who.into()),
        RoomEvent::ParticipantLeft { participant, reason } => {
            Event::ParticipantLeft(Departure { participant: participant.into(), reason: reason.as_str().into() })
        }
        RoomEvent::ParticipantChanged { participant, changes, attributes } => {
            let (participant, changes) = (participant.into(), changes.into());
            Event::ParticipantChanged(ParticipantChange { participant, changes, attributes })
        }
        RoomEvent::RoomChanged(room) => Event::RoomChanged(room.into()),
        RoomEvent::SpeakersChanged(all) => Event::SpeakersChanged(all.into_iter().map(Into::into).collect()),
        RoomEvent::QualityChanged(all) => Event::QualityChanged(all.into_iter().map(Into::into).collect()),
        RoomEvent::Text { info, text } => Event::Text(TextMessage { info: info.into(), text }),
        RoomEvent::File { info, bytes } => Event::File(FileMessage { info: info.into(), bytes }),
        RoomEvent::StreamStarted { info, is_text, .. } => {
            Event::StreamStarted(StreamStart { id: 0, info: info.into(), is_text })
        }
        RoomEvent::Data { sender, topic, payload, reliable } => {
            Event::Data(DataMessage { sender, topic, payload, reliable })
        }
        RoomEvent::Dtmf { sender, code, digit } => Event::Dtmf(Dtmf { sender, code, digit }),
        RoomEvent::RpcRequest { caller, method, payload, timeout, .. } => {
            let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            Event::RpcRequest(RpcRequest { id: 0, caller, method, payload, timeout_ms })
        }
        RoomEvent::RpcAnswer { id, answer } => Event::RpcAnswer(RpcAnswer { id, answer: answer.map_err(Into::into) }),
        RoomEvent::TrackPublished(track) => Event::TrackPublished(track.into()),
        RoomEvent::TrackUnpublished(track) => Event::TrackUnpublished(track.into()),
        RoomEvent::TrackChanged(track) => Event::TrackChanged(track.into()),
        RoomEvent::Audio(event) => return audio_events::event_of(event, incoming, moment),
        RoomEvent::Lost { what, count, .. } => Event::Lost(Loss { what: what.into(), id: incoming, count }),
        RoomEvent::Writable(id) => Event::Writable(id),
        RoomEvent::Done(id) => Event::Done(Completion { id, value: String::new() }),
        RoomEvent::Failed(failure) => failed(failure.id, failure.code, failure.message),
        RoomEvent::TextChunk { .. }
        | RoomEvent::BytesChunk { .. }
        | RoomEvent::StreamEnded { .. }
        | RoomEvent::RpcRequestFailed { .. }
            if incoming == 0 =>
        {
            return None;
        }
        RoomEvent::TextChunk { text, .. } => Event::TextChunk(TextChunk { id: incoming, text }),
        RoomEvent::BytesChunk { bytes, .. } => Event::BytesChunk(BytesChunk { id: incoming, bytes }),
        RoomEvent::StreamEnded { attributes, reason, .. } => {
            Event::StreamEnded(StreamEnd { id: incoming, attributes, reason })
        }
        RoomEvent::RpcRequestFailed { code, message, .. } => failed(incoming, code, message),
    })
}

/// The end of an operation that failed.
pub(super) fn failed(id: u32, code: &str, message: String) -> Event {
    Event::Failed(Failure { id, code: code.into(), status: 0, message })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasm_worker_core::room::command::RpcError;
    use wasm_worker_core::room::event::{
        self, ConnectionQuality, ParticipantChanges, Quality, Reason, Speaker, StreamInfo,
    };
    use wasm_worker_core::room::people::{Participant, RoomInfo, Track, TrackKind};

    use super::*;
    use crate::guest::bindings::wasm_worker::agent::events;
    use crate::guest::events::{id_of, name_of};

    fn ann() -> Participant {
        Participant { identity: "ann".into(), ..Participant::default() }
    }

    fn track() -> Track {
        Track {
            sid: "TR".into(),
            participant: "ann".into(),
            name: "mic".into(),
            kind: TrackKind::Audio,
            source: "microphone",
            mime_type: "audio/red".into(),
            attributes: Vec::new(),
            muted: true,
            encrypted: false,
        }
    }

    fn every_event() -> Vec<(RoomEvent, &'static str, u32)> {
        let (info, outside, text) = (StreamInfo::default, IncomingId(3), || "text".to_owned());
        let failure = |id| event::Failure { id, code: "limit", message: text() };
        let changes = ParticipantChanges { name: true, ..ParticipantChanges::default() };
        let answer = Err(RpcError { code: 1_400, message: text(), data: String::new() });
        vec![
            (RoomEvent::Connected { local: ann(), room: RoomInfo::default() }, "connected", 0),
            (RoomEvent::Reconnecting, "reconnecting", 0),
            (RoomEvent::Disconnected { reason: Reason::RoomDeleted, message: text() }, "disconnected", 0),
            (RoomEvent::ParticipantJoined(ann()), "participant-joined", 0),
            (RoomEvent::ParticipantLeft { participant: ann(), reason: Reason::UserRejected }, "participant-left", 0),
            (
                RoomEvent::ParticipantChanged { participant: ann(), changes, attributes: Vec::new() },
                "participant-changed",
                0,
            ),
            (RoomEvent::RoomChanged(RoomInfo::default()), "room-changed", 0),
            (RoomEvent::SpeakersChanged(vec![Speaker { identity: text(), level: 0.5 }]), "speakers-changed", 0),
            (
                RoomEvent::QualityChanged(vec![ConnectionQuality { identity: text(), quality: Quality::Poor }]),
                "quality-changed",
                0,
            ),
            (RoomEvent::Text { info: info(), text: text() }, "text", 0),
            (RoomEvent::File { info: info(), bytes: vec![1] }, "file", 0),
            (RoomEvent::StreamStarted { id: outside, info: info(), is_text: true }, "stream-started", 0),
            (RoomEvent::TextChunk { id: outside, text: text() }, "text-chunk", 9),
            (RoomEvent::BytesChunk { id: outside, bytes: vec![1] }, "bytes-chunk", 9),
            (RoomEvent::StreamEnded { id: outside, attributes: Vec::new(), reason: text() }, "stream-ended", 9),
            (RoomEvent::Data { sender: None, topic: text(), payload: vec![1], reliable: false }, "data", 0),
            (RoomEvent::Dtmf { sender: Some(text()), code: 1, digit: "1".into() }, "dtmf", 0),
            (
                RoomEvent::RpcRequest {
                    id: outside,
                    caller: None,
                    method: text(),
                    payload: text(),
                    timeout: Duration::MAX,
                },
                "rpc-request",
                0,
            ),
            (RoomEvent::RpcRequestFailed { id: outside, code: "timeout", message: text() }, "failed", 9),
            (RoomEvent::RpcAnswer { id: 4, answer }, "rpc-answer", 4),
            (RoomEvent::TrackPublished(track()), "track-published", 0),
            (RoomEvent::TrackUnpublished(track()), "track-unpublished", 0),
            (RoomEvent::TrackChanged(track()), "track-changed", 0),
            (RoomEvent::Writable(5), "writable", 5),
            (RoomEvent::Done(6), "done", 6),
            (RoomEvent::Failed(failure(7)), "failed", 7),
            (RoomEvent::Lost { what: "text-chunk", id: Some(outside), count: 2 }, "lost", 0),
        ]
    }

    #[test]
    fn every_event_of_a_room_becomes_that_of_the_contract() {
        for (event, name, id) in every_event() {
            let incoming = incoming_of(&event).map_or(0, |_| 9);
            let event = event_of(event, incoming, &|_| 0.0).unwrap();
            assert_eq!((name_of(&event), id_of(&event)), (name, id));
        }
    }

    #[test]
    fn values_arrive_as_the_contract_has_them() {
        let reason = |event| match event_of(event, 0, &|_| 0.0) {
            Some(Event::Disconnected(reason)) => reason,
            Some(Event::ParticipantLeft(departure)) => departure.reason,
            other => panic!("{other:?}"),
        };
        let left = RoomEvent::ParticipantLeft { participant: ann(), reason: Reason::UserRejected };
        let lost = RoomEvent::Disconnected { reason: Reason::ConnectionTimeout, message: "for people".into() };
        assert_eq!((reason(left), reason(lost)), ("user-rejected".into(), "connection-timeout".into()));

        let Some(Event::TrackPublished(track)) = event_of(RoomEvent::TrackPublished(track()), 0, &|_| 0.0) else {
            panic!()
        };
        assert_eq!((track.kind, &*track.source, track.muted), (events::TrackKind::Audio, "microphone", true));

        let lost = RoomEvent::Lost { what: "text", id: Some(IncomingId(1)), count: 2 };
        let Some(Event::Lost(loss)) = event_of(lost, 9, &|_| 0.0) else { panic!() };
        assert_eq!((&*loss.what, loss.id, loss.count), ("text", 9, 2));

        let info = StreamInfo { size: Some(5), ..StreamInfo::default() };
        let Some(Event::Text(text)) = event_of(RoomEvent::Text { info, text: "hello".into() }, 0, &|_| 0.0) else {
            panic!()
        };
        assert_eq!((text.info.size, &*text.text), (Some(5.0), "hello"));
    }

    #[test]
    fn nothing_becomes_of_what_is_over() {
        let id = IncomingId(1);
        for event in [
            RoomEvent::TextChunk { id, text: "late".into() },
            RoomEvent::BytesChunk { id, bytes: Vec::new() },
            RoomEvent::StreamEnded { id, attributes: Vec::new(), reason: String::new() },
            RoomEvent::RpcRequestFailed { id, code: "timeout", message: String::new() },
        ] {
            assert_eq!(event_of(event, 0, &|_| 0.0), None);
        }
    }
}
