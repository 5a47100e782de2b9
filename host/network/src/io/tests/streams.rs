//! Bodies in parts, both ways: back-pressure, bounds, and operations that are given up.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::server::{Server, read_head};
use super::*;
use crate::ledger::AHEAD_BYTES_MAX;

/// A server that answers with the number of `#` that it got up to the last chunk, or to `END`.
async fn counting() -> Server {
    Server::start(|mut stream, _| async move {
        let mut got = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while !got.ends_with(b"\r\n0\r\n\r\n") && !got.ends_with(b"END") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
            }
        }
        let count = got.iter().filter(|byte| **byte == b'#').count().to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{count}", count.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn a_body_is_written_in_parts_and_writable_tells_when_to_go_on() {
    let server = counting().await;
    let mut client = Setup::new(&[&server.line()]).client();
    let asked = HttpRequest { body: b"#".to_vec(), ..request("POST", &server.url()) };
    client.connection.perform(Command::Open { id: 1, request: asked });
    for _ in 0..10 {
        client.connection.perform(Command::Write { id: 1, bytes: vec![b'#'; 100_000] });
        assert_eq!(client.next().await, NetworkEvent::Writable { id: 1 });
    }
    client.connection.perform(Command::End { id: 1 });
    assert_eq!(client.finish(1).await.text(), "1000001");
    assert!(client.connection.numbers().traffic().all.bytes_sent > 1_000_001);
    // What is written on an operation that is over, does nothing.
    client.connection.perform(Command::Write { id: 1, bytes: vec![0; 9] });
    client.connection.perform(Command::End { id: 1 });
    client.connection.perform(Command::Write { id: 99, bytes: vec![0; 9] });
    assert!(client.connection.try_next().is_none());
}

#[tokio::test]
async fn an_agent_waits_for_its_rate_in_both_directions_and_loses_nothing() {
    let server = Server::start(|mut stream, _| async move {
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("GET "), "{head}");
        let body = vec![b'#'; 192 << 10];
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    })
    .await;
    let mut setup = Setup::new(&[&server.line()]);
    setup.limits.bytes_per_second = Some(256 << 10);
    let mut client = setup.client();
    let began = std::time::SystemTime::now();
    assert_eq!(client.get(&server.url()).await.body.len(), 192 << 10);
    // A quarter of a second goes at once, and a piece of 32 KiB may be ahead.
    let took = began.elapsed().unwrap();
    assert!(took >= Duration::from_millis(370), "{took:?}");

    let counter = counting().await;
    let mut setup = Setup::new(&[&counter.line()]);
    setup.limits.bytes_per_second = Some(256 << 10);
    let mut client = setup.client();
    let began = std::time::SystemTime::now();
    let mut body = vec![b'#'; 192 << 10];
    body.extend(b"END");
    let sent = client.send(HttpRequest { body, ..request("POST", &counter.url()) }).await;
    assert_eq!(sent.text(), (192 << 10).to_string());
    let took = began.elapsed().unwrap();
    assert!(took >= Duration::from_millis(370), "{took:?}");
}

#[tokio::test]
async fn a_told_length_is_kept() {
    let server = counting().await;
    let mut client = Setup::new(&[&server.line()]).client();
    for (length, body, code) in [("6", "###END", ""), ("5", "######", "invalid"), ("7", "######", "invalid")] {
        let asked = HttpRequest { headers: headers(&[("content-length", length)]), ..request("PUT", &server.url()) };
        client.connection.perform(Command::Open { id: 1, request: asked });
        client.connection.perform(Command::Write { id: 1, bytes: body.into() });
        client.connection.perform(Command::End { id: 1 });
        let outcome = client.finish(1).await;
        assert_eq!(outcome.code(), code, "{length}: {outcome:?}");
    }
}

#[tokio::test]
async fn too_much_that_waits_ends_the_operation() {
    let server = Server::start(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let mut client = Setup::new(&[&server.line()]).client();
    client.connection.perform(Command::Open { id: 1, request: request("POST", &server.url()) });
    // The server reads nothing: the buffers of the system fill, then the outbox does.
    for _ in 0..40 {
        client.connection.perform(Command::Write { id: 1, bytes: vec![0; 1 << 20] });
    }
    assert_eq!(client.finish(1).await.code(), "too-large");
}

#[tokio::test]
async fn a_server_waits_for_an_agent_that_does_not_take() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let server = Server::start(move |mut stream, _| {
        let counter = counter.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n").await.unwrap();
            for _ in 0..500 {
                stream.write_all(&[b'x'; 100_000]).await.unwrap();
                counter.fetch_add(100_000, Ordering::SeqCst);
            }
        }
    })
    .await;
    let mut setup = Setup::new(&[&server.line()]);
    setup.limits.idle = Duration::from_millis(300);
    let mut client = setup.client();
    client.takes = false;
    client.connection.perform(Command::Send { id: 1, request: request("GET", &server.url()) });
    let (mut charge, mut got) = (0, 0);
    while charge < AHEAD_BYTES_MAX {
        let event = client.next().await;
        charge += event.charge();
        if let NetworkEvent::Body { bytes, .. } = event {
            got += bytes.len();
        }
    }
    // The time of silence passes, and is not the server's fault.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(client.connection.try_next().is_none());
    assert!(charge < AHEAD_BYTES_MAX + (64 << 10), "{charge}");
    assert!(written.load(Ordering::SeqCst) < 45_000_000, "the server waits");
    client.connection.perform(Command::Taken { id: 1, charge });
    client.takes = true;
    let outcome = client.finish_after_head(1).await;
    assert_eq!((outcome.failure, got + outcome.body.len()), (None, 50_000_000));
}

#[tokio::test]
async fn an_exchange_that_is_given_up_is_not_heard_of_and_its_connection_ends() {
    let (ended, mut ends) = mpsc::channel(8);
    let server = Server::start(move |mut stream, _| {
        let ended = ended.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").await.unwrap();
            assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let mut client = Setup::new(&[&server.line()]).client();
    client.connection.perform(Command::Send { id: 1, request: request("GET", &server.url()) });
    assert!(matches!(client.next().await, NetworkEvent::Head { .. }));
    client.connection.perform(Command::Cancel { id: 1 });
    timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
    assert!(client.connection.try_next().is_none());
    // The same for all operations of a job that is gone.
    client.connection.perform(Command::Send { id: 2, request: request("GET", &server.url()) });
    assert!(matches!(client.next().await, NetworkEvent::Head { id: 2, .. }));
    client.connection = client.network.open();
    timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn operations_have_a_number_and_end_with_the_worker() {
    let server = Server::start(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let mut setup = Setup::new(&[&server.line()]);
    setup.limits.operations_max = 2;
    let mut client = setup.client();
    for id in [1, 2, 3] {
        client.connection.perform(Command::Send { id, request: request("GET", &server.url()) });
    }
    assert_eq!(client.finish(3).await.code(), "limit");
    assert_eq!(client.connection.numbers().open_operations(), 2);
    client.connection.perform(Command::Cancel { id: 2 });
    client.networks = None;
    assert_eq!(client.finish(1).await.code(), "fault");
}
