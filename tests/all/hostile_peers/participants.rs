//! Participants of a room that misbehave towards the agent in it.

use std::sync::Arc;
use std::time::Duration;

use livekit_token::{AccessToken, VideoGrants};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;
use wasm_worker_core::room::command::{Command, SendOptions};
use wasm_worker_core::room::connection::CommandRefused;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};

use super::case::Case;
use super::{Row, row};
use crate::support::dispatcher::Dispatcher;
use crate::support::harness::eventually;
use crate::support::scripted_server::run;

pub(crate) const ROWS: &[Row] = &[Row {
    // What one room may hold: 4 MiB of streams that have not ended, and the facts of its people.
    memory_mib_max: 64,
    time_max: Duration::from_secs(300),
    ..row(
        "participants that open 1,000 streams without an end, flood and come again",
        floods,
        &["agent: terminated", "beside: terminated"],
    )
}];

/// How often a participant joins, opens streams, and leaves.
const ROUNDS: u32 = 3;
const STREAMS: u32 = 1_000;
/// The number of the change of the own metadata.
const LARGE: u32 = 1_000_000;

struct Plain;

impl Connect for Plain {
    fn connect(&self, url: &Uri) -> Connecting {
        let authority = url.authority().unwrap().to_string();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

fn token() -> String {
    let grants = VideoGrants {
        room_join: true,
        room: "lobby".into(),
        can_update_own_metadata: Some(true),
        ..VideoGrants::default()
    };
    AccessToken::with_api_key("devkey", "secret").with_identity("hostile").with_grants(grants).to_jwt().unwrap()
}

/// Have the room do it, once it has space.
async fn perform(room: &Room, mut command: Command) {
    while let Err(CommandRefused::Full(refused)) = room.try_perform(command) {
        command = refused;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Take events until this operation has succeeded.
async fn done(room: &Room, operation: u32) {
    loop {
        match room.next().await.expect("the room is not over") {
            RoomEvent::Done(id) if id == operation => return,
            RoomEvent::Failed(failure) if failure.id == operation => panic!("{failure:?}"),
            RoomEvent::Disconnected { reason, message } => panic!("{reason:?}: {message}"),
            _ => {}
        }
    }
}

async fn flood(rooms: &Rooms, url: &str, round: u32) {
    let settings = RoomSettings {
        url: url.into(),
        token: Secret(token()),
        name: "x".repeat(200),
        // More does not fit into the request of a join.
        metadata: "m".repeat(8 << 10),
        attributes: vec![("a".into(), "b".repeat(8 << 10))],
        limits: RoomLimits::default(),
    };
    let room = rooms.open(settings).unwrap();
    perform(&room, Command::Connect { id: 1 }).await;
    done(&room, 1).await;
    perform(&room, Command::SetMetadata { id: LARGE, metadata: "m".repeat(60 << 10) }).await;
    for id in 2..STREAMS + 2 {
        let options = SendOptions { stream_id: format!("{round}-{id}"), ..SendOptions::default() };
        perform(&room, Command::OpenText { id, topic: "lk.chat".into(), options }).await;
        perform(&room, Command::WriteText { id, text: "x".repeat(2_000) }).await;
        let payload = vec![0; 1_000];
        perform(&room, Command::SendData { id: None, topic: "t".into(), payload, destinations: Vec::new() }).await;
    }
    // What was sent before this is on its way.
    let last = STREAMS + 2;
    let data = Command::SendData { id: Some(last), topic: "t".into(), payload: vec![1], destinations: Vec::new() };
    perform(&room, data).await;
    done(&room, last).await;
    // It leaves without a farewell: the room is dropped.
}

fn floods(case: &mut Case) -> String {
    let dispatcher = Dispatcher::start(&[]);
    let events = tempfile::NamedTempFile::new().unwrap();
    let worker = dispatcher.worker(&["obedient"], &["--events", events.path().to_str().unwrap()]);
    let published = |name: &str| {
        let text = std::fs::read_to_string(events.path()).unwrap();
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == name).collect::<Vec<_>>()
    };
    eventually("the worker is registered", || (!dispatcher.workers().is_empty()).then_some(()));
    let agent = dispatcher.dispatch("lobby", "obedient", "");
    let beside = dispatcher.dispatch("other", "obedient", "");
    for id in [&agent, &beside] {
        dispatcher.in_state(id, "running");
    }
    eventually("both agents are in their rooms", || (published("room.joined").len() == 2).then_some(()));
    case.watch(worker.pid());
    let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: 4 }, Arc::new(Plain)).unwrap();
    run(async {
        for round in 0..ROUNDS {
            flood(&rooms, &dispatcher.url, round).await;
        }
    });
    let end = |id: &str| {
        assert_eq!(dispatcher.verb(["cancel", id]).done().exit, 0);
        dispatcher.ended(id)["code"].as_str().unwrap().to_owned()
    };
    let answer = format!("agent: {}, beside: {}", end(&agent), end(&beside));
    let left = eventually("the agent has left its room", || {
        published("room.left").into_iter().find(|event| event["room"] == "lobby")
    });
    assert!(left["packets_received"].as_u64().unwrap() > u64::from(STREAMS), "the flood reaches the agent: {left}");
    case.check("worker", &worker.said());
    case.check("dispatcher", &dispatcher.said());
    worker.kill();
    answer
}
