//! Whoever reaches a port: silent and half-open connections, web pages, odd requests and odd tokens.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livekit_token::{AccessToken, Claims, VideoGrants};
use serde_json::json;
use tokio::time::Instant;

use super::case::{ANSWER_BYTES_MAX, Case};
use super::{Row, call, is_no_flood, row};
use crate::support::dispatcher::{Dispatcher, everything, token};
use crate::support::harness::{guest, path, wasm_worker};

pub(crate) const ROWS: &[Row] = &[
    // Each of them may fill its head, and each is a descriptor.
    Row {
        memory_mib_max: 96,
        descriptors_max: 1_100,
        ..row("1,000 heads of requests that never end", half_heads, &["HTTP/1.1 200"])
    },
    Row {
        memory_mib_max: 96,
        descriptors_max: 4_200,
        time_max: Duration::from_secs(20),
        ..row("4,200 connections that say nothing", silent, &["HTTP/1.1 200"])
    },
    row("a head of 70 KiB", large_head, &["HTTP/1.1 431"]),
    row(
        "a page of another site opens the socket of workers, and asks the API",
        foreign_page,
        &["/agent HTTP/1.1 403", "/api/v1/workers HTTP/1.1 403", "evil.example"],
    ),
    row(
        "a name of another site leads to 127.0.0.1",
        rebound_name,
        &["/agent HTTP/1.1 421", "/api/v1/workers HTTP/1.1 421", "/metrics HTTP/1.1 421"],
    ),
    row(
        "the same at the HTTP port of a worker",
        foreign_at_a_worker,
        &["/metrics HTTP/1.1 421", "/worker HTTP/1.1 421", "/drain HTTP/1.1 403"],
    ),
    row(
        "tokens with the wrong secret, an unknown key and no grant",
        odd_tokens,
        &["not signed with the server's secret", "has no API key `nobody`", "no grant `roomList`", "has no token"],
    ),
    row(
        "the request id of another room",
        foreign_request_id,
        &["400 ", "the request id is that of a dispatch to another agent or room"],
    ),
    call(
        "another program at the dispatcher's port, which says that it is one",
        impostor,
        &["exit 2.", "questions without a grant", "does not prove that it has the secret", "cannot listen on"],
    ),
];

/// The places of a listener.
const PLACES: usize = 4_096;
/// Longest time of a flood.
const FLOOD_WITHIN: Duration = Duration::from_secs(15);

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
    if is_no_flood("ports: 1,000 heads") {
        return "not tried: HTTP/1.1 200".into();
    }
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

fn silent(case: &mut Case) -> String {
    if is_no_flood("ports: 4,200 connections") {
        return "not tried: HTTP/1.1 200".into();
    }
    let dispatcher = case.dispatcher(&[]);
    let address = dispatcher.url.trim_start_matches("ws://").parse().unwrap();
    let (mut held, began) = (Vec::new(), Instant::now());
    // The backlog may be full for a while.
    while held.len() < 4_200 && began.elapsed() < FLOOD_WITHIN {
        held.extend(TcpStream::connect_timeout(&address, Duration::from_millis(200)));
    }
    assert!(held.len() > PLACES, "{} connections within {FLOOD_WITHIN:?}", held.len());
    exchange(dispatcher, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn large_head(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(70 << 10));
    exchange(dispatcher, head.as_bytes())
}

/// The paths of a dispatcher that a page wants, with a token that is public.
const PATHS: [&str; 3] = ["/agent", "/api/v1/workers", "/metrics"];

/// What each path answers to a request with these headers: the path, and the answer.
fn ask_all(address: &str, method: &str, paths: &[&str], headers: &str) -> String {
    let ask = |path: &&str| {
        let agent = token("secret", VideoGrants { agent: true, room_list: true, ..Default::default() });
        let socket =
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let connection = if *path == "/agent" { "Upgrade" } else { "close" };
        let head = format!(
            "{method} {path}?access_token={agent} HTTP/1.1\r\n{headers}{socket}Authorization: Bearer {agent}\r\nConnection: {connection}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 4 << 10];
        let count = stream.read(&mut answer).unwrap_or(0);
        format!("{path} {}\n", String::from_utf8_lossy(&answer[..count]))
    };
    paths.iter().map(ask).collect()
}

fn foreign_page(case: &mut Case) -> String {
    let address = case.dispatcher(&[]).url.trim_start_matches("ws://").to_owned();
    ask_all(&address, "GET", &PATHS, &format!("Host: {address}\r\nOrigin: https://evil.example\r\n"))
}

fn rebound_name(case: &mut Case) -> String {
    let address = case.dispatcher(&[]).url.trim_start_matches("ws://").to_owned();
    ask_all(&address, "GET", &PATHS, "Host: evil.example:7880\r\n")
}

fn foreign_at_a_worker(case: &mut Case) -> String {
    let url = case.dispatcher(&[]).url.clone();
    let (agent, store) = (guest("brief"), tempfile::tempdir().unwrap());
    let call = wasm_worker(["run", path(&agent), "--http", "127.0.0.1:0", "--store", path(&store.path().join("s"))]);
    let call = call.env("LIVEKIT_URL", url).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret");
    let door = case.worker(call);
    let address = door.url.trim_start_matches("http://").to_owned();
    let rebound = ask_all(&address, "GET", &["/metrics", "/worker"], "Host: evil.example\r\n");
    let page = format!("Host: {address}\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n");
    rebound + &ask_all(&address, "POST", &["/drain"], &page)
}

fn odd_tokens(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let list = VideoGrants { room_list: true, ..Default::default() };
    let unknown = AccessToken::with_api_key("nobody", "secret").with_grants(list.clone());
    let tokens = [token("wrong", list), unknown.to_jwt().unwrap(), token("secret", VideoGrants::default())];
    let asked =
        tokens.iter().map(|token| dispatcher.ask("GET", "/api/v1/workers", "", token, &[], "").body.to_string());
    let without = exchange(dispatcher, b"GET /api/v1/workers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    asked.chain([without]).collect()
}

fn foreign_request_id(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let create = |room: &str| {
        let request = json!({ "agent_name": "nobody", "room": room, "metadata": "private" });
        let headers = [("X-Livekit-Request-Id", "7")];
        dispatcher.twirp_as(&everything(room), "AgentDispatchService/CreateDispatch", &headers, &request)
    };
    assert_eq!(create("room-1").status, 200);
    let answer = create("room-2");
    format!("{} {}", answer.status, answer.body)
}

/// It gives each question back as its answer.
fn impostor(case: &mut Case) -> String {
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
    let (agent, store) = (guest("brief"), dir.path().join("store.db"));
    let run = ["run", path(&agent), "--listen", &address, "--http", "off", "--store", path(&store)];
    let call = wasm_worker(run);
    let done = case.run(call.env("LIVEKIT_API_KEY", "key").env("LIVEKIT_API_SECRET", "a secret of somebody"));
    let shown = shown.lock().unwrap();
    let grants = shown.iter().map(|token| Claims::from_unverified(token).map(|claims| claims.video));
    let harmless = grants.into_iter().all(|grants| grants.is_ok_and(|grants| grants == VideoGrants::default()));
    let asked = if harmless && !shown.is_empty() { "questions without a grant" } else { "tokens of worth" };
    format!("exit {}. {asked}: {}", done.exit, done.stderr)
}
