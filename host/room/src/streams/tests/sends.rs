//! What the agent sends.

use livekit_protocol as proto;
use proto::data_packet::Value;

use super::*;
use wasm_worker_core::room::command::{Receipt, Transcription};
use wasm_worker_core::room::event::Failure;

fn failed(id: u32, code: &'static str) -> impl Fn(&RoomEvent) -> bool {
    move |event| matches!(event, RoomEvent::Failed(Failure { id: of, code: why, .. }) if (*of, *why) == (id, code))
}

pub(super) fn assert_failed(side: &mut Side, id: u32, code: &'static str) {
    let events = side.events();
    assert!(matches!(events.as_slice(), [event] if failed(id, code)(event)), "{events:?}");
}

pub(super) fn open(side: &mut Side, id: u32) {
    side.perform(Command::OpenText { id, topic: "t".into(), options: SendOptions::default() });
}

pub(super) fn write(side: &mut Side, id: u32, bytes: usize) {
    side.perform(Command::WriteText { id, text: "x".repeat(bytes) });
}

pub(super) fn values(side: &mut Side) -> Vec<Value> {
    side.packets().into_iter().filter_map(|(_, packet)| packet.value).collect()
}

#[test]
fn eighty_kilobytes_arrive_whole() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    let text = "é".repeat(40_000);
    agent.send_text(7, &text);
    assert_eq!(agent.events(), [], "the server does not have it");
    agent.send_to(&mut ann);
    assert_eq!(agent.events(), [RoomEvent::Done(7)]);
    let events = ann.events();
    let [RoomEvent::Text { info, text: received }] = events.as_slice() else { panic!("{events:?}") };
    assert!(*received == text);
    assert_eq!((info.size, info.mime_type.as_str(), info.timestamp_ms), (Some(80_000), "text/plain", 1_000.0));
    assert_eq!(info.sender.as_deref(), Some("agent"));
    assert!(agent.streams.is_delivered());
}

#[test]
fn options_reach_the_receiver() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    let options = SendOptions {
        destinations: vec!["ann".into()],
        attributes: vec![("k".into(), "v".into()), ("@operation".into(), "update".into()), ("@x".into(), "y".into())],
        stream_id: "mine".into(),
        sender: "bob".into(),
        reply_to: "first".into(),
    };
    agent.perform(Command::SendText { id: 1, topic: "t".into(), text: "hi".into(), options });
    let packets = agent.packets();
    assert_eq!(packets.len(), 3);
    for (channel, packet) in packets {
        assert_eq!(
            (channel, packet.destination_identities.as_slice()),
            (Channel::Reliable, ["ann".to_owned()].as_slice())
        );
        ann.streams.received(packet, true, ann.now);
    }
    let events = ann.events();
    let [RoomEvent::Text { info, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (info.stream_id.as_str(), info.sender.as_deref(), info.reply_to.as_str()),
        ("mine", Some("bob"), "first")
    );
    assert_eq!(info.attributes, [("k".into(), "v".into()), ("@operation".into(), "update".into())]);
}

