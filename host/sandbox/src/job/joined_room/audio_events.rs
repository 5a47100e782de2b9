//! The events of sound as those of the contract. Pure.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioEvent, AudioFrame, HeardId};
use wasm_worker_core::room::command::{IncomingId, OperationId};

use crate::guest::bindings::wasm_worker::agent::events::{
    self, AudioLevel, AudioMark, AudioPublication, AudioStart, Event, Playout, Voice,
};

/// The track that an event is about; none for a track of the agent.
pub(super) const fn heard_of(event: &AudioEvent) -> Option<HeardId> {
    match event {
        AudioEvent::Started { id, .. }
        | AudioEvent::Level { id, .. }
        | AudioEvent::VoiceStarted { id, .. }
        | AudioEvent::VoiceEnded { id, .. }
        | AudioEvent::Ended { id } => Some(*id),
        AudioEvent::Frame(frame) => Some(frame.id),
        AudioEvent::Published { .. }
        | AudioEvent::Subscribed { .. }
        | AudioEvent::Playout { .. }
        | AudioEvent::Marked { .. } => None,
    }
}

/// The id of a followed track that an event goes on with or ends.
pub(super) const fn incoming_of(event: &AudioEvent) -> Option<IncomingId> {
    match (event, heard_of(event)) {
        (AudioEvent::Started { .. }, _) => None,
        (_, Some(HeardId::Followed(id))) => Some(id),
        _ => None,
    }
}

/// The operation of the agent that an event belongs to: its subscription, the rule of a track that begins, or its own track.
pub(super) const fn operation_of(event: &AudioEvent) -> Option<OperationId> {
    match (event, heard_of(event)) {
        (_, Some(HeardId::Asked(id))) => Some(id),
        (AudioEvent::Started { rule, .. }, _) => *rule,
        (
            AudioEvent::Published { id, .. }
            | AudioEvent::Subscribed { id }
            | AudioEvent::Playout { id, .. }
            | AudioEvent::Marked { id, .. },
            _,
        ) => Some(*id),
        _ => None,
    }
}

