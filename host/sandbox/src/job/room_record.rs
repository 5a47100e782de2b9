//! What an agent sends into its room: texts, streams of text, and its own attributes, for the record of its job.
//!
//! Bounds: [`TEXTS_MAX`] texts are kept, [`TEXTS_IN_A_ROOM_MAX`] where others have them too. All of it is charged to the job.

use std::collections::BTreeMap;

use wasm_worker_core::record::{RoomRecord, SentText};
use wasm_worker_core::text::pair_bytes;

use super::world::JobAccess;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::bindings::wasm_worker::agent::room::{AgentState, Transcription};
use crate::guest::contract::{Attributes, SendOptions};
use crate::guest::kill::Kill;

/// Attribute under which front ends look for an agent's state.
pub(super) const AGENT_STATE: &str = "lk.agent.state";
/// Topic and attributes of transcriptions, as front ends expect them.
const TRANSCRIPTION: &str = "lk.transcription";
const SEGMENT_ID: &str = "lk.segment_id";
const TRACK_ID: &str = "lk.transcribed_track_id";
const IS_FINAL: &str = "lk.transcription_final";

/// Most texts of one job that its record keeps.
const TEXTS_MAX: usize = 1_000;
/// The same for a job in a room of a server: a joined room takes 200 KiB in all, and a thousand texts take as much again.
const TEXTS_IN_A_ROOM_MAX: usize = 100;
/// Bytes of a stream after which its writer waits to be told to go on.
const UNSENT_MAX: usize = 64 << 10;

/// The record of one job, and its streams.
pub(super) struct Sent {
    pub(super) record: RoomRecord,
    texts_max: usize,
    /// The streams that the agent writes, by their ids.
    streams: BTreeMap<u32, Open>,
}

struct Open {
    stream: Stream,
    /// Bytes since the writer was last told to go on.
    written: usize,
}

/// A stream that the agent has begun.
pub(super) enum Stream {
    /// A text.
    Text(SentText),
    /// A file, for which the record has no place.
    File,
}

impl Sent {
    /// Nothing yet, where the record is all that is left of it.
    pub(super) fn recorded() -> Self {
        Self { record: RoomRecord::default(), texts_max: TEXTS_MAX, streams: BTreeMap::new() }
    }

    /// Nothing yet, in a room of a server.
    pub(super) fn in_a_room() -> Self {
        Self { texts_max: TEXTS_IN_A_ROOM_MAX, ..Self::recorded() }
    }

    /// Keep a whole text.
    pub(super) fn add(&mut self, text: SentText, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        job.meter.charge(kept_bytes(&text))?;
        self.put(text, job);
        Ok(())
    }

    /// Begin a stream.
    pub(super) fn open(&mut self, id: u32, stream: Stream, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        job.meter.charge(stream.bytes())?;
        self.streams.insert(id, Open { stream, written: 0 });
        Ok(())
    }

    /// Add to a text.
    pub(super) fn write(&mut self, id: u32, text: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if let Some(Open { stream: Stream::Text(sent), .. }) = self.streams.get_mut(&id) {
            let before = kept_bytes(sent);
            sent.text.push_str(text);
            job.meter.charge(kept_bytes(sent).saturating_sub(before))?;
        }
        Ok(())
    }

    /// Count bytes of a stream. Nothing waits to be sent here, so a writer that has to wait is told to go on.
    pub(super) fn wrote(&mut self, id: u32, bytes: usize, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let Some(open) = self.streams.get_mut(&id) else { return Ok(()) };
        open.written += bytes;
        if open.written <= UNSENT_MAX {
            return Ok(());
        }
        open.written = 0;
        job.send_sure(Event::Writable(id))
    }

    /// The agent ends a stream, with these attributes.
    pub(super) fn end(&mut self, id: u32, attributes: Attributes, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let Some(Open { stream: Stream::Text(sent), .. }) = self.streams.get_mut(&id) else { return Ok(()) };
        let before = kept_bytes(sent);
        sent.attributes.extend(attributes);
        if sent.topic == TRANSCRIPTION {
            sent.attributes.insert(IS_FINAL.into(), "true".into());
        }
        job.meter.charge(kept_bytes(sent).saturating_sub(before))
    }

    /// A stream has been sent. Whether there was one.
    pub(super) fn keep(&mut self, id: u32, job: &mut JobAccess<'_>) -> bool {
        match self.streams.remove(&id).map(|open| open.stream) {
            None => return false,
            Some(Stream::File) => job.meter.release(Stream::File.bytes()),
            Some(Stream::Text(sent)) => self.put(sent, job),
        }
        true
    }

