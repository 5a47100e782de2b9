//! Whoever reaches a port: silent and half-open connections, web pages, odd requests and odd tokens.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use livekit_token::{Claims, VideoGrants};

use super::case::{ANSWER_BYTES_MAX, Case};
use super::{Row, row};
use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{guest, path, wasm_worker};

pub(crate) const ROWS: &[Row] = &[
    // Each of them may fill its head, and each is a descriptor.
    Row {
        memory_mib_max: 96,
        descriptors_max: 1_100,
        ..row("1,000 heads of requests that never end", half_heads, &["HTTP/1.1 200"])
    },
    row(
        "another program at the dispatcher's port, which says that it is one",
        impostor,
        &["exit 2", "questions without a grant", "does not prove that it has the secret", "cannot listen on"],
    ),
];

/// Connect to the dispatcher.
fn connect(dispatcher: &Dispatcher) -> TcpStream {
    TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap()
}

/// Send these bytes, and read until the program closes the connection.
pub(crate) fn exchange(dispatcher: &Dispatcher, bytes: &[u8]) -> String {
    let mut stream = connect(dispatcher);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A program that has read enough may close the connection while the peer still writes.
    drop(stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn half_heads(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let half = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(300 << 10));
    let _held: Vec<_> = (0..1_000)
        .map(|_| {
            let mut stream = connect(dispatcher);
            stream.set_nonblocking(true).unwrap();
            drop(stream.write(half.as_bytes()));
            stream
        })
        .collect();
    exchange(dispatcher, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// It gives each question back as its answer.
fn impostor(_: &mut Case) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shown = Arc::<Mutex<Vec<String>>>::default();
    let seen = shown.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 16 << 10];
            let read = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let token = head.lines().find(|line| line.to_lowercase().starts_with("authorization:"));
            let token = token.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned();
            let answer = format!("Server: wasm-worker\r\nX-Wasm-Worker-Proof: {token}\r\nContent-Length: 2\r\n");
            drop(write!(stream, "HTTP/1.1 200 OK\r\n{answer}Connection: close\r\n\r\nOK"));
            // A connection that says nothing shows nothing.
            if !token.is_empty() {
                seen.lock().unwrap().push(token);
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let call =
        wasm_worker(["run", path(&guest("brief")), "--listen", &address, "--http", "off", "--store", path(&store)]);
    let done = call.env("LIVEKIT_API_KEY", "key").env("LIVEKIT_API_SECRET", "a secret of somebody").done();
    let shown = shown.lock().unwrap();
    let grants = shown.iter().map(|token| Claims::from_unverified(token).map(|claims| claims.video));
    let harmless = grants.into_iter().all(|grants| grants.is_ok_and(|grants| grants == VideoGrants::default()));
    let asked = if harmless && !shown.is_empty() { "questions without a grant" } else { "tokens of worth" };
    format!("exit {}: {asked}: {}", done.exit, done.stderr)
}