/// An event as the contract has it. `incoming` is the id of the contract for [`incoming_of`], and 0 where that is over. Nothing becomes of
/// an event about what is over. `moment` is a time as the guest counts it, in milliseconds.
pub(super) fn event_of(event: AudioEvent, incoming: u32, moment: &dyn Fn(Instant) -> f64) -> Option<Event> {
    let moment = |at| moment(Instant::from_std(at));
    let id_of = |id| match id {
        HeardId::Asked(id) => Some(id),
        HeardId::Followed(_) => (incoming != 0).then_some(incoming),
    };
    let voice = |id, at| Some(Voice { id: id_of(id)?, at_ms: moment(at) });
    Some(match event {
        // A followed track gets its id at its delivery.
        AudioEvent::Started { id, rule, track } => {
            let id = if let HeardId::Asked(id) = id { id } else { 0 };
            Event::AudioStarted(AudioStart { id, rule: rule.unwrap_or_default(), track: track.into() })
        }
        AudioEvent::Frame(AudioFrame { id, at, concealed, dropped, pcm }) => Event::Audio(events::AudioFrame {
            id: id_of(id)?,
            at_ms: moment(at),
            concealed_ms: whole_millis(concealed),
            dropped_ms: whole_millis(dropped),
            pcm,
        }),
        AudioEvent::Level { id, at, level, voice } => {
            Event::AudioLevel(AudioLevel { id: id_of(id)?, at_ms: moment(at), level, voice })
        }
        AudioEvent::VoiceStarted { id, at } => Event::VoiceStarted(voice(id, at)?),
        AudioEvent::VoiceEnded { id, at } => Event::VoiceEnded(voice(id, at)?),
        AudioEvent::Ended { id } => Event::AudioEnded(id_of(id)?),
        AudioEvent::Published { id, track_sid } => Event::AudioPublished(AudioPublication { id, track_sid }),
        AudioEvent::Subscribed { id } => Event::AudioSubscribed(id),
        AudioEvent::Playout { id, state, played, at } => {
            let (played_ms, at_ms) = (millis(played), moment(at));
            Event::AudioPlayout(Playout { id, state: state.into(), played_ms, at_ms })
        }
        AudioEvent::Marked { id, mark, cleared, played, at } => {
            let (played_ms, at_ms) = (millis(played), moment(at));
            Event::AudioMarked(AudioMark { id, mark, cleared, played_ms, at_ms })
        }
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// At least 1 where there is anything: sound that is missing is never told as none.
fn whole_millis(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::PlayoutState;
    use wasm_worker_core::room::people::{Track, TrackKind};

    use super::*;
    use crate::guest::events::{id_of, name_of};

    const ASKED: HeardId = HeardId::Asked(3);
    const FOLLOWED: HeardId = HeardId::Followed(IncomingId(7));

    fn track() -> Track {
        Track {
            sid: "TR".into(),
            participant: "ann".into(),
            name: "mic".into(),
            kind: TrackKind::Audio,
            source: "microphone",
            mime_type: "audio/opus".into(),
            attributes: Vec::new(),
            muted: false,
            encrypted: false,
        }
    }

    fn frame(id: HeardId, at: Instant) -> AudioEvent {
        let (concealed, dropped) = (Duration::from_micros(1), Duration::from_millis(40));
        AudioEvent::Frame(AudioFrame { id, at: at.into_std(), concealed, dropped, pcm: vec![1, 2] })
    }

    fn of_a_heard_track(id: HeardId, at: Instant) -> Vec<(AudioEvent, &'static str)> {
        let frame = frame(id, at);
        let at = at.into_std();
        vec![
            (frame, "audio"),
            (AudioEvent::Level { id, at, level: -20.0, voice: 0.5 }, "audio-level"),
            (AudioEvent::VoiceStarted { id, at }, "voice-started"),
            (AudioEvent::VoiceEnded { id, at }, "voice-ended"),
            (AudioEvent::Ended { id }, "audio-ended"),
        ]
    }

    #[test]
    fn events_of_a_heard_track_have_its_id_of_the_contract() {
        let at = Instant::now();
        for (id, operation, incoming) in [(ASKED, Some(3), None), (FOLLOWED, None, Some(IncomingId(7)))] {
            for (event, name) in of_a_heard_track(id, at) {
                assert_eq!((operation_of(&event), incoming_of(&event)), (operation, incoming));
                let event = event_of(event, if incoming.is_some() { 9 } else { 0 }, &|_| 5.0).unwrap();
                assert_eq!((name_of(&event), id_of(&event)), (name, operation.unwrap_or(9)));
            }
        }
        for (event, _) in of_a_heard_track(FOLLOWED, at) {
            assert_eq!(event_of(event, 0, &|_| 5.0), None, "the track is over");
        }
    }

    #[test]
    fn the_beginning_of_a_followed_track_belongs_to_its_rule_and_has_no_id_yet() {
        let followed = AudioEvent::Started { id: FOLLOWED, rule: Some(4), track: track() };
        assert_eq!((operation_of(&followed), incoming_of(&followed)), (Some(4), None));
        let Some(Event::AudioStarted(start)) = event_of(followed, 0, &|_| 0.0) else { panic!() };
        assert_eq!((start.id, start.rule, &*start.track.source), (0, 4, "microphone"));
        let asked = AudioEvent::Started { id: ASKED, rule: None, track: track() };
        assert_eq!(operation_of(&asked), Some(3));
        let Some(Event::AudioStarted(start)) = event_of(asked, 0, &|_| 0.0) else { panic!() };
        assert_eq!((start.id, start.rule), (3, 0));
    }

    #[test]
    fn positions_and_times_are_in_milliseconds() {
        let at = Instant::now();
        let Some(Event::Audio(heard)) = event_of(frame(ASKED, at), 0, &|_| 5.5) else { panic!() };
        assert_eq!((heard.at_ms, heard.concealed_ms, heard.dropped_ms, heard.pcm), (5.5, 1, 40, vec![1, 2]));
        let (played, at) = (Duration::from_micros(1_250), at.into_std());
        for (event, name) in [
            (AudioEvent::Published { id: 3, track_sid: "TR".into() }, "audio-published"),
            (AudioEvent::Subscribed { id: 3 }, "audio-subscribed"),
            (AudioEvent::Playout { id: 3, state: PlayoutState::Cleared, played, at }, "audio-playout"),
            (AudioEvent::Marked { id: 3, mark: 8, cleared: true, played, at }, "audio-marked"),
        ] {
            assert_eq!((operation_of(&event), incoming_of(&event)), (Some(3), None));
            let event = event_of(event, 0, &|_| 5.5).unwrap();
            assert_eq!((name_of(&event), id_of(&event)), (name, 3));
            match event {
                Event::AudioPlayout(playout) => {
                    assert_eq!((playout.state, playout.played_ms), (events::PlayoutState::Cleared, 1.25));
                }
                Event::AudioMarked(mark) => {
                    assert_eq!((mark.mark, mark.cleared, mark.played_ms, mark.at_ms), (8, true, 1.25, 5.5));
                }
                _ => {}
            }
        }
    }
}
