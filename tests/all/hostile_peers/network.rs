//! Servers, proxies and receivers of webhooks that answer oddly.

use std::net::SocketAddr;

use super::case::Case;
use super::{Row, row};
use crate::support::harness::{Door, eventually, guest};
use crate::support::network::{Replying, answering, pouring, replying};
use crate::support::scripted_server::behind;

pub(crate) const ROWS: &[Row] = &[
    row("a server that redirects to itself", redirect, &["answered 302 Found and redirects to `/agent`"]),
    row("a server that speaks another protocol", other_protocol, &["does not answer with HTTP"]),
    row(
        "a server whose answer has a head without an end",
        endless_head,
        &["the head of the server's answer is too long"],
    ),
    row(
        "a server whose answer has a header without an end",
        endless_header,
        &["the head of the server's answer is too long"],
    ),
    row(
        "a server whose 404 has a body without an end",
        endless_body,
        &["answered 404 Not Found: nothing is at this path"],
    ),
    row("a server that accepts connections and is silent", silent, &["no connection within 10s"]),
    row(
        "a proxy whose answer has a head without an end",
        endless_proxy,
        &["the head of the answer of the proxy `127.0.0.1:", "is too long"],
    ),
    row("a proxy that refuses", refusing_proxy, &["refuses a connection to `livekit.test:80`: 403 Forbidden"]),
    row("a receiver of webhooks whose 200 has a body without an end", endless_receiver, &["delivered"]),
    row("a receiver of webhooks whose answer is cut off in its head", cut_receiver, &["failed after "]),
];

/// Why a worker has no connection to this server.
fn why(case: &mut Case, server: &str, proxy: Option<SocketAddr>) -> String {
    let events = tempfile::NamedTempFile::new().unwrap();
    let flags = ["--http", "127.0.0.1:0", "--max-retry", "1000", "--events", events.path().to_str().unwrap()];
    let call = behind(server, &[guest("brief").to_str().unwrap()]).args(flags);
    let call = call.env("http_proxy", proxy.map(|proxy| proxy.to_string()).unwrap_or_default());
    let _door = case.worker(call);
    eventually("it loses the server again and again", || {
        let lines = std::fs::read_to_string(events.path()).unwrap();
        let mut lost = lines.lines().filter(|line| line.contains("link.lost"));
        let _first = lost.next()?;
        lost.next().map(str::to_owned)
    })
}

fn server(case: &mut Case, address: SocketAddr) -> String {
    why(case, &format!("ws://{address}"), None)
}

fn redirect(case: &mut Case) -> String {
    server(case, answering("HTTP/1.1 302 Found\r\nlocation: /agent\r\ncontent-length: 0\r\n\r\n"))
}

fn other_protocol(case: &mut Case) -> String {
    server(case, answering("SSH-2.0-OpenSSH_9.9\r\n"))
}

fn endless_head(case: &mut Case) -> String {
    server(case, pouring("HTTP/1.1 101 Switching Protocols\r\n", "x-more: of the same\r\n"))
}

fn endless_header(case: &mut Case) -> String {
    server(case, pouring("HTTP/1.1 101 Switching Protocols\r\nx-more: ", "of the same, and so on, "))
}

fn endless_body(case: &mut Case) -> String {
    server(case, pouring("HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nmore\r\n"))
}

fn silent(case: &mut Case) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server(case, listener.local_addr().unwrap())
}

fn endless_proxy(case: &mut Case) -> String {
    let proxy = pouring("HTTP/1.1 200 Connection established\r\n", "x-more: of the same\r\n");
    why(case, "ws://livekit.test", Some(proxy))
}

fn refusing_proxy(case: &mut Case) -> String {
    let proxy = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    why(case, "ws://livekit.test", Some(proxy))
}

/// A worker that posts its events to this receiver, and goes on losing its server, which is an event.
fn posting(case: &mut Case, receiver: &Replying) -> Door {
    let url = format!("http://{}/hook", receiver.address);
    let flags = ["--http", "127.0.0.1:0", "--max-retry", "1000", "--webhook", &url];
    case.worker(behind("ws://127.0.0.1:9", &[guest("brief").to_str().unwrap()]).args(flags))
}

/// The number of events that the worker could not post.
fn failed(door: &Door) -> u64 {
    let name = "wasm_worker_events_failed_total{sink=\"webhook\"} ";
    let metrics = door.get("/metrics").1;
    let count = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
    count.parse().unwrap()
}

fn endless_receiver(case: &mut Case) -> String {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let receiver = replying(answer, Some("4\r\nmore\r\n"));
    let door = posting(case, &receiver);
    // An event that fails is posted three times.
    eventually("a fourth post arrives", || (receiver.requests() >= 4).then_some(()));
    if failed(&door) == 0 { "delivered".into() } else { "failed".into() }
}

fn cut_receiver(case: &mut Case) -> String {
    let receiver = replying("HTTP/1.1 200 OK\r\ncontent-le", None);
    let door = posting(case, &receiver);
    eventually("an event is lost", || (failed(&door) > 0).then_some(()));
    format!("failed after {} posts", receiver.requests())
}
