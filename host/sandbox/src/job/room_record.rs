//! What an agent sends into its room: texts, streams of text, and its own attributes, for the record of its job.
//!
//! Bounds: [`TEXTS_MAX`] texts are kept. Where others have them too, [`TEXTS_IN_A_ROOM_MAX`] are, of [`TEXT_IN_A_ROOM_MAX`] each.
//! All of it is charged to the job.

use std::collections::BTreeMap;

use wasm_worker_core::record::{RoomRecord, SentText};
use wasm_worker_core::room::names::{AGENT_STATE, IS_FINAL, SEGMENT_ID, TRACK_ID, TRANSCRIPTION};
use wasm_worker_core::text::pair_bytes;

use super::world::JobAccess;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::bindings::wasm_worker::agent::room::{AgentState, Transcription};
use crate::guest::contract::{Attributes, SendOptions};
use crate::guest::kill::Kill;

/// Most texts of one job that its record keeps.
const TEXTS_MAX: usize = 1_000;
/// The same for a job in a room of a server: a joined room takes 200 KiB in all, and a thousand texts take as much again.
const TEXTS_IN_A_ROOM_MAX: usize = 100;
/// Most bytes of one text that the record of a job in such a room keeps, as many as one of a participant's texts takes by default.
const TEXT_IN_A_ROOM_MAX: usize = 16 << 10;
/// Bytes of a stream after which its writer waits to be told to go on.
const UNSENT_MAX: usize = 64 << 10;

/// The record of one job, and its streams.
pub(super) struct Sent {
    pub(super) record: RoomRecord,
    texts_max: usize,
    text_bytes_max: usize,
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
    /// A text for which the record has no place left.
    Unkept,
    /// A file, for which the record has no place.
    File,
}

impl Sent {
    /// Nothing yet, where the record is all that is left of it.
    pub(super) fn recorded() -> Self {
        Self {
            record: RoomRecord::default(),
            texts_max: TEXTS_MAX,
            text_bytes_max: usize::MAX,
            streams: BTreeMap::new(),
        }
    }

    /// Nothing yet, in a room of a server.
    pub(super) fn in_a_room() -> Self {
        Self { texts_max: TEXTS_IN_A_ROOM_MAX, text_bytes_max: TEXT_IN_A_ROOM_MAX, ..Self::recorded() }
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

    /// Begin a stream with a text of so many bytes, which is made where the record has a place for it.
    pub(super) fn open_text(
        &mut self,
        id: u32,
        bytes: usize,
        text: impl FnOnce() -> SentText,
        job: &mut JobAccess<'_>,
    ) -> Result<(), Kill> {
        let has_place = self.record.texts.len() < self.texts_max && bytes <= self.text_bytes_max;
        self.open(id, if has_place { Stream::Text(text()) } else { Stream::Unkept }, job)
    }

    /// Add to a text.
    pub(super) fn write(&mut self, id: u32, text: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let Some(open) = self.streams.get_mut(&id) else { return Ok(()) };
        let Stream::Text(sent) = &mut open.stream else { return Ok(()) };
        let before = kept_bytes(sent);
        if sent.text.len().saturating_add(text.len()) > self.text_bytes_max {
            open.stream = Stream::Unkept;
            job.meter.release(before);
            return job.meter.charge(Stream::Unkept.bytes());
        }
        sent.text.push_str(text);
        job.meter.charge(kept_bytes(sent).saturating_sub(before))
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
            Some(Stream::Unkept) => {
                job.meter.release(Stream::Unkept.bytes());
                self.record.texts_not_kept += 1;
            }
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
        let state = wasm_worker_core::room::command::AgentState::from(state);
        self.put_attribute(AGENT_STATE.into(), state.as_str().into(), job)
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
            Self::Unkept | Self::File => size_of::<Self>(),
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
    fn long_text_in_a_room_is_counted_and_costs_nothing() {
        let (mut sent, mut job) = (Sent::in_a_room(), JobWithoutGuest::new(1 << 20));
        let long = TEXT_IN_A_ROOM_MAX + 1;
        sent.open_text(1, long, || panic!("it is not made"), &mut job.access(0)).unwrap();
        sent.open_text(2, 1, || plain("x"), &mut job.access(0)).unwrap();
        sent.write(2, &"x".repeat(TEXT_IN_A_ROOM_MAX - 1), &mut job.access(0)).unwrap();
        assert!(job.meter.used_bytes() > TEXT_IN_A_ROOM_MAX);
        for _ in 0..100 {
            sent.write(2, &"x".repeat(TEXT_IN_A_ROOM_MAX), &mut job.access(0)).unwrap();
        }
        assert_eq!(job.meter.used_bytes(), 2 * Stream::Unkept.bytes());
        assert!(sent.keep(1, &mut job.access(0)) && sent.keep(2, &mut job.access(0)));
        assert_eq!((sent.record.texts.len(), sent.record.texts_not_kept, job.meter.used_bytes()), (0, 2, 0));
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
