//! Facts of events: their names, their ids and their sizes.

use crate::Event;

impl Event {
    /// The name of this kind of event in the contract, such as `participant-joined`.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// log::info!("{}", ctx.next_event().await.name());
    /// # }
    /// ```
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Resumed(_) => "resumed",
            Self::Connected(_) => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Disconnected(_) => "disconnected",
            Self::ParticipantJoined(_) => "participant-joined",
            Self::ParticipantLeft(_) => "participant-left",
            Self::ParticipantChanged(_) => "participant-changed",
            Self::RoomChanged(_) => "room-changed",
            Self::SpeakersChanged(_) => "speakers-changed",
            Self::QualityChanged(_) => "quality-changed",
            Self::Text(_) => "text",
            Self::File(_) => "file",
            Self::StreamStarted(_) => "stream-started",
            Self::TextChunk(_) => "text-chunk",
            Self::BytesChunk(_) => "bytes-chunk",
            Self::StreamEnded(_) => "stream-ended",
            Self::Data(_) => "data",
            Self::Dtmf(_) => "dtmf",
            Self::RpcRequest(_) => "rpc-request",
            Self::RpcAnswer(_) => "rpc-answer",
            Self::TrackPublished(_) => "track-published",
            Self::TrackUnpublished(_) => "track-unpublished",
            Self::TrackChanged(_) => "track-changed",
            Self::AudioStarted(_) => "audio-started",
            Self::Audio(_) => "audio",
            Self::AudioLevel(_) => "audio-level",
            Self::VoiceStarted(_) => "voice-started",
            Self::VoiceEnded(_) => "voice-ended",
            Self::AudioEnded(_) => "audio-ended",
            Self::AudioPublished(_) => "audio-published",
            Self::AudioSubscribed(_) => "audio-subscribed",
            Self::AudioPlayout(_) => "audio-playout",
            Self::AudioMarked(_) => "audio-marked",
            Self::HttpHead(_) => "http-head",
            Self::HttpBody(_) => "http-body",
            Self::SocketOpened(_) => "socket-opened",
            Self::SocketText(_) => "socket-text",
            Self::SocketBytes(_) => "socket-bytes",
            Self::SocketClosed(_) => "socket-closed",
            Self::Writable(_) => "writable",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
            Self::Lost(_) => "lost",
            Self::LimitWarning(_) => "limit-warning",
            Self::ShutdownRequested(_) => "shutdown-requested",
            Self::TasksWanted => "tasks-wanted",
            Self::Other(_) => "other",
        }
    }

    /// The id whose holder gets this event; 0 for an event of the inbox.
    pub(crate) fn id(&self) -> u32 {
        match self {
            Self::AudioEnded(id) | Self::AudioSubscribed(id) | Self::Writable(id) => *id,
            Self::TextChunk(chunk) => chunk.id,
            Self::BytesChunk(chunk) => chunk.id,
            Self::StreamEnded(end) => end.id,
            Self::RpcAnswer(answer) => answer.id,
            // A followed track belongs to the rule that follows it, until somebody takes its own id.
            Self::AudioStarted(start) if start.rule != 0 => start.rule,
            Self::AudioStarted(start) => start.id,
            Self::Audio(frame) => frame.id,
            Self::AudioLevel(level) => level.id,
            Self::VoiceStarted(voice) | Self::VoiceEnded(voice) => voice.id,
            Self::AudioPublished(publication) => publication.id,
            Self::AudioPlayout(playout) => playout.id,
            Self::AudioMarked(mark) => mark.id,
            Self::HttpHead(head) => head.id,
            Self::HttpBody(body) => body.id,
            Self::SocketOpened(opened) => opened.id,
            Self::SocketText(message) => message.id,
            Self::SocketBytes(message) => message.id,
            Self::SocketClosed(closed) => closed.id,
            Self::Done(done) => done.id,
            Self::Failed(failure) => failure.id,
            Self::Other(other) => other.id,
            _ => 0,
        }
    }

    /// The new id that this event brings, whose later events nobody has asked for yet.
    pub(crate) fn opens(&self) -> Option<u32> {
        match self {
            Self::StreamStarted(start) => Some(start.id),
            Self::AudioStarted(start) if start.rule != 0 => Some(start.id),
            _ => None,
        }
    }

    /// Whether this is the last event of its id.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Self::HttpBody(body) => body.last,
            Self::StreamEnded(_)
            | Self::RpcAnswer(_)
            | Self::AudioEnded(_)
            | Self::SocketClosed(_)
            | Self::Done(_)
            | Self::Failed(_) => true,
            _ => false,
        }
    }

    /// Number of bytes that this event of the inbox brings. Small facts count as nothing.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Self::Text(message) => message.text.len(),
            Self::File(message) => message.bytes.len(),
            Self::Data(message) => message.payload.len(),
            Self::RpcRequest(request) => request.payload.len(),
            Self::Other(other) => other.json.len() + other.bytes.len(),
            _ => 0,
        }
    }
}
