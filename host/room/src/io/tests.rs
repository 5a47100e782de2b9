//! Rooms whose server is a script on loopback.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wasm_worker_core::secret::Secret;

use super::*;
use wasm_worker_core::room::event::{Failure, Reason};
use wasm_worker_core::room::settings::RoomLimits;

/// Longest time of a test. It only ends one that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to any server on loopback, and panics where the path says so.
struct Loopback;

impl Connect for Loopback {
    fn connect(&self, url: &Uri) -> Connecting {
        assert!(!url.path().starts_with("/panic"), "a bug, as a test asks for it");
        let authority = url.authority().unwrap().to_string();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

fn rooms(rooms_max: usize) -> Rooms {
    Rooms::start(RoomsSettings { threads: 1, rooms_max }, Arc::new(Loopback)).unwrap()
}

#[tokio::test]
async fn there_are_no_more_threads_than_rooms_and_at_least_one() {
    for (threads, rooms_max, expected) in [(8, 2, 2), (1, 9, 1), (0, 9, 1), (3, 0, 1)] {
        let rooms = Rooms::start(RoomsSettings { threads, rooms_max }, Arc::new(Loopback)).unwrap();
        assert_eq!(rooms.runtime.as_ref().unwrap().metrics().num_workers(), expected, "{threads} and {rooms_max}");
    }
}

fn settings(url: &str) -> RoomSettings {
    let limits = RoomLimits { join_within: Duration::from_millis(700), ..RoomLimits::default() };
    let (url, token) = (url.into(), Secret("jwt".into()));
    RoomSettings { url, token, name: String::new(), metadata: String::new(), attributes: Vec::new(), limits }
}

/// The only event of a room that tries to join.
async fn outcome(rooms: &Rooms, url: &str) -> RoomEvent {
    let room = rooms.open(settings(url)).unwrap();
    room.try_perform(Command::Connect { id: 1 }).unwrap();
    timeout(PATIENCE, room.next()).await.unwrap().unwrap()
}

/// A server that answers each connection with these bytes, after it read a request, and closes it.
async fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "the runtime of this test")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16 << 10];
            // A client that is gone reads nothing.
            drop(stream.read(&mut request).await);
            drop(stream.write_all(answer).await);
        }
    });
    url
}

fn failure(event: RoomEvent) -> Failure {
    let RoomEvent::Failed(failure) = event else { panic!("{event:?}") };
    failure
}

#[tokio::test]
async fn a_panic_ends_one_room_only() {
    let rooms = rooms(2);
    let other = rooms.open(settings("ws://127.0.0.1:9")).unwrap();
    let event = outcome(&rooms, "ws://127.0.0.1:9/panic").await;
    assert!(matches!(event, RoomEvent::Disconnected { reason: Reason::Fault, .. }), "{event:?}");
    other.try_perform(Command::SetName { id: 7, name: "n".into() }).unwrap();
    assert_eq!(timeout(PATIENCE, other.next()).await.unwrap(), Some(RoomEvent::Done(7)));
}

#[tokio::test]
async fn rooms_are_counted_and_give_their_seats_back() {
    let rooms = rooms(1);
    let room = rooms.open(settings("ws://127.0.0.1:9")).unwrap();
    assert_eq!(rooms.open(settings("ws://127.0.0.1:9")).err(), Some(OpenError::TooMany { rooms_max: 1 }));
    drop(room);
    timeout(PATIENCE, async {
        while rooms.count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    assert!(rooms.open(settings("ws://127.0.0.1:9")).is_ok());
}

#[tokio::test]
async fn commands_are_performed_in_order_and_no_event_is_lost() {
    let rooms = rooms(1);
    let room = rooms.open(settings("ws://127.0.0.1:9")).unwrap();
    for id in 1..=1_000 {
        room.try_perform(Command::SetName { id, name: "n".into() }).unwrap();
    }
    for id in 1..=1_000 {
        assert_eq!(timeout(PATIENCE, room.next()).await.unwrap(), Some(RoomEvent::Done(id)));
    }
}

#[tokio::test]
async fn the_end_of_a_room_is_told_once() {
    let panicking = "ws://127.0.0.1:9/panic";
    for url in ["ws://127.0.0.1:9", panicking] {
        let rooms = rooms(1);
        let mut room: Box<dyn RoomConnection> = RoomOpener::open(&rooms, settings(url)).unwrap();
        if url == panicking {
            room.try_perform(Command::Connect { id: 1 }).unwrap();
        } else {
            drop(rooms);
        }
        timeout(PATIENCE, std::future::poll_fn(|context| room.poll_ready(context))).await.unwrap();
        let event = room.try_next();
        assert!(matches!(event, Some(RoomEvent::Disconnected { reason: Reason::Fault, .. })), "{event:?}");
        assert_eq!(room.try_next(), None);
        let mut ready = std::pin::pin!(std::future::poll_fn(|context| room.poll_ready(context)));
        assert!(ready.as_mut().now_or_never().is_none(), "nothing follows");
    }
}

#[tokio::test]
async fn servers_that_open_no_link_are_named_by_what_they_do() {
    let rooms = rooms(1);
    let refuses: [(&[u8], &str); 3] = [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\nno access", "not-allowed"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "not-supported"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK", "refused"),
    ];
    for (answer, code) in refuses {
        let failure = failure(outcome(&rooms, &answering(answer).await).await);
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(!failure.message.contains("jwt"));
        while rooms.count() > 0 {
            tokio::task::yield_now().await;
        }
    }
    // These may be better the next time, so they are tried until the time for the join is over.
    let others: [&[u8]; 4] = [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", &[0xff; 4_096]];
    for answer in others {
        let failure = failure(outcome(&rooms, &answering(answer).await).await);
        assert_eq!(failure.code, "timeout", "{failure:?}");
        while rooms.count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