    /// Give up a stream.
    pub(super) fn cancel(&mut self, id: u32, job: &mut JobAccess<'_>) {
        if let Some(open) = self.streams.remove(&id) {
            job.meter.release(open.stream.bytes());
        }
    }

    /// Give up all streams, and return their ids.
    pub(super) fn cancel_all(&mut self, job: &mut JobAccess<'_>) -> Vec<u32> {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.iter().for_each(|id| self.cancel(*id, job));
        ids
    }

    /// Set or remove one attribute, release the memory of its old value, and charge that of the new one.
    pub(super) fn put_attribute(&mut self, name: String, value: String, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if let Some((name, value)) = self.record.attributes.remove_entry(&name) {
            job.meter.release(pair_bytes(&name, &value));
        }
        if !value.is_empty() {
            job.meter.charge(pair_bytes(&name, &value))?;
            self.record.attributes.insert(name, value);
        }
        Ok(())
    }

    /// Set the attribute under which front ends look for an agent's state.
    pub(super) fn put_state(&mut self, state: AgentState, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let name = match state {
            AgentState::Initializing => "initializing",
            AgentState::Idle => "idle",
            AgentState::Listening => "listening",
            AgentState::Thinking => "thinking",
            AgentState::Speaking => "speaking",
        };
        self.put_attribute(AGENT_STATE.into(), name.into(), job)
    }

    /// Keep a text that has been charged.
    fn put(&mut self, sent: SentText, job: &mut JobAccess<'_>) {
        if self.record.texts.len() < self.texts_max {
            self.record.texts.push(sent);
        } else {
            self.record.texts_not_kept += 1;
            job.meter.release(kept_bytes(&sent));
        }
    }
}

impl Stream {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(sent) => kept_bytes(sent),
            Self::File => size_of::<Self>(),
        }
    }
}

/// A text as the record keeps it.
pub(super) fn text(topic: String, text: String, options: SendOptions) -> SentText {
    let SendOptions { destinations, attributes, .. } = options;
    SentText { topic, text, destinations, attributes: attributes.into_iter().collect() }
}

/// A transcription as the record keeps it.
pub(super) fn transcription(text: String, options: Transcription) -> SentText {
    let Transcription { segment_id, track_sid, attributes, is_final, .. } = options;
    let mut attributes: BTreeMap<String, String> = attributes.into_iter().collect();
    let own = [(SEGMENT_ID, segment_id), (TRACK_ID, track_sid), (IS_FINAL, is_final.to_string())];
    attributes.extend(own.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.into(), value)));
    SentText { topic: TRANSCRIPTION.into(), text, destinations: Vec::new(), attributes }
}

fn kept_bytes(sent: &SentText) -> usize {
    sent.bytes() + size_of::<SentText>()
}

#[cfg(test)]
mod tests {
    use super::super::world::JobWithoutGuest;
    use super::*;

    fn plain(content: &str) -> SentText {
        SentText { topic: "t".into(), text: content.into(), destinations: Vec::new(), attributes: BTreeMap::new() }
    }

    #[test]
    fn texts_beyond_the_bound_are_counted_and_cost_nothing() {
        for (mut sent, most) in [(Sent::recorded(), TEXTS_MAX), (Sent::in_a_room(), TEXTS_IN_A_ROOM_MAX)] {
            let mut job = JobWithoutGuest::new(1 << 20);
            for _ in 0..most {
                sent.add(plain("x"), &mut job.access(0)).unwrap();
            }
            let used = job.meter.used_bytes();
            sent.add(plain("y"), &mut job.access(0)).unwrap();
            assert_eq!((sent.record.texts.len(), sent.record.texts_not_kept), (most, 1));
            assert_eq!(job.meter.used_bytes(), used);
        }
    }

    #[test]
    fn memory_of_streams_is_charged_and_given_back() {
        let (mut sent, mut job) = (Sent::recorded(), JobWithoutGuest::new(1 << 20));
        sent.open(1, Stream::Text(plain("")), &mut job.access(0)).unwrap();
        sent.open(2, Stream::File, &mut job.access(0)).unwrap();
        sent.write(1, &"x".repeat(10_000), &mut job.access(0)).unwrap();
        sent.write(2, "no text", &mut job.access(0)).unwrap();
        assert!(job.meter.used_bytes() > 10_000);
        assert!(!sent.keep(3, &mut job.access(0)));
        assert_eq!(sent.cancel_all(&mut job.access(0)), [1, 2]);
        assert_eq!(job.meter.used_bytes(), 0);
        sent.put_attribute("a".into(), "b".into(), &mut job.access(0)).unwrap();
        sent.put_attribute("a".into(), String::new(), &mut job.access(0)).unwrap();
        assert_eq!(job.meter.used_bytes(), 0);
    }
}
