//! Servers, proxies and receivers of webhooks that answer oddly.

use std::net::SocketAddr;
use std::time::Duration;

use super::case::Case;
use super::{Row, row};
use crate::support::harness::{eventually, guest};
use crate::support::network::{answering, pouring};
use crate::support::scripted_server::behind;

pub(crate) const ROWS: &[Row] = &[
    row("a server that redirects to itself", redirect, &["answered 302 Found and redirects to `/agent`"]),
    row("a server that speaks another protocol", other_protocol, &["does not answer with HTTP"]),
    row("a server whose answer has a head without an end", endless_head, &["127.0.0.1:"]),
    row(
        "a server whose 404 has a body without an end",
        endless_body,
        &["answered 404 Not Found: nothing is at this path"],
    ),
    row("a server that accepts connections and is silent", silent, &["no connection within 10s"]),
    row("a proxy whose answer has a head without an end", endless_proxy, &["the proxy `127.0.0.1:", "sends no HTTP"]),
    row("a proxy that refuses", refusing_proxy, &["refuses a connection to `livekit.test:80`: 403 Forbidden"]),
    row("a receiver of webhooks whose 200 has a body without an end", endless_receiver, &["delivered"]),
    row("a receiver of webhooks whose answer is cut off in its head", cut_receiver, &["failed"]),
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

/// Whether posts to this receiver are delivered.
#[expect(clippy::disallowed_methods, reason = "nobody waits for this thread")]
fn posted(case: &mut Case, receiver: SocketAddr) -> String {
    let url = format!("http://{receiver}/hook");
    let flags = ["--http", "127.0.0.1:0", "--max-retry", "1000", "--webhook", &url];
    let door = case.worker(behind("ws://127.0.0.1:9", &[guest("brief").to_str().unwrap()]).args(flags));
    // The events of the lost server keep coming, and three attempts take less.
    std::thread::sleep(Duration::from_secs(12));
    let failed = "wasm_worker_events_failed_total{sink=\"webhook\"} ";
    let metrics = door.get("/metrics").1;
    let count = metrics.lines().find_map(|line| line.strip_prefix(failed)).unwrap_or_else(|| panic!("{metrics}"));
    if count == "0" { "delivered".into() } else { "failed".into() }
}

fn endless_receiver(case: &mut Case) -> String {
    posted(case, pouring("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nmore\r\n"))
}

fn cut_receiver(case: &mut Case) -> String {
    posted(case, answering("HTTP/1.1 200 OK\r\ncontent-le"))
}
