//! Texts and files from outside.

use livekit_protocol as proto;
use proto::data_packet::Value;
use proto::data_stream::header::ContentHeader;
use proto::data_stream::{ByteHeader, Chunk, Header, TextHeader, Trailer};

use super::super::limits::{
    AFTER_LEAVING, INCOMING_BYTES_MAX, READ_AHEAD_BYTES_MAX, SENDER_STREAMS_MAX, STREAM_IDLE_MAX, WHOLE_BYTES_MAX,
};
use super::*;
use wasm_worker_core::room::command::{IncomingId, Receipt};

fn header(stream_id: &str, size: Option<u64>) -> Header {
    Header {
        stream_id: stream_id.into(),
        topic: "t".into(),
        total_length: size,
        content_header: Some(ContentHeader::TextHeader(TextHeader::default())),
        attributes: [("a".into(), "header".into()), ("b".into(), "header".into())].into(),
        ..Default::default()
    }
}

fn chunk(stream_id: &str, chunk_index: u64, content: &[u8]) -> Value {
    Value::StreamChunk(Chunk {
        stream_id: stream_id.into(),
        chunk_index,
        content: content.into(),
        ..Default::default()
    })
}

fn trailer(stream_id: &str, reason: &str) -> Value {
    let attributes = [("b".into(), "trailer".into()), ("@version".into(), "forged".into())].into();
    Value::StreamTrailer(Trailer { stream_id: stream_id.into(), reason: reason.into(), attributes })
}

fn in_parts() -> Side {
    let mut agent = Side::new("agent");
    agent.perform(Command::Receive { topic: "t".into(), receipt: Receipt::Parts });
    agent
}

fn lost(what: &'static str) -> RoomEvent {
    RoomEvent::Lost { what, id: None, count: 1 }
}

