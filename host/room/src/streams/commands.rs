//! What the agent asks of the data channels.

use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::shared::Refusal;
use super::{NOT_JOINED, Presence, Streams};
use wasm_worker_core::room::command::{Command, IncomingId, OperationId};

impl Streams {
    /// Do what the agent asks for. A command that is not about the data channels changes nothing.
    pub(crate) fn perform(&mut self, command: Command, now: Instant) {
        self.shared.now = now;
        let Some(command) = self.send(command) else { return };
        let shared = &mut self.shared;
        match command {
            Command::Receive { topic, receipt } => self.incoming.receipts.choose(topic, receipt),
            Command::WriteText { id, text } => {
                let written = self.outgoing.write(shared, id, text.into_bytes(), true);
                self.check(id, written);
            }
            Command::WriteBytes { id, bytes } => {
                let written = self.outgoing.write(shared, id, bytes, false);
                self.check(id, written);
            }
            Command::CloseStream { id, attributes } => {
                let closed = self.outgoing.close(shared, id, attributes, true);
                self.check(id, closed);
            }
            Command::Answer { request, answer } => self.requests.answer(shared, request, answer),
            Command::Cancel { id } => self.cancel(id),
            Command::CancelIncoming { id } => self.cancel_incoming(id),
            Command::Taken { id, bytes } => self.incoming.taken(shared, id, bytes),
            _ => {}
        }
    }

    /// Begin to send something. A command that does not is returned.
    fn send(&mut self, command: Command) -> Option<Command> {
        let id = command.new_id();
        if self.presence == Presence::Outside && (id.is_some() || matches!(command, Command::SendData { .. })) {
            if let Some(id) = id {
                self.shared.fail(id, NOT_JOINED);
            }
            return None;
        }
        let shared = &mut self.shared;
        let (id, sent) = match command {
            Command::SendText { id, topic, text, options } => {
                let begun = Outgoing::open_text(shared, id, topic, Some(text.len()), options);
                (id, self.send_whole(id, begun, text.into_bytes(), true))
            }
            Command::OpenText { id, topic, options } => (id, Outgoing::open_text(shared, id, topic, None, options)),
            Command::SendFile { id, topic, name, mime_type, bytes, options } => {
                let size = u64::try_from(bytes.len()).ok();
                let begun = Outgoing::open_file(shared, id, topic, (name, mime_type), size, options);
                (id, self.send_whole(id, begun, bytes, false))
            }
            Command::OpenFile { id, topic, name, mime_type, size, options } => {
                (id, Outgoing::open_file(shared, id, topic, (name, mime_type), size, options))
            }
            Command::SendTranscription { id, text, options } => {
                let begun = self.outgoing.open_transcription(shared, id, Some(text.len()), options);
                (id, self.send_whole(id, begun, text.into_bytes(), true))
            }
            Command::OpenTranscription { id, options } => {
                (id, self.outgoing.open_transcription(shared, id, None, options))
            }
            Command::SendData { id, topic, payload, destinations } => {
                (id.unwrap_or_default(), Outgoing::send_data(shared, id, topic, payload, destinations))
            }
            Command::SendDtmf { id, code, digit } => (id, Outgoing::send_dtmf(shared, id, code, digit)),
            Command::Call { id, destination, method, payload, timeout } => {
                self.calls.call(shared, id, destination, method, payload, timeout);
                return None;
            }
            other => return Some(other),
        };
        self.check(id, sent);
        None
    }

    /// Send the content of what was begun, and its end.
    fn send_whole(
        &mut self,
        id: OperationId,
        begun: Result<(), Refusal>,
        content: Vec<u8>,
        is_text: bool,
    ) -> Result<(), Refusal> {
        let Self { outgoing, shared, .. } = self;
        begun?;
        outgoing.write(shared, id, content, is_text)?;
        outgoing.close(shared, id, Vec::new(), false)
    }

    /// End an operation that failed.
    fn check(&mut self, id: OperationId, done: Result<(), Refusal>) {
        if let Err(refusal) = done {
            self.outgoing.cancel(&mut self.shared, id);
            self.shared.fail(id, refusal);
        }
    }

    fn cancel(&mut self, id: OperationId) {
        if !self.calls.cancel(&mut self.shared, id) {
            self.outgoing.cancel(&mut self.shared, id);
        }
    }

    fn cancel_incoming(&mut self, id: IncomingId) {
        if !self.requests.cancel(&mut self.shared, id) {
            self.incoming.cancel(&mut self.shared, id);
        }
    }
}
