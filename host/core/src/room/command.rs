//! What an agent or its host asks of a room.
//!
//! Ids: an operation has a number that the caller gives. What begins outside (a call by a participant, a stream in parts, a track that a
//! rule follows) has an [`IncomingId`] that the room gives.

use std::time::Duration;

use super::audio::AudioCommand;
pub use super::id::{IncomingId, OperationId};
use super::people::Attributes;
use crate::text::{pairs_bytes, text_bytes};

/// How texts and files of a topic are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receipt {
    /// Whole, up to 1 MiB. A larger one is dropped, and `Lost` tells it.
    #[default]
    Whole,
    /// In parts.
    Parts,
    /// Not at all.
    None,
}

/// The state of the agent as clients show it (attribute `lk.agent.state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Not ready yet.
    Initializing,
    /// Nobody speaks or listens.
    Idle,
    /// Waits for the user.
    Listening,
    /// Works on an answer.
    Thinking,
    /// Speaks.
    Speaking,
}

impl AgentState {
    /// The value of the attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Idle => "idle",
            Self::Listening => "listening",
            Self::Thinking => "thinking",
            Self::Speaking => "speaking",
        }
    }
}

/// Choices for a text or a file that is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendOptions {
    /// Identities of the receivers; everyone when empty.
    pub destinations: Vec<String>,
    /// Attributes of the header. Names that begin with `@` are the contract's.
    pub attributes: Attributes,
    /// The id of the stream. Empty: the room makes one.
    pub stream_id: String,
    /// The participant to speak for; empty: the agent.
    pub sender: String,
    /// The stream that this one answers; empty: none.
    pub reply_to: String,
}

/// What a transcription is of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcription {
    /// Texts with the same id replace each other. Empty: the room makes one.
    pub segment_id: String,
    /// Identity of the participant who spoke; empty: the agent.
    pub speaker: String,
    /// The track that was transcribed; empty: the speaker's own.
    pub track_sid: String,
    /// The language, such as `en`.
    pub language: String,
    /// Attributes of the header.
    pub attributes: Attributes,
    /// Whether the text of this segment will not change any more.
    pub is_final: bool,
}

/// The error of a remote procedure call. Codes from 1400 on are LiveKit's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcError {
    /// The code.
    pub code: u32,
    /// The reason for people.
    pub message: String,
    /// Data of the application.
    pub data: String,
}

/// One request to a room.
///
/// `Done` of what is sent means that the server's transport has acknowledged it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Join the room: `Connected`, then `Done`. While joined: `Done` at once.
    Connect { id: OperationId },
    /// Deliver what was sent, then leave the room: `Disconnected` follows.
    Disconnect,

    /// Choose the delivery of one topic, or with an empty one of all that were not named. A room keeps the choices of 1,024 topics;
    /// what is chosen for more of them has no effect.
    Receive { topic: String, receipt: Receipt },
    /// Send a whole text.
    SendText { id: OperationId, topic: String, text: String, options: SendOptions },
    /// Begin a text that is written in parts; `Done` follows `CloseStream`.
    OpenText { id: OperationId, topic: String, options: SendOptions },
    /// Write a part of a text, or of a transcription.
    WriteText { id: OperationId, text: String },
    /// Send a whole file.
    SendFile { id: OperationId, topic: String, name: String, mime_type: String, bytes: Vec<u8>, options: SendOptions },
    /// Begin a file that is written in parts. `size` in bytes, where it is known.
    OpenFile {
        id: OperationId,
        topic: String,
        name: String,
        mime_type: String,
        size: Option<u64>,
        options: SendOptions,
    },
    /// Write a part of a file.
    WriteBytes { id: OperationId, bytes: Vec<u8> },
    /// End a text, a transcription or a file, with attributes for the trailer.
    CloseStream { id: OperationId, attributes: Attributes },
    /// Send a data packet: reliably where there is an id, and `Done` follows; lossily without one.
    SendData { id: Option<OperationId>, topic: String, payload: Vec<u8>, destinations: Vec<String> },
    /// Send a key of a telephone.
    SendDtmf { id: OperationId, code: u32, digit: String },
    /// Send transcribed speech in the forms that front ends expect.
    SendTranscription { id: OperationId, text: String, options: Transcription },
    /// The same in parts, by `WriteText`; `CloseStream` makes it final.
    OpenTranscription { id: OperationId, options: Transcription },
    /// Call a method of a participant. `RpcAnswer` follows; where `timeout` is over, with the error 1502.
    Call { id: OperationId, destination: String, method: String, payload: String, timeout: Duration },
    /// Answer a call by a participant. Its id is over.
    Answer { request: IncomingId, answer: Result<String, RpcError> },
    /// Give up what the caller began. No event of it follows.
    Cancel { id: OperationId },
    /// Give up what began outside. No event of it follows.
    CancelIncoming { id: IncomingId },
    /// The caller has taken this many bytes of a stream in parts, so that as many may be read ahead again.
    Taken { id: IncomingId, bytes: usize },

    /// Set attributes of the agent's own participant. An empty value removes the attribute. `Done`: the server has them. Not
    /// joined, they wait for the join, and `Done` follows at once.
    SetAttributes { id: OperationId, attributes: Attributes },
    /// Set the metadata of the agent's own participant: as `SetAttributes`. In the room they cannot be emptied: that fails as
    /// `not-supported`.
    SetMetadata { id: OperationId, metadata: String },
    /// Set the name of the agent's own participant: as `SetMetadata`.
    SetName { id: OperationId, name: String },
    /// Set the state that clients show to users.
    SetAgentState { state: AgentState },

    /// A request about sound.
    Audio(AudioCommand),
}

