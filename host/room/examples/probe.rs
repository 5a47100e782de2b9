//! Rooms on a LiveKit server that runs with `--dev`: how fast they are joined, what they take, and an agent to talk to.
//!
//! ```text
//! probe load COUNT [PREFIX]  join that many rooms one after another, and print the times of the joins and the memory
//! probe agent ROOM [NAME]    join a room and be the agent that tests/interop/clients/person.py meets; print every event, until a line
//!                            arrives on standard input
//! ```
//!
//! `LIVEKIT_URL` is the server; `ws://127.0.0.1:7880` by default.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "a tool that prints, and whose faults end it"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::http::Uri;
use wasm_worker_core::room::command::{AgentState, Command, RpcError, SendOptions};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};

/// Connects without names, proxies and TLS, as loopback needs none.
struct Plain;

impl Connect for Plain {
    fn connect(&self, url: &Uri) -> Connecting {
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: 10_000 }, Arc::new(Plain)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match arguments.as_slice() {
            ["load", count, rest @ ..] => load(&rooms, count.parse().unwrap(), rest.first().unwrap_or(&"load")).await,
            ["agent", room, rest @ ..] => agent(&rooms, room, rest.first().unwrap_or(&"agent")).await,
            _ => println!("probe load COUNT [PREFIX] | probe agent ROOM [NAME]"),
        }
        rooms.left().await;
    });
}

fn settings(room: &str, identity: &str) -> RoomSettings {
    let grants = livekit_token::VideoGrants {
        room_join: true,
        room: room.into(),
        can_update_own_metadata: Some(true),
        agent: true,
        ..Default::default()
    };
    let token =
        livekit_token::AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants);
    let token = token.with_kind("agent").with_ttl(Duration::from_secs(3_600)).to_jwt().unwrap();
    RoomSettings {
        url: std::env::var("LIVEKIT_URL").unwrap_or_else(|_| "ws://127.0.0.1:7880".into()),
        token: Secret(token),
        name: String::new(),
        metadata: String::new(),
        attributes: vec![("lk.agent.state".into(), "initializing".into())],
        limits: RoomLimits::default(),
    }
}

/// Resident memory in KiB, and CPU time in ms.
fn used() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    (resident.trim().trim_end_matches(" kB").parse().unwrap(), ticks * 10)
}

async fn load(rooms: &Rooms, count: usize, prefix: &str) {
    let before = used();
    println!("before: {} KiB resident", before.0);
    let mut joined: Vec<Room> = Vec::new();
    let mut times = Vec::new();
    for number in 0..count {
        let room = rooms.open(settings(&format!("{prefix}-{number}"), "agent")).unwrap();
        let began = Instant::now();
        room.try_perform(Command::Connect { id: 1 }).unwrap();
        loop {
            match room.next().await.unwrap() {
                RoomEvent::Done(1) => break,
                RoomEvent::Failed(failure) => panic!("{failure:?}"),
                _ => {}
            }
        }
        times.push(began.elapsed());
        joined.push(room);
        if [10, 100, 200, 500, 1_000, 2_000].contains(&joined.len()) {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = used();
            let a_room = (now.0 - before.0) / joined.len() as u64;
            println!("{} rooms: {} KiB resident, {a_room} KiB a room", joined.len(), now.0);
        }
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros() as f64 / 1_000.0;
    println!("join: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, longest {:.1} ms", at(50), at(90), at(99), at(100));
    let idle = used();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = used();
    println!("idle for 20 s: {} KiB resident, {} ms of CPU", after.0, after.1 - idle.1);
    println!("the first: {:?}", joined.first().unwrap().statistics());
    drop(joined);
    while rooms.count() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("after: {} KiB resident", used().0);
}

async fn agent(rooms: &Rooms, name: &str, identity: &str) {
    let room = rooms.open(settings(name, identity)).unwrap();
    let mut ids = 1;
    let mut id = || {
        ids += 1;
        ids
    };
    room.try_perform(Command::SetAttributes { id: id(), attributes: vec![("made-by".into(), "probe".into())] })
        .unwrap();
    room.try_perform(Command::Connect { id: 1 }).unwrap();
    let mut stop = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    loop {
        let event = tokio::select! {
            event = room.next() => event.unwrap(),
            _ = &mut stop => {
                room.try_perform(Command::SendText {
                    id: id(), topic: "lk.chat".into(), text: "bye".into(), options: SendOptions::default(),
                }).unwrap();
                room.try_perform(Command::Disconnect).unwrap();
                loop {
                    let event = room.next().await.unwrap();
                    println!("{event:?}");
                    if matches!(event, RoomEvent::Disconnected { .. }) { break; }
                }
                println!("{:?}", room.statistics());
                return;
            }
        };
        println!("{event:?}");
        match event {
            RoomEvent::Connected { .. } => {
                room.try_perform(Command::SetAgentState { state: AgentState::Listening }).unwrap();
            }
            RoomEvent::Text { info, text } => {
                let options = SendOptions { reply_to: info.stream_id, ..SendOptions::default() };
                let text = format!("echo {text}");
                room.try_perform(Command::SendText { id: id(), topic: info.topic, text, options }).unwrap();
            }
            RoomEvent::File { info, bytes } => {
                let (destination, payload, timeout) =
                    (info.sender.unwrap(), info.name.clone(), Duration::from_secs(60));
                room.try_perform(Command::Call {
                    id: id(),
                    destination,
                    method: "accept_file".into(),
                    payload,
                    timeout,
                })
                .unwrap();
                let (topic, name, mime_type) = (info.topic, info.name, info.mime_type);
                let options = SendOptions::default();
                room.try_perform(Command::SendFile { id: id(), topic, name, mime_type, bytes, options }).unwrap();
            }
            RoomEvent::Data { topic, payload, reliable, .. } => {
                let id = reliable.then(&mut id);
                room.try_perform(Command::SendData { id, topic, payload, destinations: Vec::new() }).unwrap();
            }
            RoomEvent::RpcRequest { id: request, method, payload, .. } => {
                let unknown = RpcError { code: 1_400, message: "unknown".into(), data: String::new() };
                let answer = if method == "echo" { Ok(format!("echo {payload}")) } else { Err(unknown) };
                room.try_perform(Command::Answer { request, answer }).unwrap();
            }
            RoomEvent::RpcAnswer { .. } => {
                room.try_perform(Command::SetAgentState { state: AgentState::Speaking }).unwrap();
            }
            RoomEvent::Disconnected { .. } => {
                println!("{:?}", room.statistics());
                return;
            }
            _ => {}
        }
    }
}
