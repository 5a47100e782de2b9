//! The end of the room, and the end of the job.

use wasm_worker_core::event::Event as Published;
use wasm_worker_core::room::command::{Command, IncomingId};
use wasm_worker_core::room::event::{Failure, Reason, RoomEvent, StreamInfo};

use super::super::super::world::World;
use super::fake::{Test, connected, disconnected};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::control::{ControlEvent, StopBy};

#[test]
fn reason_of_the_end_decides_who_stops_the_job() {
    for (reason, by) in [
        (Reason::ClientInitiated, None),
        (Reason::RoomDeleted, Some(StopBy::RoomEnded)),
        (Reason::RoomClosed, Some(StopBy::RoomEnded)),
        (Reason::ParticipantRemoved, Some(StopBy::PutOut)),
        (Reason::DuplicateIdentity, Some(StopBy::PutOut)),
        (Reason::SignalClose, Some(StopBy::RoomLost)),
        (Reason::ServerShutdown, Some(StopBy::RoomLost)),
        (Reason::Overrun, Some(StopBy::RoomLost)),
    ] {
        let mut test = Test::joined();
        test.tell([RoomEvent::Disconnected { reason, message: "why".into() }]);
        assert_eq!(test.events(), [Event::Disconnected(reason.as_str().into())]);
        let stops = test.job.control.take_events();
        match (&stops[..], by) {
            ([], None) => {}
            ([ControlEvent::Stop { by, reason: told }], Some(expected)) => {
                assert_eq!(*by, expected, "{reason:?}");
                assert!(told.ends_with(&format!(": {}: why", reason.as_str())), "{told}");
            }
            other => panic!("{reason:?}: {other:?}"),
        }
        let published = test.published();
        assert!(matches!(&published[..], [Published::RoomLeft { reason: left, .. }] if *left == reason.as_str()));
        assert!(!test.room.is_joined());
    }
}

#[test]
fn a_room_that_is_over_ends_everything_before_it_and_is_opened_anew() {
    let mut test = Test::joined();
    let started = RoomEvent::StreamStarted { id: IncomingId(1), info: StreamInfo::default(), is_text: true };
    test.tell([started]);
    assert_eq!(test.step(), [("stream-started", 2)]);
    let (text, named) = (test.send_text("hi"), test.call(|id| Call::SetName { id, name: "n".into() }));
    test.perform(Call::Receive {
        topic: "t".into(),
        receipt: crate::guest::bindings::wasm_worker::agent::room::Receipt::Parts,
    });
    test.tell([disconnected(Reason::Fault)]);
    assert_eq!(test.step(), [("failed", text), ("failed", named), ("failed", 2), ("disconnected", 0)]);
    assert_eq!(test.state().dropped, 1);
    test.commands();
    let late = test.send_text("late");
    assert_eq!(test.failures(), [(late, "not-joined".into())]);
    let connect = test.call(|id| Call::Connect { id });
    assert_eq!(test.state().opened.last().unwrap().name, "n");
    assert!(matches!(&test.commands()[..], [Command::Receive { .. }, Command::Connect { .. }]));
    test.tell([connected(), RoomEvent::Done(connect)]);
    assert_eq!(test.step(), [("connected", 0), ("done", connect)]);
}

#[test]
fn a_fault_before_the_join_fails_the_join_and_stops_nobody() {
    let mut test = Test::new(1 << 20);
    let connect = test.call(|id| Call::Connect { id });
    test.tell([disconnected(Reason::Fault)]);
    assert_eq!(test.failures(), [(connect, "not-joined".into())]);
    assert!(test.job.control.take_events().is_empty() && !test.room.is_joined());
    assert_eq!(test.room.nothing_to_come(), Some("the agent is not in a room"));
}

#[test]
fn what_began_before_the_end_has_its_id_first() {
    let mut test = Test::joined();
    let started = RoomEvent::StreamStarted { id: IncomingId(1), info: StreamInfo::default(), is_text: true };
    test.tell([started, disconnected(Reason::Fault)]);
    assert_eq!(test.step(), [("stream-started", 2)]);
    test.advance(0);
    assert_eq!(test.step(), [("failed", 2), ("disconnected", 0)]);
}

