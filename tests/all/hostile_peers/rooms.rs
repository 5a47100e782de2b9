//! Servers of rooms that misbehave towards the agents that join. Other jobs of the worker go on.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::leave_request::Action;
use proto::server_message::Message as FromServer;
use proto::signal_response::Message as Response;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::case::Case;
use super::{Row, row};
use crate::support::harness::guest;
use crate::support::scripted_server::{Peer, Server, behind, holds, job, run};

pub(crate) const ROWS: &[Row] = &[Row {
    // Most of it is for the participants of one room, and for messages on their way: at most 8 MiB and 4 MiB a room.
    memory_mib_max: 128,
    time_max: Duration::from_secs(120),
    ..row(
        "six rooms whose servers send garbage, floods and endless orders",
        rooms,
        &[
            "garbage: timeout",
            "crowd: timeout",
            "metadata: timeout",
            "reconnect: timeout",
            "too large: timeout",
            "not allowed: not-allowed",
            "somebody else: success",
        ],
    )
}];

/// The token of the jobs, which nothing shows.
const TOKEN: &str = "the-token-of-the-job";

type Link = WebSocket<TcpStream>;

/// What the server of a room does on a link, until it fails.
type Behaviour = fn(&mut Link) -> tungstenite::Result<()>;

const BEHAVIOURS: [(&str, Behaviour); 5] = [
    ("garbage", |link| {
        loop {
            link.send(Message::Binary(vec![0xff; 999].into()))?;
            link.send(Message::Text("{}".into()))?;
        }
    }),
    ("crowd", |link| {
        say(link, join((0..9_000).map(|number| person(number, 64)).collect()))?;
        for round in 1.. {
            let people = (0..9_000).map(|number| person(number + round, 64)).collect();
            say(link, Response::Update(proto::ParticipantUpdate { participants: people }))?;
        }
        Ok(())
    }),
    ("metadata", |link| {
        say(link, join(vec![person(1, 3 << 20)]))?;
        for number in 2.. {
            say(link, Response::Update(proto::ParticipantUpdate { participants: vec![person(number, 3 << 20)] }))?;
        }
        Ok(())
    }),
    ("reconnect", |link| {
        say(link, join(Vec::new()))?;
        let leave = proto::LeaveRequest { action: Action::Reconnect.into(), ..Default::default() };
        say(link, Response::Leave(leave))?;
        read(link)
    }),
    ("too large", |link| {
        link.send(Message::Binary(vec![0; 5 << 20].into()))?;
        read(link)
    }),
];

fn say(link: &mut Link, message: Response) -> tungstenite::Result<()> {
    link.send(Message::Binary(proto::SignalResponse { message: Some(message) }.encode_to_vec().into()))
}

fn read(link: &mut Link) -> tungstenite::Result<()> {
    loop {
        link.read()?;
    }
}

fn join(other_participants: Vec<proto::ParticipantInfo>) -> Response {
    let room = proto::Room { name: "lobby".into(), ..Default::default() };
    Response::Join(proto::JoinResponse {
        room: Some(room),
        participant: Some(person(0, 1)),
        other_participants,
        ..Default::default()
    })
}

fn person(number: u32, metadata: usize) -> proto::ParticipantInfo {
    let (sid, identity, metadata) = (format!("PA_{number}"), format!("p{number}"), "x".repeat(metadata));
    proto::ParticipantInfo { sid, identity, metadata, state: 2, ..Default::default() }
}

/// The URL of a server of rooms that does this on each link.
fn server_of_rooms(behaviour: Behaviour) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // The worker hangs up.
                tungstenite::accept(stream).ok().map(|mut link| behaviour(&mut link))
            });
        }
    });
    url
}

/// A server that lets nobody in.
fn closed_server() -> String {
    let address = crate::support::network::answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno");
    format!("ws://{address}")
}

async fn begin(peer: &mut Peer, id: &str, url: &str) {
    peer.offer(id).await;
    assert!(peer.answer().await.available);
    let assignment = proto::JobAssignment { job: job(id), url: Some(url.into()), token: TOKEN.into() };
    peer.send(FromServer::Assignment(assignment)).await;
    assert_eq!(peer.report().await, (id.into(), proto::JobStatus::JsRunning, String::new()));
}

fn rooms(case: &mut Case) -> String {
    let events = tempfile::NamedTempFile::new().unwrap();
    let (path, hostile) = (events.path().to_str().unwrap(), BEHAVIOURS.map(|(name, act)| (name, server_of_rooms(act))));
    let closed = ("not allowed", closed_server());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let call = behind(&format!("ws://{}", listener.local_addr().unwrap()), &[guest("obedient").to_str().unwrap()]);
    let _door = case.worker(call.args(["--http", "127.0.0.1:0", "--events", path]));
    run(async {
        let server = Server(tokio::net::TcpListener::from_std(listener).unwrap());
        let mut peer = server.registered().await;
        let mut answers = Vec::new();
        for (name, url) in hostile.iter().chain([&closed]) {
            begin(&mut peer, name, url).await;
        }
        // A job beside them, whose room is only recorded.
        peer.begin("somebody else").await;
        holds(events.path(), "\"room.failed\"", 6).await;
        for _ in 0..6 {
            let (name, status, why) = peer.report().await;
            assert_eq!(status, proto::JobStatus::JsFailed, "{name}: {why}");
        }
        peer.terminated("somebody else").await;
        answers.push("somebody else: success".to_owned());
        let lines = std::fs::read_to_string(events.path()).unwrap();
        assert!(!lines.contains(TOKEN), "{lines}");
        let failed = lines.lines().filter(|line| line.contains("\"room.failed\""));
        answers.extend(failed.map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{}: {} ({})", event["job"].as_str().unwrap(), event["code"].as_str().unwrap(), event["detail"])
        }));
        answers.join("\n")
    })
}
