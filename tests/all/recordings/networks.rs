//! Recordings of agents that used the network: servers of the tests, and the stand-in for models. A replay asks no server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use super::conversations::{Talk, count, replays};
use super::{is_same, recorded_agent, replay};
use crate::support::harness::{guest, root};

/// Time between two parts of an answer.
const PAUSE: Duration = Duration::from_millis(20);

/// Servers of HTTP and of WebSockets on loopback. Their threads end with the process.
struct Servers {
    http: String,
    socket: String,
    /// Connections of both.
    taken: Arc<AtomicUsize>,
}

impl Servers {
    fn start() -> Self {
        let taken = Arc::<AtomicUsize>::default();
        let http = Self::listen(&taken, |stream| answer(stream).ok());
        let socket = Self::listen(&taken, |stream| converse(stream).ok());
        Self { http: format!("http://{http}"), socket: format!("ws://{socket}"), taken }
    }

    fn listen(taken: &Arc<AtomicUsize>, serve: fn(TcpStream) -> Option<()>) -> String {
        let (listener, taken) = (TcpListener::bind("127.0.0.1:0").unwrap(), taken.clone());
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                taken.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || serve(stream));
            }
        });
        address
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The flags that let an agent reach them.
    fn allowed(&self) -> [&str; 4] {
        ["--allow-host", &self.http, "--allow-host", &self.socket]
    }
}

/// Answer one request by its path.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    match head.split(' ').nth(1).unwrap_or_default() {
        "/parts" => {
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            for part in ["one ", "two ", "three"] {
                write!(stream, "{:x}\r\n{part}\r\n", part.len())?;
                thread::park_timeout(PAUSE);
            }
            write!(stream, "0\r\n\r\n")
        }
        "/cut" => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of"),
        "/late" => {
            thread::park_timeout(5 * PAUSE);
            write!(stream, "HTTP/1.1 503 Busy\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate")
        }
        path => {
            let length = path.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{path}")
        }
    }
}

/// Hold the conversation of one WebSocket.
fn converse(stream: TcpStream) -> tungstenite::Result<()> {
    let mut socket = tungstenite::accept(stream).map_err(|_| tungstenite::Error::ConnectionClosed)?;
    socket.send(Message::text("ready"))?;
    while let Ok(message) = socket.read() {
        if message.is_text() {
            socket.send(Message::text("pong"))?;
            thread::park_timeout(PAUSE);
            socket.close(None)?;
        }
    }
    Ok(())
}

fn text(after_ms: u64, text: &str) -> Value {
    json!({"after_ms": after_ms, "event": {"text": {"sender": "ann", "text": text}}})
}

/// An agent uses HTTP and a WebSocket. Its recording replays exactly, and no server is asked.
pub(super) fn of_http_and_sockets() {
    let servers = Servers::start();
    let (http, socket) = (&servers.http, &servers.socket);
    let spec = json!({"participants": [{"identity": "ann"}], "inbox": [
        text(20, &format!("get {http}/parts")),
        text(0, &format!("get {http}/late")),
        text(0, &format!("get {http}/cut")),
        text(0, &format!("socket {socket}/")),
        text(10, "get http://127.0.0.1:1/"),
        text(400, &format!("get {http}/last")),
        {"after_ms": 400, "event": {"terminate": {"reason": "enough"}}},
    ]});
    let (_dir, file, done) = recorded_agent(&guest("concierge"), &spec, &servers.allowed());
    let sent = done.record()["activity"]["texts"].to_string();
    for text in [
        "200 one two three",
        "503 late",
        "unavailable",
        "socket ready",
        "socket pong",
        "closed 1005",
        "not-allowed",
        "200 /last",
    ] {
        assert!(sent.contains(text), "`{text}` in {sent}{}", done.stderr);
    }
    let taken = servers.taken();
    let result = is_same(&file);
    assert_eq!(result["fuel"], done.record()["usage"]["fuel"], "{result}");
    assert_eq!(servers.taken(), taken, "the replay asked a server");
    let shown = replay(&file, &["--timeline"]).stdout;
    for part in
        ["→ send-http #", "← http-head #", "← http-body #", "→ connect-socket #", "← socket-text #", "← failed #"]
    {
        assert!(shown.contains(part), "`{part}` is missing in {shown}");
    }
}

/// An agent answers by a model, and is interrupted. Its recording replays exactly.
pub(super) fn of_a_model() {
    let spec = json!({"participants": [{"identity": "ann"}], "inbox": [
        text(20, "hello"),
        // The stand-in says some 40 tokens a second, so it is in the middle of its answer.
        text(150, "one two three four five six seven eight nine ten"),
        text(2_000, "bye"),
    ]});
    let (_dir, file, done) = recorded_agent(&root().join("examples/llm"), &spec, &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert!(done.stderr.contains("is a stand-in for models, and no model"), "{}", done.stderr);
    let sent = done.record()["activity"]["texts"].to_string();
    assert!(sent.contains("you said: ann: one two three") && sent.contains("Goodbye."), "{sent}");
    let result = is_same(&file);
    assert_eq!(result["fuel"], done.record()["usage"]["fuel"], "{result}");
    let shown = replay(&file, &["--timeline"]).stdout;
    assert!(shown.contains("← http-body #") && shown.contains("→ cancel #"), "{shown}");
}

/// Fewer conversations might all be killed before they ask a server.
const COUNT_MIN: usize = 72;

/// Random conversations with an agent that uses servers. A line that says how many they were.
pub(super) fn of_random_conversations() -> String {
    let servers = Servers::start();
    let (http, socket) = (&servers.http, &servers.socket);
    let texts: Vec<String> = ["parts", "late", "cut", "x"].iter().map(|path| format!("get {http}/{path}")).collect();
    let others =
        [format!("socket {socket}/"), "get http://127.0.0.1:1/".into(), "think".into(), "chance".into(), "trap".into()];
    let texts: Vec<String> = texts.into_iter().chain(others).collect();
    let talk = Talk { texts: &texts, flags: &servers.allowed() };
    let line = replays("Rust", &guest("concierge"), count().max(COUNT_MIN), &talk);
    assert!(servers.taken() > 0, "no server was asked");
    line
}