#[test]
fn an_agent_may_come_back_in_the_step_in_which_it_leaves() {
    let mut test = Test::joined();
    test.perform(Call::Disconnect);
    let connect = test.call(|id| Call::Connect { id });
    assert_eq!(test.commands(), [Command::Disconnect, Command::Connect { id: connect }]);
    test.tell([disconnected(Reason::ClientInitiated)]);
    assert_eq!((test.step(), test.room.nothing_to_come()), (vec![("disconnected", 0)], None));
    test.tell([connected(), RoomEvent::Done(connect)]);
    assert_eq!((test.step(), test.room.is_joined()), (vec![("connected", 0), ("done", connect)], true));
}

#[test]
fn a_finished_job_leaves_after_everything_is_delivered() {
    let mut test = Test::joined();
    let text = test.send_text("bye");
    test.finish();
    assert!(!test.room.is_delivered());
    let [Command::SendText { id, .. }, Command::Disconnect] = &test.commands()[..] else { panic!() };
    assert_eq!(*id, text);
    // Nothing is told to the agent any more, whatever comes.
    let info = StreamInfo::default();
    test.tell([
        RoomEvent::Text { info: info.clone(), text: "late".into() },
        RoomEvent::StreamStarted { id: IncomingId(9), info, is_text: true },
        RoomEvent::TextChunk { id: IncomingId(9), text: "late".into() },
        RoomEvent::Done(text),
    ]);
    assert!(!test.room.is_delivered() && test.commands().is_empty());
    test.tell([disconnected(Reason::ClientInitiated)]);
    assert!(test.room.is_delivered() && test.events().is_empty());
    assert!(test.job.control.take_events().is_empty());
    assert_eq!(Box::new(test.room).into_record().texts.len(), 1);
}

#[test]
fn a_finished_job_waits_for_the_join_that_its_texts_wait_for() {
    let mut test = Test::new(1 << 20);
    let connect = test.call(|id| Call::Connect { id });
    let text = test.send_text("bye");
    test.finish();
    assert!(!test.room.is_delivered());
    assert!(matches!(&test.commands()[..], [Command::Connect { .. }, Command::SendText { .. }]));
    test.tell([connected(), RoomEvent::Done(connect)]);
    assert_eq!(test.commands(), [Command::Disconnect]);
    test.tell([RoomEvent::Done(text), disconnected(Reason::ClientInitiated)]);
    assert!(test.room.is_delivered());
}

#[test]
fn a_finished_job_does_not_wait_for_a_join_that_fails_or_that_nothing_waits_for() {
    let mut test = Test::new(1 << 20);
    let connect = test.call(|id| Call::Connect { id });
    let text = test.send_text("bye");
    test.finish();
    let failed = |id| RoomEvent::Failed(Failure { id, code: "timeout", message: String::new() });
    test.tell([failed(text), failed(connect)]);
    assert!(test.room.is_delivered() && test.events().is_empty());

    let mut test = Test::new(1 << 20);
    test.call(|id| Call::Connect { id });
    test.finish();
    assert!(test.room.is_delivered());
    assert_eq!(test.state().dropped, 1);
}

#[test]
fn the_end_while_events_wait_for_space_leaves_nothing_charged() {
    let mut test = Test::new(64 << 10);
    let connect = test.call(|id| Call::Connect { id });
    test.tell([connected(), RoomEvent::Done(connect)]);
    test.events();
    let text = || RoomEvent::Text { info: StreamInfo::default(), text: "x".repeat(10 << 10) };
    test.tell((0..6).map(|_| text()));
    test.finish();
    test.advance(0);
    assert!(test.state().events.is_empty(), "the room is emptied, and nothing is kept");
    test.events();
    assert_eq!(test.job.meter.used_bytes(), 0);
}
