//! Whatever arrives, in whatever order it is taken: nothing grows beyond its bound, everything that begins ends once, and nothing is
//! left in the end.

use std::collections::BTreeSet;

use livekit_protocol as proto;
use proptest::prelude::*;
use proto::data_packet::Value;
use proto::data_stream::header::ContentHeader;
use proto::data_stream::{ByteHeader, Chunk, Header, TextHeader, Trailer};
use proto::rpc_response::Value as Answer;

use super::super::limits::{
    ANSWER_BYTES_MAX, INCOMING_BYTES_MAX, KEPT_BYTES_MAX, LOSSY_BYTES_MAX, LOSSY_UNSENT_BYTES_MAX, QUEUE_BYTES_MAX,
    REQUESTS_MAX, STREAMS_MAX, WINDOW_BYTES,
};
use super::*;
use crate::wire::PACKET_BYTES_MAX;
use wasm_worker_core::room::command::{IncomingId, Receipt, Transcription};
use wasm_worker_core::room::event::Failure;

#[derive(Clone, Debug)]
enum Step {
    Packet(u8, u32, bool, Value),
    Bytes(Vec<u8>),
    Command(Command),
    Events(usize),
    Packets(usize),
    Drain(usize),
    Refuse,
    Leave(u8),
    Resume(u32),
    Rejoin,
    Left,
    Wait(u64),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-c]", 1 => Just(String::new()), 1 => Just("x".repeat(700)), 1 => Just("x".repeat(60_000))]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..8),
        2 => "(é|x){0,8}".prop_map(String::into_bytes),
        3 => (0_usize..64_000).prop_map(|length| vec![b'x'; length]),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let size = || prop_oneof![3 => Just(None), 2 => (0_u64..100_000).prop_map(Some), 1 => any::<u64>().prop_map(Some)];
    let header = (name(), name(), size(), 0..4, prop::option::weighted(0.2, content()), -1_i32..3, name()).prop_map(
        |(stream_id, topic, total_length, kind, inline_content, compression, attribute)| {
            let content_header = match kind {
                0 => None,
                1 => Some(ContentHeader::ByteHeader(ByteHeader { name: attribute.clone() })),
                _ => Some(ContentHeader::TextHeader(TextHeader { version: 3, generated: true, ..Default::default() })),
            };
            let attributes = [(attribute, String::new())].into();
            let compression = compression.max(0);
            let header =
                Header { stream_id, topic, total_length, content_header, inline_content, ..Default::default() };
            Value::StreamHeader(Header { compression: compression / 2, attributes, ..header })
        },
    );
    let chunk = (name(), 0_u64..6, content(), 0..20).prop_map(|(stream_id, chunk_index, content, version)| {
        let version = i32::from(version == 0);
        Value::StreamChunk(Chunk { stream_id, chunk_index, content, version, ..Default::default() })
    });
    let trailer = (name(), name(), name()).prop_map(|(stream_id, reason, attribute)| {
        Value::StreamTrailer(Trailer { stream_id, reason, attributes: [(attribute, "v".into())].into() })
    });
    let request = (name(), name(), content(), any::<u32>(), 0_u32..3).prop_map(
        |(id, method, payload, response_timeout_ms, version)| {
            let payload = String::from_utf8_lossy(&payload).into_owned();
            let request = proto::RpcRequest { id, method, payload, response_timeout_ms, ..Default::default() };
            Value::RpcRequest(proto::RpcRequest { version: version.max(1), ..request })
        },
    );
    let of_call = || (1_u32..40).prop_map(|number| format!("RPC_me_{number}"));
    let response = (of_call(), content(), any::<bool>()).prop_map(|(request_id, payload, is_error)| {
        let text = String::from_utf8_lossy(&payload).into_owned();
        let error = proto::RpcError { code: 1, message: text.clone(), data: text.clone() };
        let value = Some(if is_error { Answer::Error(error) } else { Answer::Payload(text) });
        Value::RpcResponse(proto::RpcResponse { request_id, value })
    });
    prop_oneof![
        3 => header,
        6 => chunk,
        3 => trailer,
        2 => request,
        1 => of_call().prop_map(|request_id| Value::RpcAck(proto::RpcAck { request_id })),
        2 => response,
        2 => content().prop_map(|payload| Value::User(proto::UserPacket { payload, ..Default::default() })),
        1 => any::<u32>().prop_map(|code| Value::SipDtmf(proto::SipDtmf { code, ..Default::default() })),
        1 => Just(Value::Metrics(proto::MetricsBatch::default())),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let text = || content().prop_map(|content| String::from_utf8_lossy(&content).into_owned());
    let id = || 0_u32..40;
    let options = || {
        (name(), name()).prop_map(|(destination, attribute)| SendOptions {
            destinations: vec![destination],
            attributes: vec![(attribute, String::new())],
            ..SendOptions::default()
        })
    };
    let receipt = prop_oneof![Just(Receipt::Whole), Just(Receipt::Parts), Just(Receipt::None)];
    let incoming = || (0_u32..60).prop_map(IncomingId);
    let transcription = || name().prop_map(|track_sid| Transcription { track_sid, ..Transcription::default() });
    prop_oneof![
        (name(), receipt).prop_map(|(topic, receipt)| Command::Receive { topic, receipt }),
        (name(), text(), options()).prop_map(|(topic, text, options)| Command::SendText {
            id: 0,
            topic,
            text,
            options
        }),
        (name(), options()).prop_map(|(topic, options)| Command::OpenText { id: 0, topic, options }),
        (id(), text()).prop_map(|(id, text)| Command::WriteText { id, text }),
        (id(), content()).prop_map(|(id, bytes)| Command::WriteBytes { id, bytes }),
        (id(), name()).prop_map(|(id, name)| Command::CloseStream { id, attributes: vec![(name, String::new())] }),
        (text(), transcription()).prop_map(|(text, options)| Command::SendTranscription { id: 0, text, options }),
        transcription().prop_map(|options| Command::OpenTranscription { id: 0, options }),
        (name(), prop::option::of(0_u64..10), options()).prop_map(|(name, size, options)| {
            Command::OpenFile { id: 0, topic: name.clone(), name, mime_type: String::new(), size, options }
        }),
        (any::<bool>(), content()).prop_map(|(is_reliable, payload)| {
            let (topic, destinations) = (String::new(), Vec::new());
            Command::SendData { id: is_reliable.then_some(0), topic, payload, destinations }
        }),
        (name(), text(), 0_u64..20_000).prop_map(|(destination, payload, millis)| {
            let timeout = Duration::from_millis(millis);
            Command::Call { id: 0, destination, method: "m".into(), payload, timeout }
        }),
        (incoming(), text()).prop_map(|(request, text)| Command::Answer { request, answer: Ok(text) }),
        id().prop_map(|id| Command::Cancel { id }),
        incoming().prop_map(|id| Command::CancelIncoming { id }),
        (incoming(), 0_usize..100_000).prop_map(|(id, bytes)| Command::Taken { id, bytes }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u8..4, 0_u32..200, any::<bool>(), value())
            .prop_map(|(who, sequence, is_reliable, value)| Step::Packet(who, sequence, is_reliable, value)),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Bytes),
        12 => command().prop_map(Step::Command),
        3 => (0_usize..40).prop_map(Step::Events),
        3 => (0_usize..40).prop_map(Step::Packets),
        2 => (0_usize..200_000).prop_map(Step::Drain),
        1 => Just(Step::Refuse),
        1 => (0_u8..4).prop_map(Step::Leave),
        1 => (0_u32..50).prop_map(Step::Resume),
        1 => Just(Step::Rejoin),
        1 => Just(Step::Left),
        1 => (0_u64..20_000).prop_map(Step::Wait),
    ]
}

