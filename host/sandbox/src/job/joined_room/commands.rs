//! The calls of the contract as commands of a room. Pure.

use std::time::Duration;

use wasm_worker_core::room::audio::AudioCommand;
use wasm_worker_core::room::command::{AgentState, Command};

use crate::guest::calls::Call;

/// The command for a call. A call that is none of a room's is given back, and so is one on an id that began outside.
#[expect(clippy::result_large_err, reason = "a call is moved on, whichever way it goes")]
pub(super) fn command_of(call: Call) -> Result<Command, Call> {
    Ok(match call {
        Call::Connect { id } => Command::Connect { id },
        Call::Disconnect => Command::Disconnect,
        Call::Cancel { id } => Command::Cancel { id },
        Call::Receive { topic, receipt } => Command::Receive { topic, receipt: receipt.into() },
        Call::SendText { id, topic, text, options } => Command::SendText { id, topic, text, options: options.into() },
        Call::OpenText { id, topic, options } => Command::OpenText { id, topic, options: options.into() },
        Call::WriteText { id, text } => Command::WriteText { id, text },
        Call::SendFile { id, topic, name, mime_type, bytes, options } => {
            Command::SendFile { id, topic, name, mime_type, bytes, options: options.into() }
        }
        Call::OpenFile { id, topic, name, mime_type, size, options } => {
            Command::OpenFile { id, topic, name, mime_type, size: size.and_then(whole), options: options.into() }
        }
        Call::WriteBytes { id, bytes } => Command::WriteBytes { id, bytes },
        Call::CloseStream { id, attributes } => Command::CloseStream { id, attributes },
        Call::SendData { id, topic, payload, destinations } => Command::SendData { id, topic, payload, destinations },
        Call::SendDtmf { id, code, digit } => Command::SendDtmf { id, code, digit },
        Call::SendTranscription { id, text, options } => {
            Command::SendTranscription { id, text, options: options.into() }
        }
        Call::OpenTranscription { id, options } => Command::OpenTranscription { id, options: options.into() },
        Call::Rpc { id, destination, method, payload, timeout_ms } => {
            let timeout = Duration::from_millis(timeout_ms.into());
            Command::Call { id, destination, method, payload, timeout }
        }
        Call::SetAttributes { id, attributes } => Command::SetAttributes { id, attributes },
        Call::SetMetadata { id, metadata } => Command::SetMetadata { id, metadata },
        Call::SetName { id, name } => Command::SetName { id, name },
        Call::SetAgentState { state } => Command::SetAgentState { state: AgentState::from(state) },
        call => return audio_command_of(call).map(Command::Audio),
    })
}

#[expect(clippy::result_large_err, reason = "as above")]
fn audio_command_of(call: Call) -> Result<AudioCommand, Call> {
    Ok(match call {
        Call::SubscribeAudio { id, track_sid, options } => {
            AudioCommand::Subscribe { id, track_sid, options: options.into() }
        }
        Call::FollowAudio { id, rule, options } => {
            AudioCommand::Follow { id, rule: rule.into(), options: options.into() }
        }
        Call::PublishAudio { id, options } => AudioCommand::Publish { id, publication: options.into() },
        Call::WriteAudio { id, pcm } => AudioCommand::Write { id, pcm },
        Call::MarkAudio { id, mark } => AudioCommand::Mark { id, mark },
        Call::MuteAudio { id, muted } => AudioCommand::Mute { id, muted },
        Call::ClearAudio { id } => AudioCommand::Clear { id },
        Call::CloseAudio { id } => AudioCommand::Close { id },
        call => return Err(call),
    })
}

