//! Text of strangers on a terminal, and terminals and pipes that go away.

use std::io::{Read, Write};
use std::net::TcpListener;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use wasm_worker_core::text::acts_on_terminal;

use super::case::Case;
use super::{Row, call, row};
use crate::support::dispatcher::token;
use crate::support::harness::{Done, wasm_worker};
use crate::support::scripted_server::run;

pub(crate) const ROWS: &[Row] = &[
    row("a worker whose version and errors command a terminal", odd_worker, &["clean", "2J", "forged", "failed"]),
    row("a worker whose name commands a terminal", odd_name, &["closed"]),
    call("a dispatcher whose answers command a terminal", odd_dispatcher, &["clean", "2J", "forged"]),
    call("a worker's HTTP whose answers command a terminal", odd_http, &["clean", "forged"]),
];

/// What a terminal would act on: the screen is cleared, a bell, a title, DEL, C1, a forged line, reversed text, separators.
const COMMANDS: &str =
    "\u{1b}[2J\u{7}\u{1b}]0;title\u{7}\u{7f}\u{9b}31m\r\nforged\u{202e}\u{2066}\u{2028}\u{2029}\u{85}";

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// What the program printed, and whether a terminal only shows it.
fn printed(all: &[Done]) -> String {
    let text: String = all.iter().flat_map(|done| [done.stdout.as_str(), done.stderr.as_str()]).collect();
    let lines = text.split('\n').any(|line| line.trim_start().starts_with("forged") || line.contains(acts_on_terminal));
    format!("{} {text:?}", if lines { "acts on the terminal" } else { "clean" })
}

/// Connect as a worker, and register under this name.
async fn connect(url: &str, agent_name: &str) -> Socket {
    let grants = VideoGrants { agent: true, ..Default::default() };
    let bearer = format!("Bearer {}", token("secret", grants));
    let request =
        ClientRequestBuilder::new(format!("{url}/agent").parse().unwrap()).with_header("Authorization", bearer);
    let (mut socket, _) = connect_async(request).await.unwrap();
    let (agent_name, version) = (agent_name.to_owned(), COMMANDS.to_owned());
    let register = proto::RegisterWorkerRequest { agent_name, version, ..Default::default() };
    send(&mut socket, ToServer::Register(register)).await;
    socket
}

async fn send(socket: &mut Socket, message: ToServer) {
    let message = proto::WorkerMessage { message: Some(message) };
    socket.send(Message::Binary(message.encode_to_vec().into())).await.unwrap();
}

