//! The bounds of what the agent sends.

use super::super::limits::{
    CHUNK_BYTES_MAX, LOSSY_UNSENT_BYTES_MAX, QUEUE_BYTES_MAX, UNSENT_BYTES_MAX, WINDOW_BYTES, WRITABLE_BELOW_BYTES,
};
use super::sends::{assert_failed, open, values, write};
use super::*;
use crate::wire::PACKET_BYTES_MAX;
use wasm_worker_core::room::command::Transcription;

#[test]
fn a_writer_is_told_when_little_waits() {
    let mut agent = Side::new("agent");
    open(&mut agent, 1);
    for _ in 0..5 {
        write(&mut agent, 1, 20_000);
    }
    let mut told = 0;
    while let Some((_, packet)) = agent.streams.next_packet() {
        let waiting = agent.streams.shared.outbox.operation(1).unwrap().bytes;
        let events = agent.events();
        assert_eq!(events.is_empty(), told > 0 || waiting >= WRITABLE_BELOW_BYTES, "{waiting} {events:?}");
        told += events.iter().filter(|event| **event == RoomEvent::Writable(1)).count();
        assert!(packet.encoded_len() < CHUNK_BYTES_MAX + 100);
    }
    assert_eq!(told, 1);
    write(&mut agent, 1, 60_000);
    while agent.streams.next_packet().is_some() {}
    assert_eq!(agent.events(), [], "little was written");
}

#[test]
fn a_writer_who_does_not_wait_fails() {
    let mut agent = Side::new("agent");
    open(&mut agent, 1);
    write(&mut agent, 1, UNSENT_BYTES_MAX + 1);
    assert_eq!(agent.events(), [], "one call is taken whole");
    write(&mut agent, 1, 1);
    assert_failed(&mut agent, 1, "too-large");
    write(&mut agent, 1, 1);
    assert_eq!((agent.events(), agent.streams.bytes()), (vec![], 0), "it is over");
}

#[test]
fn all_operations_together_are_bounded() {
    let mut agent = Side::new("agent");
    let text = "x".repeat(1 << 20);
    let fits = (1..100).take_while(|id| {
        agent.send_text(*id, &text);
        agent.events().is_empty()
    });
    assert_eq!(fits.count(), 8);
    assert!(agent.streams.bytes() < QUEUE_BYTES_MAX + (2 << 20));
    agent.perform(Command::SendDtmf { id: 100, code: 1, digit: "1".into() });
    assert_failed(&mut agent, 100, "limit");
    (1..100).for_each(|id| agent.perform(Command::Cancel { id }));
    assert_eq!(agent.streams.bytes(), 0);
    agent.send_text(101, "room again");
    assert_eq!(agent.packets().len(), 3);
}

#[test]
fn names_of_open_streams_are_bounded_with_what_waits() {
    let mut agent = Side::new("agent");
    let names = vec!["x".repeat(400); 100];
    let fits = (1..1_000).take_while(|id| {
        let options = SendOptions { destinations: names.clone(), ..SendOptions::default() };
        agent.perform(Command::OpenText { id: *id, topic: "t".into(), options });
        agent.packets();
        agent.events().is_empty()
    });
    let fits = u32::try_from(fits.count()).unwrap();
    assert!((150..210).contains(&fits), "{fits}");
    assert!(agent.streams.bytes() < QUEUE_BYTES_MAX + (100 << 10));
    let transcription = Transcription { speaker: "x".repeat(400), track_sid: "TR".into(), ..Transcription::default() };
    agent.perform(Command::Cancel { id: 1 });
    agent.perform(Command::Cancel { id: 2 });
    agent.packets();
    let before = agent.streams.bytes();
    let id = 1_000;
    agent.perform(Command::OpenTranscription { id, options: transcription });
    agent.packets();
    assert!(agent.streams.bytes() >= before + 800, "the names of the stream, and of the transcription");
    agent.perform(Command::CloseStream { id, attributes: Vec::new() });
    agent.packets();
    assert_eq!((agent.events(), agent.streams.bytes()), (vec![RoomEvent::Done(id)], before));
    (1..=fits).for_each(|id| agent.perform(Command::Cancel { id }));
    agent.packets();
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn begun_and_given_up_again_and_again_takes_no_memory() {
    let mut agent = Side::new("agent");
    for id in 0..10_000 {
        open(&mut agent, id);
        write(&mut agent, id, 1_000);
        agent.perform(Command::Cancel { id });
        assert!(agent.streams.bytes() < 300_000);
    }
    assert!(agent.packets().is_empty());
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn only_a_window_is_handed_over() {
    let mut agent = Side::new("agent");
    agent.send_text(1, &"x".repeat(1 << 20));
    let mut handed = 0;
    while let Some((_, packet)) = agent.streams.next_packet() {
        handed += packet.encoded_len();
    }
    assert!((WINDOW_BYTES..WINDOW_BYTES + PACKET_BYTES_MAX).contains(&handed));
    agent.streams.drained(handed / 2, agent.now);
    assert!(agent.streams.next_packet().is_some() && !agent.streams.is_delivered());
}

#[test]
fn lossy_data_that_waits_loses_its_oldest() {
    let mut agent = Side::new("agent");
    for byte in 0..10 {
        let payload = vec![byte; LOSSY_UNSENT_BYTES_MAX / 8];
        agent.perform(Command::SendData { id: None, topic: String::new(), payload, destinations: Vec::new() });
    }
    let sent: Vec<u8> = values(&mut agent)
        .iter()
        .map(|value| match value {
            Value::User(user) => user.payload[0],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sent, [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(agent.streams.counts().lossy_dropped, 3);
}

#[test]
fn what_does_not_fit_into_a_packet_fails() {
    let mut agent = Side::new("agent");
    let payload = vec![0; PACKET_BYTES_MAX];
    agent.perform(Command::SendData { id: Some(1), topic: String::new(), payload, destinations: Vec::new() });
    assert_failed(&mut agent, 1, "too-large");
    let attributes = vec![("a".into(), "x".repeat(PACKET_BYTES_MAX))];
    let options = SendOptions { attributes: attributes.clone(), ..Default::default() };
    agent.perform(Command::SendText { id: 2, topic: String::new(), text: "hi".into(), options });
    assert_failed(&mut agent, 2, "too-large");
    let options = SendOptions { destinations: vec!["x".repeat(500); 100], ..Default::default() };
    agent.perform(Command::SendText { id: 3, topic: String::new(), text: "hi".into(), options });
    assert_failed(&mut agent, 3, "too-large");
    open(&mut agent, 4);
    agent.perform(Command::CloseStream { id: 4, attributes });
    assert_failed(&mut agent, 4, "too-large");
    let options = SendOptions { attributes: vec![("@operation".into(), "shout".into())], ..Default::default() };
    agent.perform(Command::OpenText { id: 5, topic: String::new(), options });
    assert_failed(&mut agent, 5, "invalid");
    assert!(agent.packets().is_empty());
}
