//! Two [`Streams`] that talk, without a network: packets go from one to the other as a server forwards them.

mod hostile;
mod link;
mod rpc;
mod texts;

mod sends;

mod bounds;

use std::time::Duration;

use livekit_protocol as proto;
use prost::Message;
use proto::data_packet::Value;
use tokio::time::Instant;

use super::Streams;
use crate::wire::Channel;
use wasm_worker_core::room::command::{Command, SendOptions};
use wasm_worker_core::room::event::RoomEvent;

/// One participant.
pub(super) struct Side {
    pub(super) streams: Streams,
    pub(super) sid: String,
    pub(super) identity: String,
    pub(super) now: Instant,
}

impl Side {
    /// A participant in the room.
    pub(super) fn new(identity: &str) -> Self {
        let now = Instant::now();
        let mut streams = Streams::new(identity.into(), now, 1_000);
        streams.joined(identity);
        Self { streams, sid: format!("PA_{identity}"), identity: identity.into(), now }
    }

    pub(super) fn perform(&mut self, command: Command) {
        self.streams.perform(command, self.now);
    }

    pub(super) fn send_text(&mut self, id: u32, text: &str) {
        self.perform(Command::SendText { id, topic: "t".into(), text: text.into(), options: SendOptions::default() });
    }

    pub(super) fn events(&mut self) -> Vec<RoomEvent> {
        std::iter::from_fn(|| self.streams.next_event()).collect()
    }

    /// The packets of this side, with the names that a server puts on them. The server has read all of them.
    pub(super) fn packets(&mut self) -> Vec<(Channel, proto::DataPacket)> {
        let mut packets = Vec::new();
        while let Some((channel, packet)) = self.streams.next_packet() {
            packets.push((channel, self.stamped(packet)));
            self.streams.drained(0, self.now);
        }
        packets
    }

    /// A packet as a server forwards it.
    pub(super) fn stamped(&self, mut packet: proto::DataPacket) -> proto::DataPacket {
        packet.participant_sid.clone_from(&self.sid);
        let speaks_for_others = matches!(&packet.value, Some(Value::StreamHeader(_)));
        if packet.participant_identity.is_empty() || !speaks_for_others {
            packet.participant_identity.clone_from(&self.identity);
        }
        proto::DataPacket::decode(packet.encode_to_vec().as_slice()).unwrap()
    }

    /// Everything that this side has to send reaches the other.
    pub(super) fn send_to(&mut self, other: &mut Self) {
        for (channel, packet) in self.packets() {
            other.streams.received(packet, channel == Channel::Reliable, other.now);
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.streams.advance(self.now);
    }

    pub(super) fn receive(&mut self, value: Value) {
        self.receive_from("PA_ann", "ann", value);
    }

    pub(super) fn receive_from(&mut self, sid: &str, identity: &str, value: Value) {
        let packet = proto::DataPacket {
            participant_sid: sid.into(),
            participant_identity: identity.into(),
            value: Some(value),
            ..Default::default()
        };
        self.streams.received(packet, true, self.now);
    }
}

/// Both sides talk until nothing is left to say.
pub(super) fn talk(one: &mut Side, other: &mut Side) {
    for _ in 0..4 {
        one.send_to(other);
        other.send_to(one);
    }
}
