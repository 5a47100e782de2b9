//! The ids of both sides: operations, streams, and calls by participants.

use std::time::Duration;

use proptest::prelude::*;
use wasm_worker_core::room::command::{Command, IncomingId, RpcError};
use wasm_worker_core::room::event::{Failure, RoomEvent, StreamInfo};

use super::super::super::world::World;
use super::fake::{Test, connected, options};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::bindings::wasm_worker::agent::room::Transcription;
use crate::guest::calls::Call;
use crate::guest::contract;
use crate::guest::events::{id_of, is_last, name_of};

const STREAM: IncomingId = IncomingId(1);
const REQUEST: IncomingId = IncomingId(2);

fn started(id: IncomingId) -> RoomEvent {
    RoomEvent::StreamStarted { id, info: StreamInfo::default(), is_text: true }
}

fn chunk(id: IncomingId, text: &str) -> RoomEvent {
    RoomEvent::TextChunk { id, text: text.into() }
}

fn ended(id: IncomingId) -> RoomEvent {
    RoomEvent::StreamEnded { id, attributes: Vec::new(), reason: String::new() }
}

fn request(id: IncomingId) -> RoomEvent {
    let (method, payload, timeout) = ("m".into(), "p".into(), Duration::from_secs(5));
    RoomEvent::RpcRequest { id, caller: Some("ann".into()), method, payload, timeout }
}

#[test]
fn what_follows_a_stream_waits_until_the_stream_has_its_id() {
    let mut test = Test::joined();
    let data = RoomEvent::Data { sender: None, topic: "t".into(), payload: vec![1], reliable: true };
    test.tell([started(STREAM), request(REQUEST), data.clone(), chunk(STREAM, "one "), data, chunk(STREAM, "two")]);
    assert_eq!(test.step(), [("stream-started", 2), ("rpc-request", 3), ("data", 0)]);
    assert_eq!(test.state().events.len(), 2, "what comes later stays in the room");
    test.advance(0);
    assert_eq!(test.step(), [("text-chunk", 2), ("data", 0), ("text-chunk", 2)]);
    assert!(test.commands().is_empty());
    test.advance(0);
    let taken = |bytes| Command::Taken { id: STREAM, bytes };
    assert_eq!(test.commands(), [taken(4), taken(3)], "the room may read ahead as much again");
    test.tell([ended(STREAM), chunk(STREAM, "late")]);
    assert_eq!(test.step(), [("stream-ended", 2)]);
    assert!(!test.job.ids.is_open(2));
}

#[test]
fn bytes_of_a_stream_are_given_back_too() {
    let mut test = Test::joined();
    test.tell([started(STREAM)]);
    assert_eq!(test.step(), [("stream-started", 2)]);
    test.tell([RoomEvent::BytesChunk { id: STREAM, bytes: vec![0; 9] }]);
    assert_eq!(test.step(), [("bytes-chunk", 2)]);
    test.advance(0);
    assert_eq!(test.commands(), [Command::Taken { id: STREAM, bytes: 9 }]);
}

