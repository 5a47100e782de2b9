//! Whoever reaches a port: silent and half-open connections, web pages, odd requests and odd tokens.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::case::{ANSWER_BYTES_MAX, Case};
use super::{Row, row};
use crate::support::dispatcher::Dispatcher;

pub(crate) const ROWS: &[Row] = &[
    // Each of them may fill its head, and each is a descriptor.
    Row {
        memory_mib_max: 96,
        descriptors_max: 1_100,
        ..row("1,000 heads of requests that never end", half_heads, &["HTTP/1.1 200"])
    },
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
    let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn half_heads(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let half = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(300 << 10));
    let _held: Vec<_> = (0..1_000)
        .map(|_| {
            let mut stream = connect(dispatcher);
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(half.as_bytes());
            stream
        })
        .collect();
    exchange(dispatcher, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}
