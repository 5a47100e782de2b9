//! Sockets with made events.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Message, Socket, connect};
use crate::native::{self, Call};
use crate::types::{Failure, SocketBytes, SocketClosed, SocketOpened, SocketText};
use crate::{Event, spawn};

type Slot<T> = Rc<RefCell<Option<T>>>;

/// Begins a task whose output is kept.
fn keep<T: 'static>(future: impl Future<Output = T> + 'static) -> Slot<T> {
    let slot = Rc::new(RefCell::new(None));
    let kept = slot.clone();
    spawn("test", async move {
        let output = future.await;
        kept.replace(Some(output));
    });
    native::step(0.0, Vec::new());
    slot
}

fn opened(id: u32) -> Event {
    Event::SocketOpened(SocketOpened { id, protocol: "v1".into(), headers: Vec::new() })
}

fn text(id: u32, text: &str) -> Event {
    Event::SocketText(SocketText { id, text: text.into() })
}

fn closed(id: u32, code: u16) -> Event {
    Event::SocketClosed(SocketClosed { id, code, reason: "why".into() })
}

fn open() -> Rc<Socket> {
    let slot = keep(async { connect("wss://example.com").open().await.unwrap() });
    native::step(0.0, vec![opened(1)]);
    native::take_calls();
    Rc::new(slot.take().unwrap())
}

async fn read(socket: Rc<Socket>) -> (Vec<Message>, Option<Failure>) {
    let mut read = Vec::new();
    loop {
        match socket.next().await {
            Ok(Some(message)) => read.push(message),
            Ok(None) => return (read, None),
            Err(failure) => return (read, Some(failure)),
        }
    }
}

#[test]
fn messages_are_read_up_to_the_close() {
    let socket = open();
    assert_eq!(socket.protocol(), "v1");
    let slot = keep(read(socket.clone()));
    let bytes = Event::SocketBytes(SocketBytes { id: 1, bytes: vec![7] });
    native::step(1.0, vec![text(1, "a"), bytes, closed(1, 1000)]);
    let (messages, failure) = slot.take().unwrap();
    assert_eq!(messages, [Message::Text("a".into()), Message::Bytes(vec![7])]);
    assert!(failure.is_none());
    assert_eq!(socket.closed().map(|closed| closed.code), Some(1000));
    drop(socket);
    assert!(native::take_calls().is_empty() && native::open_ids() == 0);
}

#[test]
fn lost_connection_is_an_error_for_readers_and_writers() {
    let socket = open();
    let (reading, writer) = (keep(read(socket.clone())), socket.clone());
    let writing = keep(async move {
        writer.send_bytes(&[0; 70_000]).await?;
        writer.send_text("never").await
    });
    native::step(1.0, vec![closed(1, 1006)]);
    let (_, failure) = reading.take().unwrap();
    assert_eq!(failure.unwrap().to_string(), "closed: closed with 1006: why");
    assert_eq!(writing.take().unwrap().unwrap_err().code, "closed");
    assert!(matches!(native::take_calls()[..], [Call::SocketBytes(1, _)]));
}

#[test]
fn refused_connection_has_the_status_of_the_server() {
    let slot = keep(async { connect("wss://example.com").open().await });
    native::step(0.0, vec![Event::Failed(Failure { id: 1, code: "refused".into(), status: 401, message: "".into() })]);
    assert_eq!(slot.take().unwrap().unwrap_err().status, 401);
}

#[test]
fn writer_waits_for_the_host_while_another_task_reads() {
    let socket = open();
    let (reading, writer) = (keep(read(socket.clone())), socket.clone());
    let writing = keep(async move {
        writer.send_bytes(&[0; 70_000]).await?;
        writer.send_text("second").await
    });
    native::step(1.0, vec![text(1, "a")]);
    assert!(writing.borrow().is_none());
    native::step(2.0, vec![Event::Writable(1)]);
    writing.take().unwrap().unwrap();
    native::step(3.0, vec![closed(1, 1001)]);
    assert_eq!(reading.take().unwrap().0, [Message::Text("a".into())]);
    assert!(matches!(native::take_calls()[..], [Call::SocketBytes(1, _), Call::SocketText(1, _)]));
}

#[test]
fn writer_that_nobody_reads_for_fails_and_does_not_hang() {
    let socket = open();
    let writer = socket.clone();
    let writing = keep(async move {
        writer.send_bytes(&[0; 70_000]).await?;
        writer.send_text("never").await
    });
    native::step(1.0, (0..100).map(|_| text(1, "a")).collect());
    assert!(writing.borrow().is_none());
    native::step(2.0, (0..200).map(|_| text(1, "a")).collect());
    assert_eq!(writing.take().unwrap().unwrap_err().code, "limit");
    // The messages are there, the host holds more of them back, and reading goes on.
    let calls = native::take_calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Hold(1, true))), "{calls:?}");
    let reading = keep(read(socket));
    native::step(3.0, vec![closed(1, 1000)]);
    assert_eq!(reading.take().unwrap().0.len(), 300);
    assert!(matches!(native::take_calls()[..], [Call::Hold(1, false)]));
}

#[test]
fn writer_lets_the_events_go_on_that_were_held_back() {
    let socket = open();
    native::step(1.0, (0..100).map(|_| text(1, "a")).collect());
    assert!(matches!(native::take_calls()[..], [Call::Hold(1, true)]));
    let writer = socket.clone();
    let writing = keep(async move {
        writer.send_bytes(&[0; 70_000]).await?;
        writer.send_text("second").await
    });
    assert!(matches!(native::take_calls()[..], [Call::SocketBytes(1, _), Call::Hold(1, false)]));
    native::step(2.0, vec![Event::Writable(1)]);
    writing.take().unwrap().unwrap();
    // Nobody waits to write any more, so the usual bound counts again.
    native::step(3.0, vec![text(1, "a")]);
    assert!(matches!(native::take_calls()[..], [Call::SocketText(1, _), Call::Hold(1, true)]));
}

#[test]
fn close_waits_for_the_other_side_and_not_for_ever() {
    let socket = Rc::try_unwrap(open()).unwrap();
    let slot = keep(async move { socket.close(1000, "bye").await });
    native::step(1.0, vec![text(1, "late"), closed(1, 1000)]);
    slot.take().unwrap().unwrap();
    assert!(matches!(native::take_calls()[..], [Call::SocketClose(1, 1000)]));

    let slot = keep(async { connect("wss://example.com").open().await?.close(1000, "bye").await });
    native::step(2.0, vec![opened(2)]);
    native::step(20_000.0, Vec::new());
    assert_eq!(slot.take().unwrap().unwrap_err().code, "timeout");
    assert!(matches!(native::take_calls().last(), Some(Call::Cancel(2))));
}

#[test]
fn dropping_a_socket_gives_it_up() {
    drop(open());
    assert!(matches!(native::take_calls()[..], [Call::Cancel(1)]));
    assert_eq!(native::open_ids(), 0);
}
