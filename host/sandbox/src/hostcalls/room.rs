//! `wasm-worker:agent/room`: the agent's part in its room.

use wasm_worker_core::text::{pairs_bytes, text_bytes};

use super::{Interface, Own};
use crate::guest::bindings::wasm_worker::agent::room::{self, AgentState, Host, Receipt, Transcription};
use crate::guest::calls::Call;
use crate::guest::contract::{Attributes, Participant, RpcError, SendOptions};
use crate::guest::{HostState, Part};

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/room",
    add_to_linker: |linker| room::add_to_linker::<_, Own>(linker, |state| state),
}];

impl HostState {
    fn room_call(&mut self, bytes: usize, call: Call) -> wasmtime::Result<()> {
        self.meter.calls.room.add(bytes);
        self.buffer(bytes, call)
    }

    fn room_operation(&mut self, bytes: usize, call: impl FnOnce(u32) -> Call) -> wasmtime::Result<u32> {
        self.meter.calls.room.add(bytes);
        self.begin(bytes, call)
    }
}

impl Host for HostState {
    fn connect(&mut self) -> wasmtime::Result<u32> {
        self.room_operation(0, |id| Call::Connect { id })
    }

    fn disconnect(&mut self) -> wasmtime::Result<()> {
        self.room_call(0, Call::Disconnect)
    }

    fn participants(&mut self) -> wasmtime::Result<Vec<Participant>> {
        self.meter.calls.room.add(0);
        Ok(if self.part == Part::Job { self.participants.all() } else { Vec::new() })
    }

    fn receive(&mut self, topic: String, receipt: Receipt) -> wasmtime::Result<()> {
        self.room_call(topic.len(), Call::Receive { topic, receipt })
    }

    fn send_text(&mut self, topic: String, text: String, options: SendOptions) -> wasmtime::Result<u32> {
        let bytes = topic.len() + text.len() + options_bytes(&options);
        self.room_operation(bytes, |id| Call::SendText { id, topic, text, options })
    }

    fn open_text(&mut self, topic: String, options: SendOptions) -> wasmtime::Result<u32> {
        let bytes = topic.len() + options_bytes(&options);
        self.room_operation(bytes, |id| Call::OpenText { id, topic, options })
    }

    fn write_text(&mut self, id: u32, text: String) -> wasmtime::Result<()> {
        self.room_call(text.len(), Call::WriteText { id, text })
    }

    fn send_file(
        &mut self,
        topic: String,
        name: String,
        mime_type: String,
        bytes: Vec<u8>,
        options: SendOptions,
    ) -> wasmtime::Result<u32> {
        let carried = topic.len() + name.len() + mime_type.len() + bytes.len() + options_bytes(&options);
        self.room_operation(carried, |id| Call::SendFile { id, topic, name, mime_type, bytes, options })
    }

    fn open_file(
        &mut self,
        topic: String,
        name: String,
        mime_type: String,
        size: Option<f64>,
        options: SendOptions,
    ) -> wasmtime::Result<u32> {
        let carried = topic.len() + name.len() + mime_type.len() + options_bytes(&options);
        self.room_operation(carried, |id| Call::OpenFile { id, topic, name, mime_type, size, options })
    }

    fn write_bytes(&mut self, id: u32, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.room_call(bytes.len(), Call::WriteBytes { id, bytes })
    }

    fn close_stream(&mut self, id: u32, attributes: Attributes) -> wasmtime::Result<()> {
        self.room_call(pairs_bytes(&attributes), Call::CloseStream { id, attributes })
    }

    fn send_data(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        destinations: Vec<String>,
        reliable: bool,
    ) -> wasmtime::Result<u32> {
        let bytes = topic.len() + payload.len() + texts_bytes(&destinations);
        if reliable {
            return self.room_operation(bytes, |id| Call::SendData { id: Some(id), topic, payload, destinations });
        }
        self.room_call(bytes, Call::SendData { id: None, topic, payload, destinations })?;
        Ok(0)
    }

    fn send_dtmf(&mut self, code: u32, digit: String) -> wasmtime::Result<u32> {
        self.room_operation(digit.len(), |id| Call::SendDtmf { id, code, digit })
    }

    fn send_transcription(&mut self, text: String, options: Transcription) -> wasmtime::Result<u32> {
        let bytes = text.len() + transcription_bytes(&options);
        self.room_operation(bytes, |id| Call::SendTranscription { id, text, options })
    }

    fn open_transcription(&mut self, options: Transcription) -> wasmtime::Result<u32> {
        self.room_operation(transcription_bytes(&options), |id| Call::OpenTranscription { id, options })
    }

    fn call(&mut self, destination: String, method: String, payload: String, timeout_ms: u32) -> wasmtime::Result<u32> {
        let bytes = destination.len() + method.len() + payload.len();
        self.room_operation(bytes, |id| Call::Rpc { id, destination, method, payload, timeout_ms })
    }

    fn answer(&mut self, id: u32, answer: Result<String, RpcError>) -> wasmtime::Result<()> {
        let bytes = match &answer {
            Ok(text) => text.len(),
            Err(error) => error.message.len() + error.data.len(),
        };
        self.room_call(bytes, Call::Answer { id, answer })
    }

    fn set_attributes(&mut self, attributes: Attributes) -> wasmtime::Result<u32> {
        self.room_operation(pairs_bytes(&attributes), |id| Call::SetAttributes { id, attributes })
    }

    fn set_metadata(&mut self, metadata: String) -> wasmtime::Result<u32> {
        self.room_operation(metadata.len(), |id| Call::SetMetadata { id, metadata })
    }

    fn set_name(&mut self, name: String) -> wasmtime::Result<u32> {
        self.room_operation(name.len(), |id| Call::SetName { id, name })
    }

    fn set_agent_state(&mut self, state: AgentState) -> wasmtime::Result<()> {
        self.room_call(0, Call::SetAgentState { state })
    }

    fn remove_participant(&mut self, identity: String) -> wasmtime::Result<u32> {
        self.room_operation(identity.len(), |id| Call::RemoveParticipant { id, identity })
    }

    fn move_participant(&mut self, identity: String, destination: String) -> wasmtime::Result<u32> {
        let bytes = identity.len() + destination.len();
        self.room_operation(bytes, |id| Call::MoveParticipant { id, identity, destination })
    }

    fn mute_track(&mut self, identity: String, track_sid: String, muted: bool) -> wasmtime::Result<u32> {
        let bytes = identity.len() + track_sid.len();
        self.room_operation(bytes, |id| Call::MuteTrack { id, identity, track_sid, muted })
    }

    fn delete_room(&mut self) -> wasmtime::Result<u32> {
        self.room_operation(0, |id| Call::DeleteRoom { id })
    }
}

fn options_bytes(options: &SendOptions) -> usize {
    let SendOptions { destinations, attributes, stream_id, sender, reply_to, repeatable: _ } = options;
    texts_bytes(destinations) + pairs_bytes(attributes) + stream_id.len() + sender.len() + reply_to.len()
}

fn transcription_bytes(options: &Transcription) -> usize {
    let Transcription { segment_id, speaker, track_sid, language, attributes, is_final: _ } = options;
    segment_id.len() + speaker.len() + track_sid.len() + language.len() + pairs_bytes(attributes)
}

fn texts_bytes(texts: &[String]) -> usize {
    texts.iter().map(|text| text_bytes(text)).sum()
}