/// The agent, and what it knows of ids.
struct World {
    side: Side,
    last_id: u32,
    /// Ids of the agent that have not ended.
    open: BTreeSet<u32>,
    /// Streams and requests that have not ended.
    streams: BTreeSet<IncomingId>,
    requests: BTreeSet<IncomingId>,
    last_incoming: u32,
}

impl World {
    fn new() -> Self {
        let side = Side::new("me");
        let (open, streams, requests) = Default::default();
        Self { side, last_id: 0, open, streams, requests, last_incoming: 0 }
    }

    fn run(&mut self, step: Step) {
        let now = self.side.now;
        let streams = &mut self.side.streams;
        match step {
            Step::Packet(who, sequence, is_reliable, value) => {
                let (sid, identity) = (["PA_a", "PA_b", "PA_c", ""], ["a", "b", "c", ""]);
                let packet = proto::DataPacket {
                    participant_sid: sid[usize::from(who)].into(),
                    participant_identity: identity[usize::from(who)].into(),
                    // Half of them come from a server that sets none.
                    sequence: sequence.saturating_sub(100),
                    value: Some(value),
                    ..Default::default()
                };
                streams.received(packet, is_reliable, now);
            }
            Step::Bytes(bytes) => {
                if let Ok(packet) = proto::DataPacket::decode(bytes.as_slice()) {
                    streams.received(packet, true, now);
                }
            }
            Step::Command(command) => self.perform(command),
            Step::Events(count) => {
                for _ in 0..count {
                    self.event();
                }
            }
            Step::Packets(count) => {
                for _ in 0..count {
                    let Some((_, packet)) = streams.next_packet() else { break };
                    assert!(packet.encoded_len() <= PACKET_BYTES_MAX + 10);
                }
            }
            Step::Drain(bytes) => streams.drained(bytes, now),
            Step::Refuse => {
                if let Some((Channel::Reliable, _)) = streams.next_packet() {
                    streams.refused();
                }
            }
            Step::Leave(who) => {
                let identity = ["a", "b", "c", ""][usize::from(who)];
                streams.participant_left(&format!("PA_{identity}"), identity, now);
            }
            Step::Resume(heard) => streams.resumed(heard, now),
            Step::Rejoin => streams.rejoined(now),
            Step::Left => {
                streams.left(now);
                streams.joining();
            }
            Step::Wait(millis) => self.side.advance(Duration::from_millis(millis)),
        }
        self.check();
    }

