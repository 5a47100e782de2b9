//! Callers and workers that ask for more than an answer, a frame or a queue may hold.

use std::net::TcpStream;
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message, WebSocket};

use super::case::Case;
use super::{Row, row};
use crate::support::dispatcher::{Dispatcher, everything, token};
use crate::support::harness::{eventually, pause};

pub(crate) const ROWS: &[Row] = &[
    row(
        "an agent that accepts with 300,000 control characters",
        long_acceptance,
        &["at most 65536 are allowed", "brief: completed"],
    ),
    row(
        "a worker that accepts with 1.9 MiB of metadata",
        foreign_acceptance,
        &["rejected: the agent's acceptance is too long", "terminated"],
    ),
    row(
        "a dispatch in the store that fits no frame",
        long_dispatch_in_the_store,
        &["unserved: the job is too long", "brief: completed"],
    ),
    row(
        "a dispatch with 768 KiB of metadata in a room with as much",
        long_dispatch_and_room,
        &["invalid_argument", "a job has at most"],
    ),
    // The frames themselves are 160 MB.
    row("a worker that migrates 8 million jobs", migrations, &["listed within 2 s"]),
    // The dispatches themselves have 40 MiB.
    Row {
        memory_mib_max: 96,
        time_max: Duration::from_secs(120),
        ..row("8 callers that list 3,000 dispatches with metadata, again and again", lists, &["created within 2 s"])
    },
    row("a room of 60 KiB, named 900 times", rooms_named_again, &["200: 1 rooms"]),
    row("1,001 names of rooms", too_many_names, &["400 ", "at most 1000 are allowed"]),
    Row {
        // The rooms themselves, four lists that are made, and what waits to be sent.
        memory_mib_max: 448,
        ..row(
            "24 callers at once ask for 24 MiB of rooms",
            all_rooms,
            &["200 null\n", "429 ", "more than 16777216 bytes"],
        )
    },
    row("a worker asks for 2,000 jobs to try its agent", simulations, &["simulated: 1 job\n"]),
    Row {
        memory_mib_max: 24,
        descriptors_max: 520,
        ..row("500 workers that idle", idle_workers, &["registered: 500 workers"])
    },
    row("3,000 names of agents that nobody serves", agent_names, &["series: 1 of 3000."]),
];

/// The connection of a worker that is written by hand.
type Worker = WebSocket<TcpStream>;

fn worker(dispatcher: &Dispatcher, agent: &str) -> Worker {
    let url = format!("{}/agent", dispatcher.url);
    let token = token("secret", VideoGrants { agent: true, ..Default::default() });
    let request =
        ClientRequestBuilder::new(url.parse().unwrap()).with_header("Authorization", format!("Bearer {token}"));
    let stream = TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap();
    let (mut worker, _) = tungstenite::client(request, stream).unwrap();
    let register = proto::RegisterWorkerRequest { agent_name: agent.into(), ..Default::default() };
    send(&mut worker, ToServer::Register(register));
    assert!(matches!(receive(&mut worker), FromServer::Register(_)));
    worker
}

fn send(worker: &mut Worker, message: ToServer) {
    let message = proto::WorkerMessage { message: Some(message) };
    worker.send(Message::Binary(message.encode_to_vec().into())).unwrap();
}

fn receive(worker: &mut Worker) -> FromServer {
    loop {
        if let Message::Binary(bytes) = worker.read().unwrap() {
            return proto::ServerMessage::decode(bytes).unwrap().message.unwrap();
        }
    }
}

fn end_of(dispatcher: &Dispatcher, id: &str) -> String {
    let job = dispatcher.ended(id);
    format!("{}: {}", job["code"].as_str().unwrap(), job["detail"].as_str().unwrap())
}

fn long_acceptance(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let events = tempfile::NamedTempFile::new().unwrap();
    let flags = ["--events", events.path().to_str().unwrap(), "--max-retry", "2"];
    let worker = dispatcher.worker(&["verbose", "nap"], &flags);
    let refused = dispatcher.dispatch("r", "verbose", "");
    let said = eventually("the offer is refused", || {
        std::fs::read_to_string(events.path()).ok().filter(|lines| lines.contains("offer.refused"))
    });
    let end = end_of(dispatcher, &dispatcher.dispatch("r", "nap", "1"));
    assert!(!said.contains("link.lost"), "{said}");
    dispatcher.verb(["cancel", &refused]).done();
    worker.kill();
    format!("{said} brief: {end}")
}

fn foreign_acceptance(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let mut worker = worker(dispatcher, "by-hand");
    let id = dispatcher.dispatch("r", "by-hand", "");
    let FromServer::Availability(request) = receive(&mut worker) else { panic!("no offer") };
    let answer = proto::AvailabilityResponse {
        job_id: request.job.unwrap().id,
        available: true,
        participant_metadata: "x".repeat(1_900 << 10),
        ..Default::default()
    };
    send(&mut worker, ToServer::Availability(answer));
    let end = end_of(dispatcher, &id);
    let told = matches!(receive(&mut worker), FromServer::Termination(_));
    format!("{end} {}", if told { "terminated" } else { "not told" })
}

