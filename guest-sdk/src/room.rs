//! The job's room: joining and leaving it, its participants, and what is sent to it.

use crate::bindings::wasm_worker::agent::room;
use crate::types::{AgentState, Participant, ParticipantKind, Receipt, SendOptions, StreamStart, Transcription};
use crate::waits::{self, On};
use crate::{FileWriter, JobContext, Operation, Result, StreamReader, TextWriter, executor, inbox, operation};

impl JobContext {
    /// Joins the job's room. [`AgentSession`](crate::AgentSession) does it if the agent has not.
    ///
    /// Each participant who is there arrives as [`Event::ParticipantJoined`](crate::Event::ParticipantJoined), then
    /// [`Event::Connected`](crate::Event::Connected). The error is a [`Failure`](crate::types::Failure).
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// ctx.connect().await?;
    /// let caller = ctx.wait_for_participant(None).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(&self) -> Result {
        Operation::new(room::connect(), "room.connect").done().await?;
        Ok(())
    }

    /// Leaves the room. The job goes on, and [`Event::Disconnected`](crate::Event::Disconnected) follows.
    pub fn disconnect(&self) {
        room::disconnect();
    }

    /// Whether the agent is in the room, as of the start of this step.
    pub fn is_connected(&self) -> bool {
        inbox::joined()
    }

    /// The other participants who are in the room now. Nobody before [`connect`](Self::connect).
    pub fn participants(&self) -> Vec<Participant> {
        room::participants()
    }

    /// Waits for the participant with this identity. Without an identity, waits for the first person, including
    /// callers. Somebody arrives only after [`connect`](Self::connect).
    pub async fn wait_for_participant(&self, identity: Option<&str>) -> Participant {
        let wanted = |who: &Participant| identity.map_or_else(|| is_person(who), |identity| who.identity == identity);
        let find = || room::participants().into_iter().find(&wanted);
        waits::until(On::Inbox, "wait_for_participant", find).await
    }

    /// Sends a complete text on a topic to all participants. The text goes out when the step has ended; a failure is
    /// logged.
    ///
    /// A step sends at most 4,096 texts and 4 MiB. More in one step, without a wait between, ends the job as
    /// `limit-calls`.
    pub fn send_text(&self, topic: &str, text: &str) -> Result {
        self.send_text_with(topic, text, &SendOptions::default())
    }

    /// Sends a complete text on a topic, to selected participants or with attributes.
    pub fn send_text_with(&self, topic: &str, text: &str, options: &SendOptions) -> Result {
        executor::count_call();
        operation::forget(room::send_text(topic, text, options), "send_text");
        Ok(())
    }

    /// Begins a text that is sent in parts, as a model makes it.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// let mut answer = ctx.open_text("lk.transcription", &Default::default());
    /// for word in ["once ", "upon ", "a time"] {
    ///     answer.write(word).await?;
    /// }
    /// answer.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_text(&self, topic: &str, options: &SendOptions) -> TextWriter {
        TextWriter::new(room::open_text(topic, options))
    }

    /// Sends a complete text as transcribed speech, which front ends show as what the agent, or another participant, says. A
    /// failure is logged.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// use wasm_worker_sdk::types::Transcription;
    /// ctx.send_transcription("hello", &Transcription { is_final: true, ..Transcription::default() })
    /// # }
    /// ```
    pub fn send_transcription(&self, text: &str, options: &Transcription) -> Result {
        executor::count_call();
        operation::forget(room::send_transcription(text, options), "send_transcription");
        Ok(())
    }

    /// Begins transcribed speech that is sent in parts: as [`open_text`](Self::open_text). Its end makes it final.
    pub fn open_transcription(&self, options: &Transcription) -> TextWriter {
        TextWriter::new(room::open_transcription(options))
    }

    /// Sends a complete file on a topic. A failure is logged.
    pub fn send_file(&self, topic: &str, name: &str, mime_type: &str, bytes: &[u8], options: &SendOptions) -> Result {
        executor::count_call();
        operation::forget(room::send_file(topic, name, mime_type, bytes, options), "send_file");
        Ok(())
    }

    /// Begins a file that is sent in parts. `size` is its size in bytes, where it is known.
    pub fn open_file(
        &self,
        topic: &str,
        name: &str,
        mime_type: &str,
        size: Option<f64>,
        options: &SendOptions,
    ) -> FileWriter {
        FileWriter::new(room::open_file(topic, name, mime_type, size, options))
    }

    /// Chooses how texts and files of a topic arrive: whole, in parts, or not at all. An empty topic is every topic that
    /// was not named. At first, all arrive whole.
    pub fn receive(&self, topic: &str, receipt: Receipt) {
        room::receive(topic, receipt);
    }

    /// Reads a text or a file that arrives in parts, after an
    /// [`Event::StreamStarted`](crate::Event::StreamStarted).
    ///
    /// ```no_run
    /// use wasm_worker_sdk::{Event, JobContext, Result, types::Receipt};
    ///
    /// async fn print(ctx: &JobContext) -> Result {
    ///     ctx.receive("dictation", Receipt::Parts);
    ///     loop {
    ///         if let Event::StreamStarted(start) = ctx.next_event().await {
    ///             let mut stream = ctx.read_stream(start);
    ///             while let Some(part) = stream.next_text().await? {
    ///                 log::info!("{part}");
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    pub fn read_stream(&self, start: StreamStart) -> StreamReader {
        StreamReader::new(start)
    }

    /// Sends a data packet on a topic, to these participants or, if there are none, to all. A failure is logged. A packet
    /// that is not `reliable` may get lost without one.
    pub fn send_data(&self, topic: &str, payload: &[u8], destinations: &[String], reliable: bool) -> Result {
        executor::count_call();
        operation::forget(room::send_data(topic, payload, destinations, reliable), "send_data");
        Ok(())
    }

    /// Sets attributes of the agent's own participant. An empty value removes the attribute. A failure is logged.
    pub fn set_attributes<'a>(&self, attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result {
        let attributes: Vec<(String, String)> = attributes.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        operation::forget(room::set_attributes(&attributes), "set_attributes");
        Ok(())
    }

    /// Sets the metadata of the agent's own participant. A failure is logged.
    pub fn set_metadata(&self, metadata: &str) -> Result {
        operation::forget(room::set_metadata(metadata), "set_metadata");
        Ok(())
    }

    /// Sets the name of the agent's own participant. A failure is logged.
    pub fn set_name(&self, name: &str) -> Result {
        operation::forget(room::set_name(name), "set_name");
        Ok(())
    }

    /// Sets the agent's state, which clients show to users. [`AgentSession`](crate::AgentSession) sets it
    /// automatically.
    pub fn set_agent_state(&self, state: AgentState) -> Result {
        room::set_agent_state(state);
        Ok(())
    }
}

impl Default for SendOptions {
    /// To everyone, by the agent, without attributes.
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            attributes: Vec::new(),
            stream_id: String::new(),
            sender: String::new(),
            reply_to: String::new(),
            repeatable: false,
        }
    }
}

impl Default for Transcription {
    /// By the agent, on its own track, in a new segment that may still change.
    fn default() -> Self {
        Self {
            segment_id: String::new(),
            speaker: String::new(),
            track_sid: String::new(),
            language: String::new(),
            attributes: Vec::new(),
            is_final: false,
        }
    }
}

/// Whether the participant is a person, not a recorder, an ingested stream or another agent.
pub(crate) fn is_person(who: &Participant) -> bool {
    match who.kind {
        ParticipantKind::Standard | ParticipantKind::Sip | ParticipantKind::Connector => true,
        ParticipantKind::Ingress
        | ParticipantKind::Egress
        | ParticipantKind::Agent
        | ParticipantKind::Bridge
        | ParticipantKind::Other => false,
    }
}