#[test]
fn a_text_and_a_file_in_parts_arrive() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    ann.perform(Command::Receive { topic: String::new(), receipt: Receipt::Parts });
    open(&mut agent, 1);
    let file = |size| Command::OpenFile {
        id: 2,
        topic: "t".into(),
        name: "f".into(),
        mime_type: String::new(),
        size,
        options: SendOptions::default(),
    };
    agent.perform(file(Some(3)));
    agent.perform(Command::WriteText { id: 1, text: "one ".into() });
    agent.perform(Command::WriteBytes { id: 2, bytes: vec![1, 2] });
    agent.send_to(&mut ann);
    agent.perform(Command::WriteText { id: 1, text: "two".into() });
    agent.perform(Command::WriteBytes { id: 2, bytes: vec![3] });
    agent.perform(Command::CloseStream { id: 1, attributes: vec![("end".into(), "yes".into())] });
    agent.perform(Command::CloseStream { id: 2, attributes: Vec::new() });
    agent.send_to(&mut ann);
    assert_eq!(agent.events(), [RoomEvent::Done(1), RoomEvent::Done(2)]);
    let events = ann.events();
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            RoomEvent::TextChunk { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let bytes: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            RoomEvent::BytesChunk { bytes, .. } => Some(bytes.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!((text.as_str(), bytes), ("one two", vec![1, 2, 3]));
    let ends =
        events.iter().filter(|event| matches!(event, RoomEvent::StreamEnded { reason, .. } if reason.is_empty()));
    assert_eq!(ends.count(), 2);
}

#[test]
fn the_size_of_a_file_is_kept() {
    for (written, closes) in [(4, false), (2, true)] {
        let mut agent = Side::new("agent");
        let options = SendOptions::default();
        let (topic, name, mime_type) = ("t".into(), "f".into(), String::new());
        agent.perform(Command::OpenFile { id: 1, topic, name, mime_type, size: Some(3), options });
        agent.packets();
        agent.perform(Command::WriteBytes { id: 1, bytes: vec![0; written] });
        if closes {
            agent.perform(Command::CloseStream { id: 1, attributes: Vec::new() });
        }
        assert_failed(&mut agent, 1, "invalid");
        let values = values(&mut agent);
        let Some(Value::StreamTrailer(trailer)) = values.last() else { panic!("{values:?}") };
        assert_eq!(trailer.reason, "interrupted", "receivers know of it");
    }
    let mut agent = Side::new("agent");
    open(&mut agent, 1);
    agent.perform(Command::WriteBytes { id: 1, bytes: vec![0] });
    assert_failed(&mut agent, 1, "invalid");
    assert!(agent.packets().is_empty(), "nobody knows of it");
}

#[test]
fn what_was_given_up_is_not_sent_and_its_receivers_are_told() {
    let mut agent = Side::new("agent");
    open(&mut agent, 1);
    write(&mut agent, 1, 10);
    agent.streams.next_packet();
    agent.perform(Command::Cancel { id: 1 });
    agent.send_text(2, "after it");
    let values = values(&mut agent);
    let Some(Value::StreamTrailer(trailer)) = values.first() else { panic!("{values:?}") };
    assert_eq!((trailer.reason.as_str(), values.len()), ("interrupted", 4));
    assert_eq!(agent.events(), [RoomEvent::Done(2)]);
}

#[test]
fn data_packets_arrive_on_their_channel() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    let send =
        |id, byte: u8| Command::SendData { id, topic: "t".into(), payload: vec![byte], destinations: Vec::new() };
    agent.perform(send(Some(1), 1));
    agent.perform(send(None, 2));
    agent.perform(Command::SendDtmf { id: 2, code: 5, digit: "5".into() });
    agent.send_to(&mut ann);
    assert_eq!(agent.events(), [RoomEvent::Done(1), RoomEvent::Done(2)]);
    let mut events = ann.events();
    events.sort_by_key(|event| !matches!(event, RoomEvent::Data { .. }));
    let sender = || Some("agent".to_owned());
    let data =
        |byte: u8, reliable| RoomEvent::Data { sender: sender(), topic: "t".into(), payload: vec![byte], reliable };
    assert_eq!(
        events,
        [data(1, true), data(2, false), RoomEvent::Dtmf { sender: sender(), code: 5, digit: "5".into() }]
    );
}

#[test]
fn transcriptions_have_the_attributes_of_front_ends() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    let options =
        Transcription { speaker: "ann".into(), track_sid: "TR_1".into(), language: "en".into(), ..Default::default() };
    agent.perform(Command::SendTranscription { id: 1, text: "hal".into(), options: options.clone() });
    agent.perform(Command::OpenTranscription { id: 2, options: Transcription { segment_id: "S".into(), ..options } });
    agent.perform(Command::WriteText { id: 2, text: "hal".into() });
    agent.perform(Command::WriteText { id: 2, text: "lo".into() });
    agent.perform(Command::CloseStream { id: 2, attributes: Vec::new() });
    agent.perform(Command::SendTranscription {
        id: 3,
        text: "hi".into(),
        options: Transcription { is_final: true, ..Default::default() },
    });
    let packets = agent.packets();
    let old: Vec<_> = packets
        .iter()
        .filter_map(|(_, packet)| match &packet.value {
            Some(Value::Transcription(of)) => {
                let segment = &of.segments[0];
                Some((
                    of.transcribed_participant_identity.as_str(),
                    of.track_id.as_str(),
                    segment.text.as_str(),
                    segment.r#final,
                ))
            }
            _ => None,
        })
        .collect();
    assert_eq!(old, [("ann", "TR_1", "hal", false), ("ann", "TR_1", "hallo", true)]);
    for (_, packet) in packets {
        ann.streams.received(packet, true, ann.now);
    }
    let texts: Vec<_> = ann
        .events()
        .into_iter()
        .map(|event| match event {
            RoomEvent::Text { info, text } => (info, text),
            other => panic!("{other:?}"),
        })
        .collect();
    let attribute = |index: usize, name: &str| {
        let found = texts[index].0.attributes.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let facts = |index: usize| {
        let names = ["lk.transcription_final", "lk.transcribed_track_id", "lk.transcription_language"];
        (texts[index].1.as_str(), texts[index].0.sender.as_deref().unwrap(), names.map(|name| attribute(index, name)))
    };
    assert_eq!(facts(0), ("hal", "ann", ["false", "TR_1", "en"].map(String::from)));
    assert_eq!(facts(1), ("hallo", "ann", ["true", "TR_1", "en"].map(String::from)));
    assert_eq!(facts(2), ("hi", "agent", ["true", "", ""].map(String::from)));
    assert_eq!((attribute(1, "lk.segment_id").as_str(), texts[2].0.topic.as_str()), ("S", "lk.transcription"));
    assert_ne!(attribute(0, "lk.segment_id"), attribute(2, "lk.segment_id"));
}

