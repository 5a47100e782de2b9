//! Texts and files that are sent or arrive in parts.

use crate::bindings::wasm_worker::agent::room;
use crate::pacing::{self, Pacing};
use crate::types::{Failure, StreamInfo, StreamStart};
use crate::{Event, Operation, executor};

/// A text that is sent in parts: see [`JobContext::open_text`](crate::JobContext::open_text). Dropping it before
/// [`close`](Self::close) gives the text up.
#[derive(Debug)]
pub struct TextWriter(Writer);

impl TextWriter {
    pub(crate) fn new(id: u32) -> Self {
        Self(Writer::new(id, "TextWriter"))
    }

    /// Sends a part. Waits first where much of the text is not sent yet, so no part is lost.
    pub async fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.0.make_room().await?;
        room::write_text(self.0.operation.id(), text);
        self.0.pacing.count(text.len());
        Ok(())
    }

    /// Ends the text, and waits until it has left the host.
    pub async fn close(self) -> Result<(), Failure> {
        self.0.close(&[]).await
    }

    /// Ends the text with attributes for its trailer.
    pub async fn close_with(self, attributes: &[(String, String)]) -> Result<(), Failure> {
        self.0.close(attributes).await
    }
}

/// A file that is sent in parts: see [`JobContext::open_file`](crate::JobContext::open_file). Dropping it before
/// [`close`](Self::close) gives the file up.
#[derive(Debug)]
pub struct FileWriter(Writer);

impl FileWriter {
    pub(crate) fn new(id: u32) -> Self {
        Self(Writer::new(id, "FileWriter"))
    }

    /// Sends a part. Waits first where much of the file is not sent yet, so no part is lost.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.make_room().await?;
        room::write_bytes(self.0.operation.id(), bytes);
        self.0.pacing.count(bytes.len());
        Ok(())
    }

    /// Ends the file, and waits until it has left the host.
    pub async fn close(self) -> Result<(), Failure> {
        self.0.close(&[]).await
    }
}

#[derive(Debug)]
struct Writer {
    operation: Operation,
    pacing: Pacing,
}

impl Writer {
    fn new(id: u32, name: &'static str) -> Self {
        executor::count_call();
        Self { operation: Operation::new(id, name), pacing: Pacing::default() }
    }

    /// Waits until another part can be written.
    async fn make_room(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.operation.try_next() {
            self.note(event)?;
        }
        while self.pacing.is_full() {
            let Some(event) = self.operation.next().await else { break };
            self.note(event)?;
        }
        pacing::spread_calls().await;
        Ok(())
    }

    fn note(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Writable(_) => self.pacing.note_writable(),
            Event::Failed(failure) => return Err(failure),
            _ => {}
        }
        Ok(())
    }

    async fn close(self, attributes: &[(String, String)]) -> Result<(), Failure> {
        room::close_stream(self.operation.id(), attributes);
        self.operation.done().await?;
        Ok(())
    }
}

/// A text or a file that arrives in parts: see [`JobContext::read_stream`](crate::JobContext::read_stream). Dropping it
/// gives up what has not been read.
///
/// The sender is made to wait while the agent does not read.
#[derive(Debug)]
pub struct StreamReader {
    operation: Operation,
    info: StreamInfo,
    is_text: bool,
}

impl StreamReader {
    pub(crate) fn new(start: StreamStart) -> Self {
        Self { operation: Operation::new(start.id, "StreamReader"), info: start.info, is_text: start.is_text }
    }

    /// The stream's sender, topic, size and attributes.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Whether it is a text. If not, it is a file.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// The next part of a text; `None` at its end. A sender that gave up is an error.
    pub async fn next_text(&mut self) -> Result<Option<String>, Failure> {
        while let Some(event) = self.operation.next().await {
            match event {
                Event::TextChunk(chunk) => return Ok(Some(chunk.text)),
                event => check(event)?,
            }
        }
        Ok(None)
    }

    /// The next part of a file; `None` at its end. A sender that gave up is an error.
    pub async fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        while let Some(event) = self.operation.next().await {
            match event {
                Event::BytesChunk(chunk) => return Ok(Some(chunk.bytes)),
                event => check(event)?,
            }
        }
        Ok(None)
    }
}

/// Fails if the event tells that the stream ended early.
fn check(event: Event) -> Result<(), Failure> {
    match event {
        Event::Failed(failure) => Err(failure),
        Event::StreamEnded(end) if !end.reason.is_empty() => {
            Err(Failure { id: end.id, code: "interrupted".into(), status: 0, message: end.reason })
        }
        _ => Ok(()),
    }
}