#[test]
fn a_call_by_a_participant_ends_by_its_answer_or_its_failure() {
    let mut test = Test::joined();
    let late = IncomingId(3);
    test.tell([request(REQUEST), request(late)]);
    let events = test.events();
    let [Event::RpcRequest(first), Event::RpcRequest(second)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((first.id, first.timeout_ms, second.id), (2, 5_000, 3));
    let error = contract::RpcError { code: 1_400, message: "no".into(), data: "d".into() };
    test.perform(Call::Answer { id: 2, answer: Err(error) });
    let answer = Err(RpcError { code: 1_400, message: "no".into(), data: "d".into() });
    assert_eq!(test.commands(), [Command::Answer { request: REQUEST, answer }]);
    assert!(!test.job.ids.is_open(2) && test.job.ids.is_open(3));
    test.tell([RoomEvent::RpcRequestFailed { id: late, code: "timeout", message: "late".into() }]);
    assert_eq!(test.failures(), [(3, "timeout".into())]);
    for id in [2, 3, 99] {
        test.perform(Call::Answer { id, answer: Ok("again".into()) });
    }
    assert!(test.commands().is_empty(), "their ids are over");
}

#[test]
fn an_answer_to_a_stream_changes_nothing() {
    let mut test = Test::joined();
    test.tell([started(STREAM)]);
    assert_eq!(test.step(), [("stream-started", 2)]);
    test.perform(Call::Answer { id: 2, answer: Ok("what?".into()) });
    assert!(test.commands().is_empty() && test.job.ids.is_open(2));
    test.tell([ended(STREAM)]);
    assert_eq!(test.step(), [("stream-ended", 2)]);
}

#[test]
fn nothing_is_heard_of_what_the_agent_gave_up() {
    let mut test = Test::joined();
    test.tell([started(STREAM), request(REQUEST)]);
    assert_eq!(test.step(), [("stream-started", 2), ("rpc-request", 3)]);
    let text = test.send_text("hi");
    [2, 3, text, text, 99].into_iter().for_each(|id| test.perform(Call::Cancel { id }));
    let [Command::SendText { .. }, rest @ ..] = &test.commands()[..] else { panic!() };
    let incoming = |id| Command::CancelIncoming { id };
    assert_eq!(rest, [incoming(STREAM), incoming(REQUEST), Command::Cancel { id: text }]);
    let failed = RoomEvent::RpcRequestFailed { id: REQUEST, code: "timeout", message: String::new() };
    test.tell([chunk(STREAM, "late"), ended(STREAM), failed, RoomEvent::Done(text)]);
    assert!(test.events().is_empty());
    assert!(Box::new(test.room).into_record().texts.is_empty());
}

#[test]
fn losses_name_their_stream() {
    let mut test = Test::joined();
    test.tell([started(STREAM)]);
    assert_eq!(test.step(), [("stream-started", 2)]);
    let lost = |id| RoomEvent::Lost { what: "text-chunk", id, count: 1 };
    test.tell([lost(Some(STREAM)), lost(Some(IncomingId(77))), lost(None)]);
    let ids = test.events().into_iter().map(|event| match event {
        Event::Lost(loss) => loss.id,
        other => panic!("{other:?}"),
    });
    assert_eq!(ids.collect::<Vec<_>>(), [2, 0, 0]);
}

#[test]
fn operations_end_as_the_room_says_and_only_what_was_sent_is_recorded() {
    let mut test = Test::joined();
    let used = test.job.meter.used_bytes();
    let (sent, failing) = (test.send_text("sent"), test.send_text("not sent"));
    let stream = test.call(|id| Call::OpenText { id, topic: "s".into(), options: options() });
    test.perform(Call::WriteText { id: stream, text: "one ".into() });
    test.perform(Call::WriteText { id: stream, text: "two".into() });
    test.perform(Call::WriteText { id: 99, text: "to nobody".into() });
    test.perform(Call::CloseStream { id: stream, attributes: vec![("a".into(), "b".into())] });
    let options = Transcription {
        segment_id: "g".into(),
        speaker: String::new(),
        track_sid: String::new(),
        language: String::new(),
        attributes: Vec::new(),
        is_final: false,
    };
    let spoken = test.call(|id| Call::OpenTranscription { id, options });
    test.perform(Call::WriteText { id: spoken, text: "said".into() });
    test.perform(Call::CloseStream { id: spoken, attributes: Vec::new() });
    let asked = test.call(|id| Call::Rpc {
        id,
        destination: "ann".into(),
        method: "m".into(),
        payload: "p".into(),
        timeout_ms: 5,
    });
    assert_eq!(test.commands().len(), 10, "all but the text to nobody");
    test.tell([
        RoomEvent::Done(sent),
        RoomEvent::Failed(Failure { id: failing, code: "too-large", message: "no".into() }),
        RoomEvent::Writable(stream),
        RoomEvent::Done(stream),
        RoomEvent::Done(spoken),
        RoomEvent::RpcAnswer { id: asked, answer: Ok("yes".into()) },
    ]);
    let ends = [("done", sent), ("failed", failing), ("writable", stream), ("done", stream), ("done", spoken)];
    assert_eq!(test.step(), [&ends[..], &[("rpc-answer", asked)]].concat());
    test.perform(Call::WriteText { id: stream, text: "after the end".into() });
    assert!(test.commands().is_empty());
    let kept: usize = test.room.sent.record.texts.iter().map(|text| text.bytes() + size_of_val(text)).sum();
    assert_eq!(test.job.meter.used_bytes(), used + kept, "what is kept is charged, and nothing else");
    let record = Box::new(test.room).into_record();
    let texts: Vec<_> = record.texts.iter().map(|text| (&*text.topic, &*text.text)).collect();
    assert_eq!(texts, [("t", "sent"), ("s", "one two"), ("lk.transcription", "said")]);
    assert_eq!(record.texts[1].attributes["a"], "b");
    assert_eq!(record.texts[2].attributes["lk.transcription_final"], "true");
}

#[test]
fn a_held_stream_waits_and_is_not_read_ahead_meanwhile() {
    let mut test = Test::joined();
    test.tell([started(STREAM)]);
    assert_eq!(test.step(), [("stream-started", 2)]);
    test.perform(Call::Hold { id: 2, held: true });
    test.perform(Call::Hold { id: 77, held: true });
    test.tell([chunk(STREAM, "one"), ended(STREAM)]);
    test.advance(0);
    assert!(test.events().is_empty() && test.commands().is_empty());
    test.perform(Call::Hold { id: 2, held: false });
    test.advance(0);
    assert_eq!(test.step(), [("text-chunk", 2), ("stream-ended", 2)]);
}

#[test]
fn what_no_room_does_fails_in_one_place() {
    let mut test = Test::joined();
    let unsupported = [
        test.call(|id| Call::ConnectSocket {
            id,
            url: "wss://x".into(),
            headers: Vec::new(),
            protocols: Vec::new(),
            timeout_ms: 0,
        }),
        test.call(|id| Call::BeginSpan { id, name: "s".into(), parent: 0, at_ms: 0.0 }),
    ];
    test.perform(Call::CloseAudio { id: 1 });
    assert_eq!(test.failures(), unsupported.map(|id| (id, "not-supported".to_owned())));
    assert!(test.commands().is_empty());
}

/// Something that happens between a job and its room.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    Start,
    Ask,
    Chunk(u8),
    End(u8),
    Fail(u8),
    Done(u8),
    Answer(u8),
    Cancel(u8),
    Hold(u8, bool),
    Step,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Send),
        Just(Act::Start),
        Just(Act::Ask),
        any::<u8>().prop_map(Act::Chunk),
        any::<u8>().prop_map(Act::End),
        any::<u8>().prop_map(Act::Fail),
        any::<u8>().prop_map(Act::Done),
        any::<u8>().prop_map(Act::Answer),
        any::<u8>().prop_map(Act::Cancel),
        any::<(u8, bool)>().prop_map(|(id, held)| Act::Hold(id, held)),
        Just(Act::Step),
        Just(Act::Step),
    ]
}

