//! Callers and workers that ask for more than an answer, a frame or a queue may hold.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use livekit_token::VideoGrants;
use serde_json::{Value, json};

use super::case::Case;
use super::{Row, row};
use crate::support::dispatcher::{Dispatcher, everything, token};
use crate::support::harness::eventually;

pub(crate) const ROWS: &[Row] = &[
    row("a room of 60 KiB, named 900 times", rooms_named_again, &["200: 1 rooms"]),
    row("1,001 names of rooms", too_many_names, &["400 ", "at most 1000 are allowed"]),
    Row {
        // The rooms themselves, four lists that are made, and what waits to be sent.
        memory_mib_max: 448,
        ..row("24 callers at once ask for 24 MiB of rooms", all_rooms, &["429 ", "more than 16777216 bytes"])
    },
    row("a worker asks for 2,000 jobs to try its agent", simulations, &["simulated: 1"]),
    Row {
        memory_mib_max: 24,
        descriptors_max: 520,
        ..row("500 workers that idle", idle_workers, &["registered: 500"])
    },
    row("3,000 names of agents that nobody serves", agent_names, &["series: 1 of 3000"]),
];

const LIST_ROOMS: &str = "RoomService/ListRooms";

fn create_rooms(dispatcher: &Dispatcher, count: usize) {
    for number in 0..count {
        let room = json!({ "name": format!("room-{number}"), "metadata": "m".repeat(60_000) });
        assert_eq!(dispatcher.twirp("RoomService/CreateRoom", "", &room).status, 200);
    }
}

fn rooms_named_again(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    create_rooms(dispatcher, 1);
    let answer = dispatcher.twirp(LIST_ROOMS, "", &json!({ "names": vec!["room-0"; 900] }));
    format!("{}: {} rooms", answer.status, answer.body["rooms"].as_array().map_or(0, Vec::len))
}

fn too_many_names(case: &mut Case) -> String {
    let names: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
    let answer = case.dispatcher(&[]).twirp(LIST_ROOMS, "", &json!({ "names": names }));
    format!("{} {}", answer.status, answer.body)
}

fn all_rooms(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    create_rooms(dispatcher, 420);
    let some: Vec<String> = (0..250).map(|number| format!("room-{number}")).collect();
    std::thread::scope(|scope| {
        let ask = |names: Value| scope.spawn(move || dispatcher.twirp(LIST_ROOMS, "", &json!({ "names": names })));
        let callers: Vec<_> = (0..24).map(|number| ask(if number == 0 { json!([]) } else { json!(some) })).collect();
        let answers = callers.into_iter().map(|caller| caller.join().unwrap());
        answers.map(|answer| format!("{} {}\n", answer.status, answer.body["msg"])).collect()
    })
}

/// A text frame of a client, with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[0x81, 0x80 | length, 0, 0, 0, 0][..], text.as_bytes()].concat()
}

/// The connection of a worker that has registered this agent.
fn worker_socket(dispatcher: &Dispatcher, agent: &str) -> TcpStream {
    let mut socket = TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap();
    let head = format!(
        "GET /agent HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {}\r\n\r\n",
        token("secret", VideoGrants { agent: true, ..Default::default() })
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(socket.read(&mut [0; 1 << 10]).unwrap() > 0);
    socket.write_all(&frame(&format!(r#"{{"register":{{"type":"JT_ROOM","agentName":"{agent}"}}}}"#))).unwrap();
    socket
}

fn idle_workers(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let _held: Vec<TcpStream> = (0..500).map(|_| worker_socket(dispatcher, "idle")).collect();
    let idle = || dispatcher.workers().iter().filter(|worker| worker["agent"] == "idle").count();
    eventually("all are registered", || (idle() == 500).then_some(()));
    format!("registered: {}", idle())
}

fn simulations(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let mut socket = worker_socket(dispatcher, "self-made");
    socket.write_all(&frame(r#"{"simulateJob":{"room":{"name":"simulated"}}}"#).repeat(2_000)).unwrap();
    // The worker's last frame is handled after all others.
    socket.write_all(&frame(r#"{"updateWorker":{"status":"WS_FULL","load":0.9}}"#)).unwrap();
    eventually("every frame is handled", || {
        dispatcher
            .workers()
            .iter()
            .any(|worker| worker["agent"] == "self-made" && worker["state"] == "full")
            .then_some(())
    });
    let path = "/api/v1/jobs?room=simulated&limit=10000";
    let jobs = dispatcher.ask("GET", path, "", &everything("simulated"), &[], "").body;
    format!("simulated: {}", jobs["jobs"].as_array().map_or(0, Vec::len))
}

fn agent_names(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    (0..3_000).for_each(|number| drop(dispatcher.dispatch("r", &format!("stranger-{number}"), "")));
    let metrics = dispatcher.ask("GET", "/metrics", "", "", &[], "").body;
    let metrics = metrics.as_str().unwrap_or_default();
    let created =
        metrics.lines().find(|line| line.starts_with("wasm_worker_dispatches_created_total{agent=\"(other)\"}"));
    let count = created.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    format!("series: {} of {count}", 1 + metrics.matches("stranger-").count())
}
