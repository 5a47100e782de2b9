//! The calls of one step. They are buffered while the guest runs, and begun in order after the step has returned.
//!
//! Bounds: [`CALLS_MAX`] calls and [`CALL_BYTES_MAX`] in one step. The memory is charged to the job until the calls are performed.

use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

use super::bindings::wasm_worker::agent::audio::{Publication, Rule, Subscription};
use super::bindings::wasm_worker::agent::http::Request;
use super::bindings::wasm_worker::agent::room::{AgentState, Receipt, Transcription};
use super::contract::{Attributes, RpcError, SendOptions};
use super::kill::Kill;

/// Most calls of one step.
const CALLS_MAX: usize = 4_096;
/// Most bytes that the calls of one step may carry.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Calls for which a waiting job keeps memory.
const CALLS_KEPT: usize = 4;

/// One call. The fields have the names of the contract.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    // job
    Shutdown { reason: String },
    // flow
    Cancel { id: u32 },
    Hold { id: u32, held: bool },
    // room
    Connect { id: u32 },
    Disconnect,
    Receive { topic: String, receipt: Receipt },
    SendText { id: u32, topic: String, text: String, options: SendOptions },
    OpenText { id: u32, topic: String, options: SendOptions },
    WriteText { id: u32, text: String },
    SendFile { id: u32, topic: String, name: String, mime_type: String, bytes: Vec<u8>, options: SendOptions },
    OpenFile { id: u32, topic: String, name: String, mime_type: String, size: Option<f64>, options: SendOptions },
    WriteBytes { id: u32, bytes: Vec<u8> },
    CloseStream { id: u32, attributes: Attributes },
    SendData { id: Option<u32>, topic: String, payload: Vec<u8>, destinations: Vec<String> },
    SendDtmf { id: u32, code: u32, digit: String },
    SendTranscription { id: u32, text: String, options: Transcription },
    OpenTranscription { id: u32, options: Transcription },
    Rpc { id: u32, destination: String, method: String, payload: String, timeout_ms: u32 },
    Answer { id: u32, answer: Result<String, RpcError> },
    SetAttributes { id: u32, attributes: Attributes },
    SetMetadata { id: u32, metadata: String },
    SetName { id: u32, name: String },
    SetAgentState { state: AgentState },
    RemoveParticipant { id: u32, identity: String },
    MoveParticipant { id: u32, identity: String, destination: String },
    MuteTrack { id: u32, identity: String, track_sid: String, muted: bool },
    DeleteRoom { id: u32 },
    // audio
    SubscribeAudio { id: u32, track_sid: String, options: Subscription },
    FollowAudio { id: u32, rule: Rule, options: Subscription },
    PublishAudio { id: u32, options: Publication },
    WriteAudio { id: u32, pcm: Vec<u8> },
    MarkAudio { id: u32, mark: u32 },
    MuteAudio { id: u32, muted: bool },
    ClearAudio { id: u32 },
    CloseAudio { id: u32 },
    // http
    SendHttp { id: u32, request: Request },
    OpenHttp { id: u32, request: Request },
    WriteHttp { id: u32, bytes: Vec<u8> },
    EndHttp { id: u32 },
    // socket
    ConnectSocket { id: u32, url: String, headers: Attributes, protocols: Vec<String>, timeout_ms: u32 },
    SendSocketText { id: u32, text: String },
    SendSocketBytes { id: u32, bytes: Vec<u8> },
    CloseSocket { id: u32, code: u16, reason: String },
    // trace
    BeginSpan { id: u32, name: String, parent: u32, at_ms: f64 },
    SetSpan { id: u32, attributes: Attributes },
    AddSpanEvent { id: u32, name: String, at_ms: f64, attributes: Attributes },
    EndSpan { id: u32, at_ms: f64, error: Option<String> },
    Measure { name: String, value: f64, attributes: Attributes },
}