/// A size in bytes, if the number is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked before: a whole number below 2^53"
)]
fn whole(size: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (size.fract() == 0.0 && (0.0..EXACT).contains(&size)).then_some(size as u64)
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::{Publication, Rule, Subscription};
    use wasm_worker_core::room::command::{Receipt, SendOptions, Transcription};

    use super::*;
    use crate::guest::bindings::wasm_worker::agent::{audio as contract_audio, room as contract_room};
    use crate::guest::contract;

    fn contract_options() -> contract::SendOptions {
        contract::SendOptions {
            destinations: vec!["ann".into()],
            attributes: vec![("a".into(), "b".into())],
            stream_id: "s".into(),
            sender: "me".into(),
            reply_to: "r".into(),
            repeatable: true,
        }
    }

    fn options() -> SendOptions {
        SendOptions {
            destinations: vec!["ann".into()],
            attributes: vec![("a".into(), "b".into())],
            stream_id: "s".into(),
            sender: "me".into(),
            reply_to: "r".into(),
        }
    }

    fn contract_transcription() -> contract_room::Transcription {
        contract_room::Transcription {
            segment_id: "g".into(),
            speaker: "ann".into(),
            track_sid: "TR".into(),
            language: "en".into(),
            attributes: Vec::new(),
            is_final: true,
        }
    }

    fn transcription() -> Transcription {
        Transcription {
            segment_id: "g".into(),
            speaker: "ann".into(),
            track_sid: "TR".into(),
            language: "en".into(),
            attributes: Vec::new(),
            is_final: true,
        }
    }

    fn text() -> String {
        "text".into()
    }

    fn topic() -> String {
        "topic".into()
    }

    fn name() -> String {
        "a.bin".into()
    }

    fn mime_type() -> String {
        "x/y".into()
    }

    fn pairs() -> Vec<(String, String)> {
        vec![("a".into(), String::new())]
    }

    fn sends() -> Vec<(Call, Command)> {
        vec![
            (
                Call::SendText { id: 3, topic: topic(), text: text(), options: contract_options() },
                Command::SendText { id: 3, topic: topic(), text: text(), options: options() },
            ),
            (
                Call::OpenText { id: 4, topic: topic(), options: contract_options() },
                Command::OpenText { id: 4, topic: topic(), options: options() },
            ),
            (Call::WriteText { id: 4, text: text() }, Command::WriteText { id: 4, text: text() }),
            (
                Call::SendFile {
                    id: 5,
                    topic: topic(),
                    name: name(),
                    mime_type: mime_type(),
                    bytes: vec![1],
                    options: contract_options(),
                },
                Command::SendFile {
                    id: 5,
                    topic: topic(),
                    name: name(),
                    mime_type: mime_type(),
                    bytes: vec![1],
                    options: options(),
                },
            ),
            (
                Call::OpenFile {
                    id: 6,
                    topic: topic(),
                    name: name(),
                    mime_type: mime_type(),
                    size: Some(7.0),
                    options: contract_options(),
                },
                Command::OpenFile {
                    id: 6,
                    topic: topic(),
                    name: name(),
                    mime_type: mime_type(),
                    size: Some(7),
                    options: options(),
                },
            ),
            (Call::WriteBytes { id: 6, bytes: vec![2] }, Command::WriteBytes { id: 6, bytes: vec![2] }),
            (Call::CloseStream { id: 6, attributes: pairs() }, Command::CloseStream { id: 6, attributes: pairs() }),
            (
                Call::SendData { id: None, topic: topic(), payload: vec![3], destinations: vec![name()] },
                Command::SendData { id: None, topic: topic(), payload: vec![3], destinations: vec![name()] },
            ),
            (
                Call::SendDtmf { id: 7, code: 1, digit: "1".into() },
                Command::SendDtmf { id: 7, code: 1, digit: "1".into() },
            ),
            (
                Call::SendTranscription { id: 8, text: text(), options: contract_transcription() },
                Command::SendTranscription { id: 8, text: text(), options: transcription() },
            ),
            (
                Call::OpenTranscription { id: 9, options: contract_transcription() },
                Command::OpenTranscription { id: 9, options: transcription() },
            ),
        ]
    }

    fn others() -> Vec<(Call, Command)> {
        let timeout = Duration::from_millis(1_500);
        vec![
            (Call::Connect { id: 1 }, Command::Connect { id: 1 }),
            (Call::Disconnect, Command::Disconnect),
            (Call::Cancel { id: 2 }, Command::Cancel { id: 2 }),
            (
                Call::Receive { topic: topic(), receipt: contract_room::Receipt::Parts },
                Command::Receive { topic: topic(), receipt: Receipt::Parts },
            ),
            (
                Call::Rpc { id: 10, destination: name(), method: topic(), payload: text(), timeout_ms: 1_500 },
                Command::Call { id: 10, destination: name(), method: topic(), payload: text(), timeout },
            ),
            (
                Call::SetAttributes { id: 11, attributes: pairs() },
                Command::SetAttributes { id: 11, attributes: pairs() },
            ),
            (Call::SetMetadata { id: 12, metadata: text() }, Command::SetMetadata { id: 12, metadata: text() }),
            (Call::SetName { id: 13, name: name() }, Command::SetName { id: 13, name: name() }),
            (
                Call::SetAgentState { state: contract_room::AgentState::Thinking },
                Command::SetAgentState { state: AgentState::Thinking },
            ),
        ]
    }

    fn sounds() -> Vec<(Call, Command)> {
        let contract_options = || contract_audio::Subscription {
            rate: 16_000,
            frame_ms: 20,
            frames: contract_audio::Delivery::None,
            before_ms: 0,
            after_ms: 0,
            detect_voice: true,
            threshold: 0.5,
            min_voice_ms: 0,
            min_silence_ms: 0,
            level_ms: 0,
        };
        let options = || Subscription::from(contract_options());
        let rule = || contract_audio::Rule { participant: name(), source: topic(), people: true };
        let publication = || contract_audio::Publication { name: name(), source: topic(), rate: 1, bits_per_second: 2 };
        let pairs = [
            (
                Call::SubscribeAudio { id: 1, track_sid: text(), options: contract_options() },
                AudioCommand::Subscribe { id: 1, track_sid: text(), options: options() },
            ),
            (
                Call::FollowAudio { id: 2, rule: rule(), options: contract_options() },
                AudioCommand::Follow {
                    id: 2,
                    rule: Rule { participant: name(), source: topic(), people: true },
                    options: options(),
                },
            ),
            (
                Call::PublishAudio { id: 3, options: publication() },
                AudioCommand::Publish {
                    id: 3,
                    publication: Publication { name: name(), source: topic(), rate: 1, bits_per_second: 2 },
                },
            ),
            (Call::WriteAudio { id: 3, pcm: vec![1, 2] }, AudioCommand::Write { id: 3, pcm: vec![1, 2] }),
            (Call::MarkAudio { id: 3, mark: 9 }, AudioCommand::Mark { id: 3, mark: 9 }),
            (Call::MuteAudio { id: 3, muted: true }, AudioCommand::Mute { id: 3, muted: true }),
            (Call::ClearAudio { id: 3 }, AudioCommand::Clear { id: 3 }),
            (Call::CloseAudio { id: 3 }, AudioCommand::Close { id: 3 }),
        ];
        pairs.map(|(call, command)| (call, Command::Audio(command))).into()
    }

    #[test]
    fn every_call_of_a_room_becomes_its_command() {
        for (call, command) in sends().into_iter().chain(others()).chain(sounds()) {
            assert_eq!(command_of(call), Ok(command));
        }
        let other = Call::EndHttp { id: 1 };
        assert_eq!(command_of(other.clone()), Err(other));
    }

    #[test]
    fn a_size_is_a_whole_number_or_unknown() {
        let sizes = [0.0, 5.0, -1.0, 0.5, f64::NAN, f64::INFINITY, 1e300].map(whole);
        assert_eq!(sizes, [Some(0), Some(5), None, None, None, None, None]);
    }
}