    fn perform(&mut self, mut command: Command) {
        use Command::{
            Call, Cancel, CancelIncoming, CloseStream, OpenFile, OpenText, OpenTranscription, SendData, SendText,
            SendTranscription, WriteBytes, WriteText,
        };
        match &mut command {
            SendText { id, .. }
            | OpenText { id, .. }
            | SendTranscription { id, .. }
            | OpenTranscription { id, .. }
            | OpenFile { id, .. }
            | SendData { id: Some(id), .. }
            | Call { id, .. } => {
                self.last_id += 1;
                *id = self.last_id;
                self.open.insert(*id);
            }
            // One of the last ids.
            WriteText { id, .. } | WriteBytes { id, .. } | CloseStream { id, .. } => {
                *id = self.last_id.saturating_sub(*id)
            }
            Cancel { id } => {
                *id = self.last_id.saturating_sub(*id);
                self.drop_events();
                self.open.remove(id);
            }
            CancelIncoming { id } => {
                self.drop_events();
                self.streams.remove(id);
                self.requests.remove(id);
            }
            Command::Answer { request, .. } => {
                self.drop_events();
                self.requests.remove(request);
            }
            _ => {}
        }
        self.side.perform(command);
    }

    /// Take all events, so that none of an id that is given up is among them.
    fn drop_events(&mut self) {
        while self.event() {}
    }

    /// Take an event. Whether there was one.
    fn event(&mut self) -> bool {
        let Some(event) = self.side.streams.next_event() else { return false };
        match event {
            RoomEvent::Done(id) | RoomEvent::Failed(Failure { id, .. }) | RoomEvent::RpcAnswer { id, .. } => {
                assert!(self.open.remove(&id) || id == 0, "an end of {id}, which is over");
            }
            RoomEvent::Writable(id) => assert!(self.open.contains(&id)),
            RoomEvent::StreamStarted { id, .. } => {
                assert!(id.0 > self.last_incoming && self.streams.insert(id));
                self.last_incoming = id.0;
            }
            RoomEvent::RpcRequest { id, .. } => assert!(self.requests.insert(id)),
            RoomEvent::TextChunk { id, .. } | RoomEvent::BytesChunk { id, .. } => assert!(self.streams.contains(&id)),
            RoomEvent::StreamEnded { id, .. } => assert!(self.streams.remove(&id)),
            RoomEvent::RpcRequestFailed { id, .. } => assert!(self.requests.remove(&id)),
            _ => {}
        }
        true
    }

    fn check(&self) {
        let Streams { shared, incoming, calls, requests, .. } = &self.side.streams;
        let room = PACKET_BYTES_MAX + 1_000;
        assert!(shared.inbox.bytes() <= INCOMING_BYTES_MAX + LOSSY_BYTES_MAX + room);
        let unsent = QUEUE_BYTES_MAX + ANSWER_BYTES_MAX + LOSSY_UNSENT_BYTES_MAX + 5 * room;
        assert!(shared.outbox.bytes() <= unsent, "{}", shared.outbox.bytes());
        assert!(shared.outbox.sent.bytes() <= WINDOW_BYTES + KEPT_BYTES_MAX + room);
        let (calls, requests, streams) = (calls.len(), requests.len(), incoming.len());
        assert!(requests <= REQUESTS_MAX && streams <= STREAMS_MAX && calls <= self.open.len());
        assert!(shared.deadlines.len() <= 2 * calls + requests + streams);
    }

    /// Leave the room, and find nothing.
    fn finish(mut self) {
        self.side.streams.left(self.side.now);
        self.drop_events();
        // Readers who do not read keep what they were not given.
        for id in std::mem::take(&mut self.streams) {
            self.side.perform(Command::CancelIncoming { id });
        }
        let Streams { shared, incoming, calls, requests, .. } = &self.side.streams;
        assert_eq!((calls.len(), requests.len(), incoming.len(), shared.deadlines.len()), (0, 0, 0, 0));
        assert_eq!((self.side.streams.bytes(), self.open, self.requests), (0, BTreeSet::new(), BTreeSet::new()));
        assert_eq!(self.side.streams.wake_at(), None);
    }
}

proptest! {
    #[test]
    fn nothing_grows_beyond_its_bound_and_all_that_begins_ends(steps in prop::collection::vec(step(), 0..300)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.finish();
    }
}