/// The next message; nothing where the dispatcher closed the connection.
async fn next(socket: &mut Socket) -> Option<FromServer> {
    loop {
        match socket.next().await?.ok()? {
            Message::Binary(bytes) => return proto::ServerMessage::decode(bytes).unwrap().message,
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

/// Take one job, and report that it failed.
async fn fail_one_job(socket: &mut Socket) {
    while let Some(message) = next(socket).await {
        match message {
            FromServer::Availability(offer) => {
                let job_id = offer.job.unwrap().id;
                let answer = proto::AvailabilityResponse {
                    job_id,
                    available: true,
                    participant_identity: COMMANDS.into(),
                    participant_name: COMMANDS.into(),
                    ..Default::default()
                };
                send(socket, ToServer::Availability(answer)).await;
            }
            FromServer::Assignment(assignment) => {
                let (job_id, error) = (assignment.job.unwrap().id, COMMANDS.to_owned());
                let status = proto::JobStatus::JsFailed as i32;
                send(socket, ToServer::UpdateJob(proto::UpdateJobStatus { job_id, status, error })).await;
                return;
            }
            _ => {}
        }
    }
}

fn odd_worker(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let verb = |words: &[&str]| dispatcher.verb(words.iter().copied()).done();
    run(async {
        let mut socket = connect(&dispatcher.url, "stranger").await;
        assert!(matches!(next(&mut socket).await, Some(FromServer::Register(_))));
        let id = dispatcher.dispatch("room", "stranger", COMMANDS);
        fail_one_job(&mut socket).await;
        let waited = verb(&["dispatch", "nobody", "--deadline", "10ms", "--wait"]);
        let shown = [
            verb(&["job", &id]),
            verb(&["job", &id, "--json"]),
            verb(&["jobs"]),
            verb(&["jobs", "--json"]),
            verb(&["workers"]),
            verb(&["workers", "--json"]),
            waited,
        ];
        printed(&shown)
    })
}

fn odd_name(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    run(async {
        let mut socket = connect(&dispatcher.url, COMMANDS).await;
        let answer = next(&mut socket).await;
        if answer.is_none() { "closed".into() } else { format!("{answer:?}") }
    })
}

/// Answer every request with this status and body, until the process of the tests ends.
fn answering(status: &'static str, body: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 16 << 10];
            let read = stream.read(&mut head).unwrap_or(0);
            let request = String::from_utf8_lossy(&head[..read]).into_owned();
            let body = body(request.lines().next().unwrap_or_default());
            let head = format!("HTTP/1.1 {status}\r\nServer: wasm-worker\r\nConnection: close\r\n");
            drop(write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    address.to_string()
}

fn odd_dispatcher(case: &mut Case) -> String {
    let listing = answering("200 OK", |line| {
        let worker = serde_json::json!({
            "worker": COMMANDS, "agent": COMMANDS, "job_type": "room", "deployment": COMMANDS, "version": COMMANDS,
            "state": "available", "load": 0.5, "jobs": 1, "offers": 0, "since_ns": 0,
        });
        let dispatch = serde_json::json!({
            "state": "pending", "dispatch": COMMANDS, "job": COMMANDS, "agent": COMMANDS, "deployment": "",
            "room": COMMANDS, "priority": 0, "attempt": 1, "created_ns": 0, "assigned_ns": null, "started_ns": null,
            "ended_ns": null, "stopping": false, "worker": COMMANDS, "waiting": { "position": 1, "of": 1, "why": COMMANDS },
        });
        match line {
            line if line.contains("/workers") => serde_json::json!({ "workers": [worker] }),
            line if line.contains("/jobs?") => serde_json::json!({ "jobs": [dispatch] }),
            _ => dispatch,
        }
        .to_string()
    });
    let refusing = answering("400 Bad Request", |_| serde_json::json!({ "error": COMMANDS }).to_string());
    let mut all = Vec::new();
    for address in [listing, refusing] {
        let url = format!("ws://{address}");
        let mut verb = |words: &[&str]| case.run(wasm_worker(words.iter().copied()).env("LIVEKIT_URL", &url));
        all.extend([verb(&["workers"]), verb(&["jobs"]), verb(&["job", "AD_1"]), verb(&["workers", "--json"])]);
    }
    printed(&all)
}

fn odd_http(case: &mut Case) -> String {
    let logs = answering("200 OK", |line| {
        let lines = serde_json::json!([{
            "number": 0, "at": "2026-01-01T00:00:00Z", "level": "info", "message": COMMANDS, "fields": { COMMANDS: COMMANDS },
        }]);
        match line {
            line if line.contains("/logs") => {
                serde_json::json!({ "job": COMMANDS, "ended": true, "not_kept": 0, "lines": lines })
            }
            line if line.contains("/drain") => serde_json::json!({ "state": COMMANDS }),
            _ => serde_json::json!({ "error": COMMANDS }),
        }
        .to_string()
    });
    let refusing = answering("409 Conflict", |_| COMMANDS.to_owned());
    let mut all = Vec::new();
    for address in [logs, refusing] {
        let url = format!("http://{address}");
        let mut verb = |words: &[&str]| case.run(wasm_worker(words.iter().copied()).args(["--worker", &url]));
        all.extend([verb(&["logs", "AJ_1"]), verb(&["drain"]), verb(&["ps"]), verb(&["kill", "AJ_1"])]);
    }
    printed(&all)
}