fn long_dispatch_in_the_store(case: &mut Case) -> String {
    let mut dispatcher = Dispatcher::start(&[]);
    let id = dispatcher.dispatch("r", "brief", "");
    dispatcher.kill();
    let store = Connection::open(dispatcher.store()).unwrap();
    store.execute("UPDATE dispatches SET metadata = ?1", ["x".repeat(3 << 20)]).unwrap();
    drop(store);
    dispatcher.start_again();
    // The first job of a process takes memory that is not the price of the long dispatch.
    let first = dispatcher.worker(&["nap"], &[]);
    end_of(&dispatcher, &dispatcher.dispatch("r", "nap", "1"));
    first.kill();
    case.watch(dispatcher.pid());
    let worker = dispatcher.worker(&["brief"], &["--max-retry", "2"]);
    let ends = [id, dispatcher.dispatch("r", "brief", "")].map(|id| end_of(&dispatcher, &id));
    case.check("dispatcher", &dispatcher.said());
    case.check("worker", &worker.said());
    worker.kill();
    ends.join("; brief: ")
}

fn long_dispatch_and_room(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&["--metadata-limit", "768KiB"]);
    let metadata = "x".repeat(768 << 10);
    let room = json!({ "name": "r", "metadata": metadata });
    assert_eq!(dispatcher.twirp("RoomService/CreateRoom", "r", &room).status, 200);
    let request = json!({ "room": "r", "agent_name": "brief", "metadata": metadata });
    dispatcher.twirp("AgentDispatchService/CreateDispatch", "r", &request).body.to_string()
}

fn migrations(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let mut worker = worker(dispatcher, "by-hand");
    let job_ids: Vec<String> = (0..20_000).map(|job| format!("AJ_{job:012}")).collect();
    for _ in 0..400 {
        send(&mut worker, ToServer::MigrateJob(proto::MigrateJobRequest { job_ids: job_ids.clone() }));
    }
    let began = Instant::now();
    let listed = dispatcher.ask("GET", "/api/v1/jobs", "application/json", &everything(""), &[], "");
    assert_eq!(listed.status, 200, "{}", listed.body);
    took(began.elapsed(), "listed")
}

fn took(time: Duration, what: &str) -> String {
    if time < Duration::from_secs(2) { format!("{what} within 2 s") } else { format!("{what} after {time:?}") }
}

fn lists(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&["--queue-limit", "100000", "--store-sync", "checkpoint"]);
    let metadata = "x".repeat(10 << 10);
    for _ in 0..3_000 {
        dispatcher.dispatch("r", "nobody", &metadata);
    }
    let start = Barrier::new(LISTERS + 1);
    let list = || {
        start.wait();
        for _ in 0..5 {
            let path = "/api/v1/jobs?limit=10000";
            let listed = dispatcher.ask("GET", path, "application/json", &everything(""), &[], "");
            assert!([200, 429].contains(&listed.status), "{}: {}", listed.status, listed.body);
        }
    };
    std::thread::scope(|scope| {
        let listers: Vec<_> = (0..LISTERS).map(|_| scope.spawn(list)).collect();
        start.wait();
        let mut longest = Duration::ZERO;
        while !listers.iter().all(ScopedJoinHandle::is_finished) {
            let began = Instant::now();
            dispatcher.dispatch("r", "nobody", "");
            longest = longest.max(began.elapsed());
            pause(BETWEEN_DISPATCHES);
        }
        took(longest, "created")
    })
}

/// Callers that list at once.
const LISTERS: usize = 8;
/// The pause between two dispatches beside them.
const BETWEEN_DISPATCHES: Duration = Duration::from_millis(50);

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
    let some: Vec<String> = (0..150).map(|number| format!("room-{number}")).collect();
    std::thread::scope(|scope| {
        let ask = |names: Value| scope.spawn(move || dispatcher.twirp(LIST_ROOMS, "", &json!({ "names": names })));
        let callers: Vec<_> = (0..24).map(|number| ask(if number == 0 { json!([]) } else { json!(some) })).collect();
        let answers = callers.into_iter().map(|caller| caller.join().unwrap());
        answers.map(|answer| format!("{} {}\n", answer.status, answer.body["msg"])).collect()
    })
}

fn idle_workers(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let _held: Vec<Worker> = (0..500).map(|_| worker(dispatcher, "idle")).collect();
    let idle = dispatcher.workers().iter().filter(|worker| worker["agent"] == "idle").count();
    format!("registered: {idle} workers")
}

fn simulations(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let mut worker = worker(dispatcher, "self-made");
    for _ in 0..2_000 {
        let room = Some(proto::Room { name: "simulated".into(), ..Default::default() });
        send(&mut worker, ToServer::SimulateJob(proto::SimulateJobRequest { room, ..Default::default() }));
    }
    // The worker's last frame is handled after all others.
    let status = Some(proto::WorkerStatus::WsFull as i32);
    send(&mut worker, ToServer::UpdateWorker(proto::UpdateWorkerStatus { status, load: 0.9, ..Default::default() }));
    eventually("every frame is handled", || {
        let is_full = |worker: &Value| worker["agent"] == "self-made" && worker["state"] == "full";
        dispatcher.workers().iter().any(is_full).then_some(())
    });
    // Its answer comes when everything before it is in the store, which the list is read from.
    dispatcher.dispatch("later", "nobody", "");
    let path = "/api/v1/jobs?room=simulated&limit=10000";
    let jobs = dispatcher.ask("GET", path, "", &everything("simulated"), &[], "").body;
    format!("simulated: {} job\n", jobs["jobs"].as_array().map_or(0, Vec::len))
}

fn agent_names(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    (0..3_000).for_each(|number| drop(dispatcher.dispatch("r", &format!("stranger-{number}"), "")));
    let metrics = dispatcher.ask("GET", "/metrics", "", "", &[], "").body;
    let metrics = metrics.as_str().unwrap_or_default();
    let other = "wasm_worker_dispatches_created_total{agent=\"(other)\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(other)).unwrap_or("0");
    format!("series: {} of {count}.", 1 + metrics.matches("stranger-").count())
}
