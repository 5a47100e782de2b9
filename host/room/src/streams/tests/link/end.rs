//! One participant of the link, and what the server knows of it.

use std::collections::{BTreeMap, VecDeque};

use livekit_protocol as proto;

use super::super::*;
use wasm_worker_core::room::command::{IncomingId, Receipt};
use wasm_worker_core::room::event::Failure;

/// Bytes that a server may acknowledge and not read, before a resume: what the sender keeps at least.
const UNREAD_MAX: usize = 40_000;

/// One participant, its link, and what the server knows of it.
pub(super) struct End {
    pub(super) side: Side,
    /// Reliable packets in the channel that the server has not acknowledged.
    pub(super) up: VecDeque<proto::DataPacket>,
    pub(super) up_lossy: Vec<proto::DataPacket>,
    pub(super) down: VecDeque<(proto::DataPacket, bool)>,
    /// What the server has forwarded to it, the last ones.
    pub(super) forwarded: VecDeque<proto::DataPacket>,
    /// The last sequence that the server has read, and the last that it has acknowledged.
    pub(super) read: u32,
    pub(super) acknowledged: u32,
    pub(super) link: Link,
    pub(super) stays: u32,
    pub(super) next_id: u32,
    /// The texts that are open.
    pub(super) open: Vec<u32>,
    /// The texts so far, their kinds, and how they ended.
    pub(super) texts: BTreeMap<u32, Text>,
    /// What its agent was told.
    pub(super) arrived: Vec<String>,
    pub(super) parts: BTreeMap<IncomingId, String>,
}

pub(super) struct Text {
    pub(super) content: String,
    pub(super) is_whole: bool,
    pub(super) is_done: Option<bool>,
    /// How often the receiver had joined when it began.
    pub(super) stay_of_receiver: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Link {
    Up,
    /// Nothing is read; so many bytes were acknowledged.
    Stalled(usize),
    /// The server waits for the packet after the last that it has read.
    Waits,
}

impl End {
    pub(super) fn new(identity: &str) -> Self {
        let mut side = Side::new(identity);
        side.perform(Command::Receive { topic: "parts".into(), receipt: Receipt::Parts });
        Self {
            side,
            up: VecDeque::new(),
            up_lossy: Vec::new(),
            down: VecDeque::new(),
            forwarded: VecDeque::new(),
            read: 0,
            acknowledged: 0,
            link: Link::Up,
            stays: 0,
            next_id: 0,
            open: Vec::new(),
            texts: BTreeMap::new(),
            arrived: Vec::new(),
            parts: BTreeMap::new(),
        }
    }

    /// A new text, of some bytes of UTF-8 and its number.
    pub(super) fn begin(&mut self, is_whole: bool, stay_of_receiver: u32) -> u32 {
        self.next_id += 1;
        let text = Text { content: String::new(), is_whole, is_done: None, stay_of_receiver };
        self.texts.insert(self.next_id, text);
        self.next_id
    }

    pub(super) fn part(&self, id: u32, length: usize) -> String {
        let identity = &self.side.identity;
        format!("<{identity} {id}>{}", ["é", "x", "日"].iter().cycle().take(length).copied().collect::<String>())
    }

    pub(super) fn take(&mut self, count: usize) {
        for _ in 0..count {
            let Some((channel, packet)) = self.side.streams.next_packet() else { break };
            let packet = self.side.stamped(packet);
            match channel {
                Channel::Reliable => self.up.push_back(packet),
                Channel::Lossy => self.up_lossy.push(packet),
            }
        }
    }

    /// What the server reads next.
    pub(super) fn read(&mut self) -> Option<proto::DataPacket> {
        let first = self.up.front()?;
        let bytes = first.encoded_len();
        let sequence = first.sequence;
        match &mut self.link {
            Link::Stalled(unread) if *unread + bytes > UNREAD_MAX => return None,
            Link::Stalled(unread) => {
                *unread += bytes;
                self.up.pop_front();
            }
            Link::Waits if sequence != self.read + 1 => {
                self.up.pop_front();
            }
            Link::Waits | Link::Up => {
                self.link = Link::Up;
                let packet = self.up.pop_front()?;
                self.acknowledge();
                let is_new = packet.sequence > self.read;
                self.read = self.read.max(packet.sequence);
                return is_new.then_some(packet);
            }
        }
        self.acknowledged = self.acknowledged.max(sequence);
        self.acknowledge();
        None
    }

    pub(super) fn acknowledge(&mut self) {
        // The channel counts what the sender handed over: without the names that the server puts on.
        let sent = |packet: &proto::DataPacket| {
            let (participant_sid, mut participant_identity) = (String::new(), packet.participant_identity.clone());
            participant_identity.clear();
            proto::DataPacket { participant_sid, participant_identity, ..packet.clone() }.encoded_len()
        };
        let unacknowledged = self.up.iter().map(sent).sum();
        self.side.streams.drained(unacknowledged, self.side.now);
    }

    pub(super) fn arrive(&mut self, count: usize) {
        for _ in 0..count {
            let Some((packet, is_reliable)) = self.down.pop_front() else { break };
            self.side.streams.received(packet, is_reliable, self.side.now);
        }
    }

    pub(super) fn events(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.side.streams.next_event() else { break };
            match event {
                RoomEvent::Done(id) => self.end(id, true),
                RoomEvent::Failed(Failure { id, .. }) => self.end(id, false),
                RoomEvent::Text { text, .. } => self.arrived.push(text),
                RoomEvent::StreamStarted { id, .. } => assert!(self.parts.insert(id, String::new()).is_none()),
                RoomEvent::TextChunk { id, text } => {
                    self.parts.get_mut(&id).unwrap().push_str(&text);
                    self.side.perform(Command::Taken { id, bytes: text.len() });
                }
                RoomEvent::StreamEnded { id, reason, .. } => {
                    let text = self.parts.remove(&id).unwrap();
                    if reason.is_empty() {
                        self.arrived.push(text);
                    }
                }
                RoomEvent::Data { .. } | RoomEvent::Writable(_) | RoomEvent::Lost { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn end(&mut self, id: u32, is_done: bool) {
        self.open.retain(|open| *open != id);
        let text = self.texts.get_mut(&id).unwrap();
        assert_eq!(text.is_done.replace(is_done), None, "a second end of {id}");
    }

    pub(super) fn pick(&self, at: usize) -> Option<u32> {
        self.open.get(at.checked_rem(self.open.len())?).copied()
    }
}