#[test]
fn without_a_room_sends_fail() {
    let mut agent = Side::new("agent");
    agent.send_text(1, "hi");
    agent.streams.next_packet();
    agent.perform(Command::SendDtmf { id: 2, code: 1, digit: "1".into() });
    agent.streams.left(agent.now);
    let events = agent.events();
    assert!(matches!(events.as_slice(), [one, two] if failed(1, "not-joined")(one) && failed(2, "not-joined")(two)));
    agent.send_text(3, "hi");
    assert_failed(&mut agent, 3, "not-joined");
    agent.perform(Command::SendData { id: None, topic: String::new(), payload: vec![1], destinations: Vec::new() });
    assert!(agent.packets().is_empty() && agent.streams.is_delivered());
    agent.streams.joining();
    agent.send_text(4, "waits");
    assert_eq!((agent.events(), agent.packets().first().map(|(_, packet)| packet.sequence)), (vec![], Some(1)));
    assert_eq!(agent.events(), [RoomEvent::Done(4)]);
    agent.perform(Command::Disconnect);
    assert_eq!((agent.events(), agent.packets()), (vec![], vec![]), "it is not about the channels");
}

#[test]
fn a_new_session_fails_what_had_begun_and_sends_what_waited() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    agent.send_text(1, "done");
    agent.send_to(&mut ann);
    open(&mut agent, 2);
    write(&mut agent, 2, 10);
    agent.send_text(3, "waits");
    let begun = agent.streams.next_packet().unwrap().1;
    assert_eq!(begun.sequence, 4);
    agent.streams.rejoined(agent.now);
    let events = agent.events();
    assert!(matches!(events.as_slice(), [RoomEvent::Done(1), over] if failed(2, "interrupted")(over)), "{events:?}");
    agent.sid = "PA_agent2".into();
    write(&mut agent, 2, 10);
    ann.events();
    let packets = agent.packets();
    assert_eq!(packets.iter().map(|(_, packet)| packet.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    for (_, packet) in packets {
        ann.streams.received(packet, true, ann.now);
    }
    assert!(matches!(ann.events().as_slice(), [RoomEvent::Text { text, .. }] if text == "waits"));
    assert_eq!(agent.events(), [RoomEvent::Done(3)]);
}

#[test]
fn a_resume_sends_again_what_the_server_did_not_read() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    agent.send_text(1, "one");
    agent.send_text(2, "two");
    // The channel has acknowledged all, the server has read the first text, and the second one is lost.
    let lost = agent.packets();
    assert_eq!(agent.events(), [RoomEvent::Done(1), RoomEvent::Done(2)]);
    for (_, packet) in lost.into_iter().take(3) {
        ann.streams.received(packet, true, ann.now);
    }
    agent.streams.resumed(3, agent.now);
    assert!(!agent.streams.is_delivered());
    agent.send_text(3, "three");
    agent.send_to(&mut ann);
    let texts: Vec<String> = ann
        .events()
        .into_iter()
        .map(|event| match event {
            RoomEvent::Text { text, .. } => text,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert_eq!(agent.events(), [RoomEvent::Done(3)]);
}

#[test]
fn repeats_are_not_delivered() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    agent.send_text(1, "once");
    for (_, packet) in agent.packets() {
        ann.streams.received(packet.clone(), true, ann.now);
        ann.streams.received(packet, true, ann.now);
    }
    assert_eq!((ann.events().len(), ann.streams.counts().repeats), (1, 3));
    assert_eq!(ann.streams.heard().collect::<Vec<_>>(), [("PA_agent", 3)]);
}

#[test]
fn an_acknowledgement_is_hastened_once_where_an_operation_waits_for_it() {
    let mut agent = Side::new("agent");
    let taken =
        |agent: &mut Side| std::iter::from_fn(|| agent.streams.next_packet()).map(|(channel, _)| channel).collect();
    open(&mut agent, 1);
    write(&mut agent, 1, 10);
    let channels: Vec<Channel> = taken(&mut agent);
    assert_eq!(channels, [Channel::Reliable; 2], "nobody waits");
    agent.perform(Command::CloseStream { id: 1, attributes: Vec::new() });
    let channels: Vec<Channel> = taken(&mut agent);
    assert_eq!(channels, [Channel::Reliable, Channel::Lossy]);
    let channels: Vec<Channel> = taken(&mut agent);
    assert!(channels.is_empty());
    agent.streams.drained(0, agent.now);
    assert_eq!(agent.events(), [RoomEvent::Done(1)]);
}