impl Call {
    /// The name of the call.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Shutdown { .. } => "shutdown",
            Self::Cancel { .. } => "cancel",
            Self::Hold { .. } => "hold",
            Self::Connect { .. } => "connect",
            Self::Disconnect => "disconnect",
            Self::Receive { .. } => "receive",
            Self::SendText { .. } => "send-text",
            Self::OpenText { .. } => "open-text",
            Self::WriteText { .. } => "write-text",
            Self::SendFile { .. } => "send-file",
            Self::OpenFile { .. } => "open-file",
            Self::WriteBytes { .. } => "write-bytes",
            Self::CloseStream { .. } => "close-stream",
            Self::SendData { .. } => "send-data",
            Self::SendDtmf { .. } => "send-dtmf",
            Self::SendTranscription { .. } => "send-transcription",
            Self::OpenTranscription { .. } => "open-transcription",
            Self::Rpc { .. } => "rpc",
            Self::Answer { .. } => "answer",
            Self::SetAttributes { .. } => "set-attributes",
            Self::SetMetadata { .. } => "set-metadata",
            Self::SetName { .. } => "set-name",
            Self::SetAgentState { .. } => "set-agent-state",
            Self::RemoveParticipant { .. } => "remove-participant",
            Self::MoveParticipant { .. } => "move-participant",
            Self::MuteTrack { .. } => "mute-track",
            Self::DeleteRoom { .. } => "delete-room",
            Self::SubscribeAudio { .. } => "subscribe-audio",
            Self::FollowAudio { .. } => "follow-audio",
            Self::PublishAudio { .. } => "publish-audio",
            Self::WriteAudio { .. } => "write-audio",
            Self::MarkAudio { .. } => "mark-audio",
            Self::MuteAudio { .. } => "mute-audio",
            Self::ClearAudio { .. } => "clear-audio",
            Self::CloseAudio { .. } => "close-audio",
            Self::SendHttp { .. } => "send-http",
            Self::OpenHttp { .. } => "open-http",
            Self::WriteHttp { .. } => "write-http",
            Self::EndHttp { .. } => "end-http",
            Self::ConnectSocket { .. } => "connect-socket",
            Self::SendSocketText { .. } => "send-socket-text",
            Self::SendSocketBytes { .. } => "send-socket-bytes",
            Self::CloseSocket { .. } => "close-socket",
            Self::BeginSpan { .. } => "begin-span",
            Self::SetSpan { .. } => "set-span",
            Self::AddSpanEvent { .. } => "add-span-event",
            Self::EndSpan { .. } => "end-span",
            Self::Measure { .. } => "measure",
        }
    }

    /// Check the name of a call. The error lists the known names.
    pub(crate) fn check_name(name: &str) -> Result<(), String> {
        let read: Result<Self, serde::de::value::Error> = Self::deserialize(name.into_deserializer());
        match read.map_err(|error| error.to_string()) {
            Err(error) if error.starts_with("unknown variant") => {
                Err(error.replacen("unknown variant", "no call is named", 1))
            }
            // A call without its fields is none, but has a known name.
            _ => Ok(()),
        }
    }

    /// The new id that the call returned.
    pub(crate) const fn new_id(&self) -> Option<u32> {
        match self {
            Self::Connect { id }
            | Self::SendText { id, .. }
            | Self::OpenText { id, .. }
            | Self::SendFile { id, .. }
            | Self::OpenFile { id, .. }
            | Self::SendDtmf { id, .. }
            | Self::SendTranscription { id, .. }
            | Self::OpenTranscription { id, .. }
            | Self::Rpc { id, .. }
            | Self::SetAttributes { id, .. }
            | Self::SetMetadata { id, .. }
            | Self::SetName { id, .. }
            | Self::RemoveParticipant { id, .. }
            | Self::MoveParticipant { id, .. }
            | Self::MuteTrack { id, .. }
            | Self::DeleteRoom { id }
            | Self::SubscribeAudio { id, .. }
            | Self::FollowAudio { id, .. }
            | Self::PublishAudio { id, .. }
            | Self::SendHttp { id, .. }
            | Self::OpenHttp { id, .. }
            | Self::ConnectSocket { id, .. }
            | Self::BeginSpan { id, .. } => Some(*id),
            Self::SendData { id, .. } => *id,
            Self::Shutdown { .. }
            | Self::Cancel { .. }
            | Self::Hold { .. }
            | Self::Disconnect
            | Self::Receive { .. }
            | Self::WriteText { .. }
            | Self::WriteBytes { .. }
            | Self::CloseStream { .. }
            | Self::Answer { .. }
            | Self::SetAgentState { .. }
            | Self::WriteAudio { .. }
            | Self::MarkAudio { .. }
            | Self::MuteAudio { .. }
            | Self::ClearAudio { .. }
            | Self::CloseAudio { .. }
            | Self::WriteHttp { .. }
            | Self::EndHttp { .. }
            | Self::SendSocketText { .. }
            | Self::SendSocketBytes { .. }
            | Self::CloseSocket { .. }
            | Self::SetSpan { .. }
            | Self::AddSpanEvent { .. }
            | Self::EndSpan { .. }
            | Self::Measure { .. } => None,
        }
    }
}

/// The calls of the present step.
#[derive(Debug, Default)]
pub(crate) struct CallBuffer {
    calls: Vec<Call>,
    /// Memory of the calls, in bytes.
    bytes: usize,
    /// The bytes that the calls carry.
    carried: usize,
    /// The last call of `wake`.
    wake: Option<Option<u32>>,
    /// The first call of `finish`.
    finish: Option<Result<(), String>>,
}

