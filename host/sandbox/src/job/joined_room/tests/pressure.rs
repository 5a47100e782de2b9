//! Too much in either direction.

use std::task::{Context, Waker};
use std::time::Duration;

use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::{Reason, RoomEvent, StreamInfo};

use super::super::super::world::World;
use super::super::EVENTS_AT_ONCE;
use super::fake::{Takes, Test, connected, disconnected};
use crate::guest::bindings::wasm_worker::agent::events::{Event, Loss};
use crate::guest::calls::Call;
use crate::guest::control::{ControlEvent, StopBy};
use crate::guest::events::name_of;

fn text(bytes: usize) -> RoomEvent {
    RoomEvent::Text { info: StreamInfo::default(), text: "x".repeat(bytes) }
}

fn is_ready(test: &mut Test) -> bool {
    test.room.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_waiting_job_is_woken_by_the_room() {
    let mut test = Test::joined();
    assert!(!is_ready(&mut test));
    test.state().events.push_back(text(1));
    assert!(is_ready(&mut test));
    test.advance(0);
    assert!(!is_ready(&mut test));
    assert_eq!(test.step(), [("text", 0)]);
}

#[test]
fn one_look_takes_a_bounded_number_of_events() {
    let mut test = Test::joined();
    test.tell((0..3 * EVENTS_AT_ONCE).map(|_| text(1)));
    assert_eq!((test.events().len(), test.state().events.len()), (EVENTS_AT_ONCE, 2 * EVENTS_AT_ONCE));
    assert!(is_ready(&mut test));
}

#[test]
fn what_does_not_fit_into_the_inbox_stays_in_the_room() {
    // The inbox has half of it.
    let mut test = Test::new(64 << 10);
    let id = test.call(|id| Call::Connect { id });
    test.tell([connected(), RoomEvent::Done(id)]);
    assert_eq!(test.step(), [("connected", 0), ("done", id)]);
    test.tell((0..6).map(|_| text(10 << 10)));
    // Three are in the inbox, and one waits for space.
    assert_eq!(test.state().events.len(), 2);
    assert!(is_ready(&mut test), "a job with an event that waits does not sleep");
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(test.events().len());
        test.advance(0);
    }
    assert_eq!(counts, [3, 3, 0]);
    assert_eq!((test.job.control.inbox.dropped(), test.state().events.len()), (0, 0));
}

#[test]
fn an_event_larger_than_the_inbox_is_told_as_lost() {
    let mut test = Test::new(64 << 10);
    let id = test.call(|id| Call::Connect { id });
    test.tell([connected(), RoomEvent::Done(id), text(40 << 10), text(1)]);
    assert_eq!(test.step(), [("connected", 0), ("done", id)]);
    test.advance(0);
    assert_eq!(test.step(), [("text", 0)]);
    assert_eq!(test.events(), [Event::Lost(Loss { what: "text".into(), id: 0, count: 1 })]);
}

#[test]
fn the_stop_comes_after_the_event_of_the_lost_room() {
    let mut test = Test::new(64 << 10);
    let id = test.call(|id| Call::Connect { id });
    test.tell([connected(), RoomEvent::Done(id)]);
    test.events();
    test.tell((0..3).map(|_| text(10 << 10)).chain([text(1 << 10), disconnected(Reason::SignalClose)]));
    assert!(test.job.control.take_events().is_empty(), "the event waits for space");
    assert_eq!(test.events().len(), 3);
    test.advance(0);
    assert_eq!(test.step(), [("text", 0), ("disconnected", 0)]);
    let stops = test.job.control.take_events();
    assert!(matches!(&stops[..], [ControlEvent::Stop { by: StopBy::RoomLost, .. }]), "{stops:?}");
}

#[test]
fn commands_wait_for_a_room_that_is_behind_and_keep_their_order() {
    let mut test = Test::joined();
    let used = test.job.meter.used_bytes();
    test.state().takes = Takes::Full;
    let first = test.call(|id| Call::SendFile {
        id,
        topic: "t".into(),
        name: "n".into(),
        mime_type: "m".into(),
        bytes: vec![0; 10_000],
        options: super::fake::options(),
    });
    test.perform(Call::Disconnect);
    assert!(test.job.meter.used_bytes() > used + 10_000, "what waits is charged");
    let retry_at = test.room.wake_at().unwrap();
    assert_eq!(retry_at, test.job.launched + Duration::from_millis(10));
    test.advance(10);
    assert!(test.commands().is_empty());
    assert_eq!(test.room.wake_at(), Some(retry_at + Duration::from_millis(10)));
    test.state().takes = Takes::All;
    test.advance(15);
    assert!(test.commands().is_empty(), "it is not time");
    test.advance(20);
    let [Command::SendFile { id, .. }, Command::Disconnect] = &test.commands()[..] else { panic!() };
    assert_eq!((*id, test.room.wake_at()), (first, None));
    test.tell([RoomEvent::Done(first)]);
    assert_eq!((test.step(), test.job.meter.used_bytes()), (vec![("done", first)], used));
}

#[test]
fn commands_for_a_room_that_is_over_fail_with_it() {
    let mut test = Test::joined();
    test.state().takes = Takes::Over;
    let id = test.send_text("hi");
    assert!(test.events().is_empty());
    test.tell([disconnected(Reason::Fault)]);
    let names: Vec<_> = test.events().iter().map(name_of).collect();
    assert_eq!(names, ["failed", "disconnected"]);
    assert!(!test.job.ids.is_open(id));
}