/// The text of all parts, and the reason of the end if it came.
fn parts(events: &[RoomEvent]) -> (String, Option<String>) {
    let mut text = String::new();
    let mut reason = None;
    for event in events {
        assert_eq!(reason, None, "an event after the last one");
        match event {
            RoomEvent::TextChunk { text: part, .. } => text.push_str(part),
            RoomEvent::StreamEnded { reason: of, .. } => reason = Some(of.clone()),
            RoomEvent::StreamStarted { is_text: true, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (text, reason)
}

#[test]
fn a_text_arrives_whole_with_the_attributes_of_header_and_trailer() {
    let mut agent = Side::new("agent");
    agent.receive(Value::StreamHeader(header("s", None)));
    // Two bytes of one character, in two chunks.
    agent.receive(chunk("s", 0, b"caf\xC3"));
    agent.receive(chunk("s", 1, b"\xA9"));
    assert!(agent.events().is_empty());
    agent.receive(trailer("s", ""));
    let events = agent.events();
    let [RoomEvent::Text { info, text }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((text.as_str(), info.sender.as_deref(), info.topic.as_str()), ("café", Some("ann"), "t"));
    assert_eq!(info.attributes, [("a".into(), "header".into()), ("b".into(), "trailer".into())]);
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn a_text_in_parts_is_told_from_its_begin_to_its_end() {
    let mut agent = in_parts();
    agent.receive(Value::StreamHeader(header("s", Some(5))));
    agent.receive(chunk("s", 0, b"caf\xC3"));
    let events = agent.events();
    let [RoomEvent::StreamStarted { id: IncomingId(1), info, is_text: true }, RoomEvent::TextChunk { text, .. }] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((info.size, text.as_str()), (Some(5), "caf"));
    agent.receive(chunk("s", 1, b"\xA9"));
    agent.receive(trailer("s", ""));
    let events = agent.events();
    assert_eq!(parts(&events), ("é".into(), Some(String::new())));
    let Some(RoomEvent::StreamEnded { attributes, .. }) = events.last() else { panic!() };
    assert_eq!(*attributes, [("b".into(), "trailer".into())]);
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn a_file_arrives_whole_or_in_parts() {
    let file = || Header {
        content_header: Some(ContentHeader::ByteHeader(ByteHeader { name: "f.bin".into() })),
        ..header("s", Some(3))
    };
    let mut agent = Side::new("agent");
    for _ in 0..2 {
        agent.receive(Value::StreamHeader(file()));
        agent.receive(chunk("s", 0, &[1, 0xFF, 3]));
        agent.receive(trailer("s", ""));
        agent.perform(Command::Receive { topic: String::new(), receipt: Receipt::Parts });
    }
    let events = agent.events();
    let [RoomEvent::File { info, bytes }, started, RoomEvent::BytesChunk { bytes: part, .. }, ended] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((info.name.as_str(), bytes, part), ("f.bin", &vec![1, 0xFF, 3], &vec![1, 0xFF, 3]));
    assert!(matches!(started, RoomEvent::StreamStarted { is_text: false, .. }));
    assert!(matches!(ended, RoomEvent::StreamEnded { reason, .. } if reason.is_empty()));
}

#[test]
fn the_content_may_stand_in_the_header() {
    let inline =
        |content: &[u8]| Value::StreamHeader(Header { inline_content: Some(content.into()), ..header("s", None) });
    let mut agent = Side::new("agent");
    agent.receive(inline("é".as_bytes()));
    agent.receive(inline(b""));
    let texts: Vec<String> = agent
        .events()
        .into_iter()
        .map(|event| match event {
            RoomEvent::Text { text, .. } => text,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["é", ""]);
    let mut agent = in_parts();
    agent.receive(inline(b"whole"));
    assert_eq!(parts(&agent.events()), ("whole".into(), Some(String::new())));
}

#[test]
fn what_the_sender_does_wrong_ends_a_stream_with_the_reason() {
    let cases: [(Option<u64>, &[Value], &str, &str); 8] = [
        (None, &[chunk("s", 0, b"ab"), chunk("s", 2, b"c")], "ab", "a part is missing"),
        (Some(2), &[chunk("s", 0, b"ab"), chunk("s", 1, b"c")], "ab", "longer than its sender told"),
        (Some(3), &[chunk("s", 0, b"ab"), trailer("s", "")], "ab", "shorter than its sender told"),
        (Some(3), &[chunk("s", 0, b"ab"), trailer("s", "interrupted")], "ab", "interrupted"),
        (None, &[chunk("s", 0, b"ab"), chunk("s", 1, b"\xFF")], "ab", "no UTF-8"),
        (None, &[chunk("s", 0, b"ab\xC3"), trailer("s", "")], "ab", "no UTF-8"),
        (None, &[chunk("s", 0, b"ab"), chunk("s", 0, b"xy"), trailer("s", "")], "ab", ""),
        (
            None,
            &[
                chunk("s", 0, b"ab"),
                Value::StreamChunk(Chunk { stream_id: "s".into(), version: 1, ..Default::default() }),
            ],
            "ab",
            "the sender changed a part that was delivered",
        ),
    ];
    for (size, packets, text, reason) in cases {
        let (mut reader, mut whole) = (in_parts(), Side::new("agent"));
        for agent in [&mut reader, &mut whole] {
            agent.receive(Value::StreamHeader(header("s", size)));
            packets.iter().for_each(|packet| agent.receive(packet.clone()));
            agent.receive(chunk("s", 9, b"too late"));
        }
        assert_eq!(parts(&reader.events()), (text.into(), Some(reason.into())));
        let events = whole.events();
        match events.as_slice() {
            [RoomEvent::Text { .. }] => assert_eq!(reason, ""),
            events => assert_eq!(events, [lost("text")], "{reason}"),
        }
        assert_eq!((reader.streams.bytes(), whole.streams.bytes()), (0, 0));
    }
}

#[test]
fn a_stream_that_cannot_be_delivered_is_lost_or_not_wanted() {
    let mut agent = Side::new("agent");
    agent.receive(Value::StreamHeader(header("s", Some(WHOLE_BYTES_MAX as u64 + 1))));
    assert_eq!(agent.events(), [lost("text")], "its size is known");
    agent.receive(Value::StreamHeader(header("s", None)));
    (0..71).for_each(|index| agent.receive(chunk("s", index, &[b'x'; 15_000])));
    assert_eq!(agent.events(), [lost("text")], "its size was not known");
    agent.receive(Value::StreamHeader(Header { compression: 1, ..header("s", None) }));
    assert_eq!(agent.events(), [lost("text")], "a form that was not offered");
    agent.perform(Command::Receive { topic: "t".into(), receipt: Receipt::None });
    agent.receive(Value::StreamHeader(header("s", None)));
    agent.receive(chunk("s", 0, b"x"));
    agent.receive(trailer("s", ""));
    agent.receive(Value::StreamHeader(Header { content_header: None, ..header("s", None) }));
    assert_eq!((agent.events(), agent.streams.bytes()), (vec![], 0));
    assert!(agent.streams.counts().ignored > 0);
}

#[test]
fn a_stream_begun_keeps_its_delivery() {
    let mut agent = in_parts();
    agent.receive(Value::StreamHeader(header("s", None)));
    agent.perform(Command::Receive { topic: "t".into(), receipt: Receipt::None });
    agent.receive(chunk("s", 0, b"ab"));
    assert_eq!(parts(&agent.events()), ("ab".into(), None));
}

#[test]
fn a_sender_that_leaves_is_given_time_for_what_is_on_its_way() {
    let mut agent = in_parts();
    for stream in ["s", "t", "u"] {
        agent.receive(Value::StreamHeader(header(stream, (stream == "u").then_some(2))));
        agent.receive(chunk(stream, 0, b"ab"));
    }
    agent.receive_from("PA_bob", "bob", Value::StreamHeader(header("s", None)));
    let started = agent.events();
    assert_eq!(started.len(), 7);
    agent.streams.participant_left("PA_ann", "ann", agent.now);
    agent.receive(trailer("s", ""));
    assert_eq!(parts(&agent.events()), (String::new(), Some(String::new())));
    agent.advance(AFTER_LEAVING);
    let ends: Vec<_> = agent
        .events()
        .into_iter()
        .map(|event| match event {
            RoomEvent::StreamEnded { id, reason, .. } => (id.0, reason),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [(2, "the sender left".into()), (3, String::new())], "the third was whole");
    agent.receive_from("PA_bob", "bob", chunk("s", 0, b"on"));
    assert_eq!(parts(&agent.events()), ("on".into(), None), "another sender");
}

#[test]
fn a_stream_without_an_end_ends_by_itself() {
    let mut agent = Side::new("agent");
    agent.receive(Value::StreamHeader(header("s", None)));
    agent.advance(STREAM_IDLE_MAX / 2);
    agent.receive(chunk("s", 0, b"ab"));
    agent.advance(STREAM_IDLE_MAX / 2);
    assert_eq!(agent.events(), []);
    let until = agent.streams.wake_at().unwrap();
    agent.advance(until - agent.now);
    assert_eq!((agent.events(), agent.streams.bytes(), agent.streams.wake_at()), (vec![lost("text")], 0, None));
}

#[test]
fn a_reader_is_given_so_much_ahead_and_the_rest_waits_within_bounds() {
    let mut agent = in_parts();
    let part = [b'x'; 32 << 10];
    agent.receive(Value::StreamHeader(header("s", None)));
    let fits = (0..).take_while(|index| {
        agent.receive(chunk("s", *index, &part));
        assert!(agent.streams.bytes() <= INCOMING_BYTES_MAX);
        agent.streams.counts().ignored == 0
    });
    // 256 KiB are given, 2 MiB wait for one sender, and the next part is refused.
    let fits = fits.count();
    assert!((70..74).contains(&fits), "{fits}");
    let events = agent.events();
    let lost = RoomEvent::Lost { what: "text-chunk", id: Some(IncomingId(1)), count: 1 };
    assert_eq!(events.iter().filter(|event| **event == lost).count(), 1);
    let given: Vec<_> = events.into_iter().filter(|event| *event != lost).collect();
    assert_eq!(parts(&given).0.len(), READ_AHEAD_BYTES_MAX);
    let mut text = 0;
    let reason = loop {
        agent.perform(Command::Taken { id: IncomingId(1), bytes: part.len() });
        let (more, reason) = parts(&agent.events());
        text += more.len();
        if let Some(reason) = reason {
            break reason;
        }
    };
    assert_eq!((text, reason.as_str()), ((fits - 9) * part.len(), "too much waits to be read"));
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn streams_of_one_sender_are_bounded_and_do_not_hinder_others() {
    let mut agent = Side::new("agent");
    for number in 0..=SENDER_STREAMS_MAX {
        agent.receive(Value::StreamHeader(header(&number.to_string(), None)));
    }
    assert_eq!(agent.events(), [lost("text")]);
    agent.receive(Value::StreamHeader(header("0", None)));
    assert_eq!(agent.events(), [lost("text")], "the same id again");
    agent.receive_from("PA_bob", "bob", Value::StreamHeader(header("0", None)));
    agent.receive_from("PA_bob", "bob", trailer("0", ""));
    assert!(matches!(agent.events().as_slice(), [RoomEvent::Text { .. }]));
}

#[test]
fn many_small_things_that_nobody_takes_are_bounded() {
    let mut agent = Side::new("agent");
    let user = proto::UserPacket { payload: vec![1], ..Default::default() };
    (0..100_000).for_each(|_| agent.receive(Value::User(user.clone())));
    (0..1_000).for_each(|_| agent.receive(Value::SipDtmf(proto::SipDtmf::default())));
    assert!(agent.streams.bytes() <= INCOMING_BYTES_MAX);
    let events = agent.events();
    let lost: u32 = events.iter().map(|event| if let RoomEvent::Lost { count, .. } = event { *count } else { 0 }).sum();
    let taken = events.iter().filter(|event| !matches!(event, RoomEvent::Lost { .. })).count();
    assert_eq!((taken + lost as usize, agent.streams.bytes()), (101_000, 0));
}

#[test]
fn many_small_parts_are_bounded_by_the_memory_of_their_events() {
    let mut agent = in_parts();
    agent.receive(Value::StreamHeader(header("s", None)));
    (0..100_000).for_each(|index| agent.receive(chunk("s", index, b"x")));
    let events = agent.events();
    assert!(events.len() * size_of::<RoomEvent>() < INCOMING_BYTES_MAX, "{}", events.len());
    assert!(events.iter().any(|event| matches!(event, RoomEvent::Lost { what: "text-chunk", .. })));
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn a_stream_given_up_is_forgotten() {
    let mut agent = in_parts();
    agent.receive(Value::StreamHeader(header("s", None)));
    agent.receive(chunk("s", 0, b"ab"));
    agent.events();
    agent.perform(Command::CancelIncoming { id: IncomingId(1) });
    agent.receive(chunk("s", 1, b"cd"));
    agent.receive(trailer("s", ""));
    assert_eq!((agent.events(), agent.streams.bytes(), agent.streams.wake_at()), (vec![], 0, None));
}

#[test]
fn a_new_session_ends_what_was_being_received() {
    let mut agent = in_parts();
    agent.receive(Value::StreamHeader(header("s", None)));
    agent.receive(chunk("s", 0, b"ab"));
    agent.receive_from("PA_bob", "bob", Value::StreamHeader(Header { topic: "w".into(), ..header("s", None) }));
    agent.streams.rejoined(agent.now);
    let mut events = agent.events();
    assert_eq!(events.remove(0), lost("text"));
    assert_eq!(parts(&events), ("ab".into(), Some("the room was joined anew".into())));
}