/// What a step asks for, besides its calls.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    /// The new timer in milliseconds, or none; absent where the step leaves the timer as it is.
    pub(crate) wake: Option<Option<u32>>,
    /// The result of the job, where this step is its last.
    pub(crate) finish: Option<Result<(), String>>,
}

/// What a step asks for: its calls, its timer, and its result.
pub(crate) type Asked<'a> = (&'a [Call], Option<Option<u32>>, Option<&'a Result<(), String>>);

impl CallBuffer {
    /// The calls of the step so far, and what it asks for besides.
    pub(crate) fn look(&self) -> Asked<'_> {
        (&self.calls, self.wake, self.finish.as_ref())
    }

    /// Count one more call that carries these bytes. Returns the memory to charge.
    pub(crate) fn count(&mut self, carried: usize) -> Result<usize, Kill> {
        if self.calls.len() == CALLS_MAX {
            return Err(Kill::Calls { what: "calls", limit: CALLS_MAX });
        }
        self.carried = self.carried.saturating_add(carried);
        if self.carried > CALL_BYTES_MAX {
            return Err(Kill::Calls { what: "bytes of calls", limit: CALL_BYTES_MAX });
        }
        let bytes = size_of::<Call>() + carried;
        self.bytes += bytes;
        Ok(bytes)
    }

    /// Add a call that has been counted.
    pub(crate) fn push(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Set or clear the timer. The last call counts.
    pub(crate) fn wake(&mut self, after_ms: Option<u32>) {
        self.wake = Some(after_ms);
    }

    /// End the job. The first call counts.
    pub(crate) fn finish(&mut self, result: Result<(), String>) {
        self.finish.get_or_insert(result);
    }

    /// The calls of the step, in order.
    pub(crate) fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// End the step, and take the memory of its calls back for the next one. Returns what the step asks for besides, and the
    /// memory that was charged for it.
    pub(crate) fn end_step(&mut self, mut calls: Vec<Call>) -> (Wishes, usize) {
        calls.clear();
        self.calls = calls;
        self.carried = 0;
        let wishes = Wishes { wake: self.wake.take(), finish: self.finish.take() };
        (wishes, std::mem::take(&mut self.bytes))
    }

    /// Give up memory that a waiting job does not need.
    pub(crate) fn rest(&mut self) {
        self.calls.shrink_to(CALLS_KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut CallBuffer, carried: usize) -> Result<usize, Kill> {
        let bytes = buffer.count(carried)?;
        buffer.push(Call::Disconnect);
        Ok(bytes)
    }

    #[test]
    fn a_step_makes_a_bounded_number_of_calls() {
        let mut buffer = CallBuffer::default();
        let counted = std::iter::from_fn(|| push(&mut buffer, 10).ok()).count();
        assert_eq!(counted, CALLS_MAX);
        assert_eq!(push(&mut buffer, 0), Err(Kill::Calls { what: "calls", limit: CALLS_MAX }));
        let calls = buffer.take_calls();
        let (wishes, charged) = buffer.end_step(calls);
        assert_eq!((wishes, charged), (Wishes::default(), CALLS_MAX * (size_of::<Call>() + 10)));
        assert!(push(&mut buffer, CALL_BYTES_MAX).is_ok(), "the next step begins anew");
        let kill = push(&mut buffer, 1).unwrap_err();
        assert_eq!(kill.to_string(), "more than 4194304 bytes of calls in one step");
    }

    #[test]
    fn the_last_timer_and_the_first_result_count() {
        let mut buffer = CallBuffer::default();
        buffer.wake(Some(5));
        buffer.wake(None);
        buffer.finish(Err("no".into()));
        buffer.finish(Ok(()));
        let (wishes, _) = buffer.end_step(Vec::new());
        assert_eq!(wishes, Wishes { wake: Some(None), finish: Some(Err("no".into())) });
        assert_eq!(buffer.end_step(Vec::new()).0, Wishes::default());
    }

    #[test]
    fn a_call_is_read_back_as_it_was_written() {
        let options = SendOptions {
            destinations: vec!["ann".into()],
            attributes: vec![("a".into(), "b".into())],
            stream_id: String::new(),
            sender: String::new(),
            reply_to: String::new(),
            repeatable: true,
        };
        let calls = [
            Call::SendText { id: 7, topic: "t".into(), text: "hi".into(), options },
            Call::Answer { id: 3, answer: Err(RpcError { code: 1_500, message: "m".into(), data: String::new() }) },
            Call::SetAgentState { state: AgentState::Thinking },
        ];
        let text = serde_json::to_string(&calls).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Call>>(&text).unwrap(), calls);
        assert_eq!(calls.map(|call| call.new_id()), [Some(7), None, None]);
    }
}