proptest! {
    /// Whatever the room tells and the agent does, in whatever order: an event has an id that is open, an id ends once, and
    /// nothing stays charged but what is open and what is recorded.
    #[test]
    fn any_order_gives_each_id_one_end(acts in prop::collection::vec(any_act(), 0..150)) {
        let mut test = Test::new(1 << 20);
        let connect = test.call(|id| Call::Connect { id });
        test.tell([connected(), RoomEvent::Done(connect)]);
        let mut next = 0;
        let mut ended = std::collections::BTreeSet::new();
        for act in acts.into_iter().chain([Act::Step; 8]) {
            let incoming = |of: u8| IncomingId(u32::from(of) % 12);
            let own = |of: u8| u32::from(of) % 24;
            match act {
                Act::Send => drop(test.send_text("x")),
                Act::Start => { next += 1; test.tell([started(IncomingId(next))]); }
                Act::Ask => { next += 1; test.tell([request(IncomingId(next))]); }
                Act::Chunk(of) => test.tell([chunk(incoming(of), "c")]),
                Act::End(of) => test.tell([super::ids::ended(incoming(of))]),
                Act::Fail(of) => {
                    let id = incoming(of);
                    test.tell([RoomEvent::RpcRequestFailed { id, code: "timeout", message: String::new() }]);
                }
                Act::Done(of) => test.tell([RoomEvent::Done(own(of))]),
                Act::Answer(of) => test.perform(Call::Answer { id: own(of), answer: Ok(String::new()) }),
                Act::Cancel(of) => test.perform(Call::Cancel { id: own(of) }),
                Act::Hold(of, held) => test.perform(Call::Hold { id: own(of), held }),
                Act::Step => {
                    test.advance(0);
                    for event in test.events() {
                        let id = id_of(&event);
                        prop_assert!(id == 0 || !ended.contains(&id), "{} of {id}", name_of(&event));
                        if id != 0 && is_last(&event) {
                            ended.insert(id);
                        }
                    }
                }
            }
        }
        let open: Vec<u32> = (1..200).filter(|id| test.job.ids.is_open(*id)).collect();
        open.into_iter().for_each(|id| test.perform(Call::Cancel { id }));
        test.events();
        let kept: usize = test.room.sent.record.texts.iter().map(|text| text.bytes() + size_of_val(text)).sum();
        let participants = test.job.participants.bytes();
        prop_assert_eq!(test.job.meter.used_bytes(), kept + participants);
        prop_assert!(test.room.operations.is_empty());
    }
}
