//! Tests of the executor, without a host: nothing here makes a call. Each test has a thread and so an executor of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::types::{Completion, Failure, ShutdownRequest, TextChunk};
use crate::{Aborted, Either, Event, Operation, executor, inbox, operation, select, spawn, time, waits};

type Lines = Rc<RefCell<Vec<String>>>;

/// Begins a task that writes a line when the future has ended.
fn note<F: Future + 'static>(lines: &Lines, name: &'static str, future: F) {
    let lines = lines.clone();
    spawn(name, async move {
        future.await;
        lines.borrow_mut().push(name.to_owned());
    });
}

fn step(now_ms: f64, events: Vec<Event>) {
    executor::run_step(now_ms, events, |_| ());
}

#[test]
fn tasks_run_in_the_order_in_which_they_were_woken() {
    let lines = Lines::default();
    for name in ["a", "b", "c"] {
        note(&lines, name, async {});
    }
    step(0.0, Vec::new());
    assert_eq!(*lines.borrow(), ["a", "b", "c"]);
}

#[test]
fn timers_fire_by_their_time_and_then_by_their_age() {
    let lines = Lines::default();
    let sleep = |ms| time::sleep(Duration::from_millis(ms));
    note(&lines, "second", async move { sleep(20).await });
    note(&lines, "third", async move { sleep(20).await });
    note(&lines, "first", async move { sleep(5).await });
    note(&lines, "between", async move {
        select(sleep(15), sleep(30)).await;
    });
    step(100.0, Vec::new());
    step(104.5, Vec::new());
    assert!(lines.borrow().is_empty());
    step(120.0, Vec::new());
    assert_eq!(*lines.borrow(), ["first", "between", "second", "third"]);
}

#[test]
fn wait_of_zero_ends_the_step() {
    let lines = Lines::default();
    note(&lines, "over", time::sleep(Duration::ZERO));
    step(5.0, Vec::new());
    assert!(lines.borrow().is_empty());
    step(5.0, Vec::new());
    assert_eq!(*lines.borrow(), ["over"]);
}

#[test]
fn joined_task_gives_its_output_and_an_aborted_one_an_error() {
    let lines = Lines::default();
    let output = spawn("sum", async { 1 + 1 });
    let aborted = spawn("forever", std::future::pending::<()>());
    let kept = lines.clone();
    spawn("join", async move {
        assert_eq!(output.await, Ok(2));
        aborted.abort();
        assert_eq!(aborted.await, Err(Aborted));
        kept.borrow_mut().push("joined".into());
    });
    step(0.0, Vec::new());
    assert_eq!(*lines.borrow(), ["joined"]);
}

#[test]
fn request_to_stop_reaches_every_waiter_and_stays_an_event() {
    let lines = Lines::default();
    note(&lines, "one", inbox::shutdown_requested("shutdown_requested"));
    note(&lines, "two", inbox::shutdown_requested(""));
    step(0.0, Vec::new());
    let request = ShutdownRequest { code: "drain".into(), reason: "drain".into(), grace_ms: 10 };
    step(1.0, vec![Event::ShutdownRequested(request)]);
    assert_eq!(*lines.borrow(), ["one", "two"]);
    assert!(matches!(inbox::next(), Some(Event::ShutdownRequested(_))));
    assert_eq!(inbox::stop_reason().as_deref(), Some("drain"));
}

#[test]
fn events_of_an_id_reach_its_holder_only() {
    let lines = Lines::default();
    let kept = lines.clone();
    let mut stream = Operation::new(7, "stream");
    spawn("reader", async move {
        while let Some(event) = stream.next().await {
            kept.borrow_mut().push(event.name().to_owned());
        }
    });
    let chunk = |id| Event::TextChunk(TextChunk { id, text: String::new() });
    let done = |id| Event::Done(Completion { id, value: String::new() });
    step(0.0, vec![chunk(7), chunk(8), done(8), chunk(7)]);
    step(1.0, vec![done(7), chunk(7)]);
    assert_eq!(*lines.borrow(), ["text-chunk", "text-chunk", "done"]);
    assert!(inbox::next().is_none());
}

#[test]
fn failure_is_the_end_of_a_call() {
    let lines = Lines::default();
    let kept = lines.clone();
    let call = Operation::new(1, "room.connect");
    spawn("call", async move {
        let failure = call.done().await.unwrap_err();
        kept.borrow_mut().push(failure.to_string());
    });
    let failure = Failure { id: 1, code: "not-allowed".into(), status: 0, message: "the room is closed".into() };
    step(0.0, vec![Event::Failed(failure)]);
    assert_eq!(*lines.borrow(), ["not-allowed: the room is closed"]);
}

#[test]
fn call_that_nobody_waits_for_is_forgotten_at_its_end() {
    operation::forget(3, "send_text");
    step(0.0, vec![Event::Done(Completion { id: 3, value: String::new() }), Event::Writable(3)]);
    assert!(inbox::next().is_none());
    assert_eq!(operation::open_ids(), 0);
}

#[test]
fn unread_events_are_bounded_and_the_loss_is_told() {
    step(0.0, (0..2_000).map(|_| Event::Reconnecting).collect());
    let read: Vec<Event> = std::iter::from_fn(inbox::next).collect();
    assert_eq!(read.len(), 1_025);
    let Some(Event::Lost(loss)) = read.last() else { panic!("no loss was told") };
    assert_eq!((loss.what.as_str(), loss.count), ("reconnecting", 976));
}

#[test]
fn waits_of_a_task_have_names_until_they_end() {
    let waiting = async {
        match select(inbox::next_event(), time::sleep(Duration::from_millis(10))).await {
            Either::Left(_) | Either::Right(()) => std::future::pending::<()>().await,
        }
    };
    spawn("waiting", waiting);
    step(0.0, Vec::new());
    assert_eq!(executor::waits_of(1), "time::sleep or next_event");
    step(10.0, Vec::new());
    assert_eq!(executor::waits_of(1), "nothing");
    waits::wake(waits::On::Inbox);
}