impl Command {
    /// The operation that the command begins.
    pub const fn new_id(&self) -> Option<OperationId> {
        match self {
            Self::Connect { id }
            | Self::SendText { id, .. }
            | Self::OpenText { id, .. }
            | Self::SendFile { id, .. }
            | Self::OpenFile { id, .. }
            | Self::SendDtmf { id, .. }
            | Self::SendTranscription { id, .. }
            | Self::OpenTranscription { id, .. }
            | Self::Call { id, .. }
            | Self::SetAttributes { id, .. }
            | Self::SetMetadata { id, .. }
            | Self::SetName { id, .. } => Some(*id),
            Self::SendData { id, .. } => *id,
            Self::Audio(command) => command.new_id(),
            Self::Disconnect
            | Self::Receive { .. }
            | Self::WriteText { .. }
            | Self::WriteBytes { .. }
            | Self::CloseStream { .. }
            | Self::Answer { .. }
            | Self::Cancel { .. }
            | Self::CancelIncoming { .. }
            | Self::Taken { .. }
            | Self::SetAgentState { .. } => None,
        }
    }

    /// Host memory that the command takes, in bytes.
    pub fn bytes(&self) -> usize {
        let content = match self {
            Self::Receive { topic, .. } => topic.len(),
            Self::SendText { topic, text, options, .. } => topic.len() + text.len() + options.bytes(),
            Self::OpenText { topic, options, .. } => topic.len() + options.bytes(),
            Self::WriteText { text, .. } => text.len(),
            Self::SendFile { topic, name, mime_type, bytes, options, .. } => {
                topic.len() + name.len() + mime_type.len() + bytes.len() + options.bytes()
            }
            Self::OpenFile { topic, name, mime_type, options, .. } => {
                topic.len() + name.len() + mime_type.len() + options.bytes()
            }
            Self::WriteBytes { bytes, .. } => bytes.len(),
            Self::CloseStream { attributes, .. } | Self::SetAttributes { attributes, .. } => pairs_bytes(attributes),
            Self::SendData { topic, payload, destinations, .. } => {
                topic.len() + payload.len() + texts_bytes(destinations)
            }
            Self::SendDtmf { digit, .. } => digit.len(),
            Self::SendTranscription { text, options, .. } => text.len() + options.bytes(),
            Self::OpenTranscription { options, .. } => options.bytes(),
            Self::Call { destination, method, payload, .. } => destination.len() + method.len() + payload.len(),
            Self::Answer { answer: Ok(payload), .. } => payload.len(),
            Self::Answer { answer: Err(error), .. } => error.message.len() + error.data.len(),
            Self::SetMetadata { metadata, .. } => metadata.len(),
            Self::SetName { name, .. } => name.len(),
            Self::Audio(command) => command.content_bytes(),
            Self::Connect { .. }
            | Self::Disconnect
            | Self::Cancel { .. }
            | Self::CancelIncoming { .. }
            | Self::Taken { .. }
            | Self::SetAgentState { .. } => 0,
        };
        size_of::<Self>() + content
    }
}

impl SendOptions {
    fn bytes(&self) -> usize {
        let Self { destinations, attributes, stream_id, sender, reply_to } = self;
        texts_bytes(destinations) + pairs_bytes(attributes) + stream_id.len() + sender.len() + reply_to.len()
    }
}

impl Transcription {
    fn bytes(&self) -> usize {
        let Self { segment_id, speaker, track_sid, language, attributes, is_final: _ } = self;
        segment_id.len() + speaker.len() + track_sid.len() + language.len() + pairs_bytes(attributes)
    }
}

fn texts_bytes(texts: &[String]) -> usize {
    texts.iter().map(|text| text_bytes(text)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_counts_all_that_it_holds() {
        let empty = size_of::<Command>();
        assert_eq!(Command::Disconnect.bytes(), empty);
        let options = SendOptions { destinations: vec![String::new(); 100], ..SendOptions::default() };
        let text = Command::SendText { id: 1, topic: "t".into(), text: "x".repeat(1_000), options };
        assert_eq!(text.bytes(), empty + 1_001 + 100 * size_of::<String>());
        let attributes = vec![(String::new(), String::new()); 100];
        assert_eq!(Command::SetAttributes { id: 1, attributes }.bytes(), empty + 200 * size_of::<String>());
        let answer = Err(RpcError { code: 1, message: "ab".into(), data: "cde".into() });
        assert_eq!(Command::Answer { request: IncomingId(1), answer }.bytes(), empty + 5);
    }
}
