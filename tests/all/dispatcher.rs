//! The embedded dispatcher: its API, its queue, and the jobs whose worker or dispatcher dies.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_token::VideoGrants;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use crate::documentation::generated;
use crate::support::dispatcher::{Dispatcher, everything, token};
use crate::support::harness::{eventually, guest, path, wasm_worker};

const CREATE: &str = "AgentDispatchService/CreateDispatch";
const LIST: &str = "AgentDispatchService/ListDispatch";

/// A port that was free a moment ago.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn first_run_without_a_server_dispatches_and_a_second_run_joins_its_pool() {
    let (dir, listen) = (tempfile::tempdir().unwrap(), free_port());
    let store = dir.path().join("store.db");
    let start = |agents: &[&str]| {
        let agents: Vec<String> = agents.iter().map(|name| guest(name).to_str().unwrap().to_owned()).collect();
        let call = wasm_worker(["run", "--listen", &listen, "--store", store.to_str().unwrap(), "--http", "off"]);
        call.env("WASM_WORKER_LOAD_THRESHOLD", "none").args(agents.iter().map(String::as_str)).start()
    };
    let verb = |words: &[&str]| wasm_worker(words.iter().copied()).env("LIVEKIT_URL", format!("ws://{listen}")).done();
    let first = start(&["brief", "panic"]);
    eventually("it answers", || (verb(&["workers"]).stdout.matches(" available ").count() == 2).then_some(()));

    let done = verb(&["dispatch", "brief", "--wait"]);
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    for part in ["✔ completed: ", "dispatch AD_", "attempt  1, job AJ_", "fuel", "assigned after "] {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    let done = verb(&["dispatch", "panic", "--wait", "--json", "--room", "r", "--metadata", "m"]);
    assert_eq!(done.exit, 11);
    let job: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&job["code"], &job["room"], &job["metadata"]), (&"trapped".into(), &"r".into(), &"m".into()));
    assert!(job["detail"].as_str().unwrap().contains("no third word"), "{job}");
    let shown = verb(&["job", job["dispatch"].as_str().unwrap()]).stdout;
    for part in
        ["✘ trapped: ", "\n  blame    agent\n  retry    unlikely to help", "\n  trap     unreachable", "\n  in       "]
    {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
    assert!(verb(&["jobs", "--room", "r"]).stdout.contains("✘  AD_"));
    assert_eq!(verb(&["jobs", "--state", "ended"]).stdout.lines().count(), 3, "with the headers");
    let jobs = verb(&["jobs"]).stdout;
    let columns = ["DISPATCH", "JOB", "AGENT", "ROOM", "AGE", "DURATION", "STATUS"];
    assert!(jobs.lines().next().unwrap().split_whitespace().eq(columns), "{jobs}");
    for list in [&["jobs", "--json"], &["workers", "--json"]] {
        let lines = verb(list).stdout;
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2, "{lines}");
    }
    verb(&["job", "AD_nobody"]).fails_with(2, &["no dispatch or job has the id `AD_nobody`"]);

    let second = start(&["brief"]);
    eventually("the second one joins", || {
        (verb(&["workers"]).stdout.matches(" available ").count() == 3).then_some(())
    });
    for worker in [second, first] {
        worker.signal(Signal::TERM);
        let done = worker.done();
        assert_eq!(done.exit, 0, "{}", done.stderr);
    }
    verb(&["workers"]).fails_with(1, &["does not answer", "hint: start one with `wasm-worker run AGENT`"]);
}

#[test]
fn queued_dispatch_reports_its_reason_and_survives_a_restart() {
    let mut dispatcher = Dispatcher::start(&[]);
    let first = dispatcher.dispatch("r", "brief", "");
    let second = dispatcher.dispatch("r", "brief", "");
    let listed = dispatcher.twirp(LIST, "r", &json!({ "room": "r" })).body;
    let state = &listed["agentDispatches"][1]["state"]["jobs"][0]["state"];
    // The first of an enum is left out in JSON, as protobuf has it.
    assert_eq!(state["status"], Value::Null);
    assert_eq!(state["error"], "pending: 2 of 2; no worker of agent `brief` is connected");
    dispatcher.kill();
    dispatcher.start_again();
    assert_eq!(dispatcher.job(&second)["waiting"]["position"], 2);
    let worker = dispatcher.worker(&["brief"], &[]);
    for id in [&first, &second] {
        let job = dispatcher.ended(id);
        assert_eq!((&job["code"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
        assert!(job["attempts"][0]["usage"]["fuel"].as_u64().unwrap() > 0);
    }
    let listed = dispatcher.twirp(LIST, "r", &json!({ "room": "r", "dispatch_id": first })).body;
    assert_eq!(listed["agentDispatches"][0]["state"]["jobs"][0]["state"]["status"], "JS_SUCCESS");
    worker.kill();
}

#[test]
fn worker_with_room_again_gets_the_highest_priority_first() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |priority: i32| {
        let attributes = json!({ "wasm-worker.priority": priority.to_string() });
        let request = json!({ "agent_name": "nap", "room": "r", "attributes": attributes });
        dispatcher.twirp(CREATE, "r", &request).body["id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = [0, 5, -1].map(create).into();
    let worker = dispatcher.worker(&["nap"], &["--max-jobs", "1"]);
    let assigned = |id: &String| dispatcher.ended(id)["assigned_ns"].as_i64().unwrap();
    let [normal, urgent, late] = [assigned(&ids[0]), assigned(&ids[1]), assigned(&ids[2])];
    assert!(urgent < normal && normal < late, "{urgent} {normal} {late}");
    worker.kill();
}

#[test]
fn running_job_survives_a_killed_dispatcher_and_ends_once() {
    let mut dispatcher = Dispatcher::start(&[]);
    let events = tempfile::NamedTempFile::new().unwrap();
    let worker = dispatcher.worker(&["obedient", "nap"], &["--events", path(events.path())]);
    let long = dispatcher.dispatch("r", "obedient", "");
    let job = dispatcher.in_state(&long, "running");
    let short = dispatcher.dispatch("r", "nap", "10000");
    dispatcher.in_state(&short, "running");
    dispatcher.kill();
    // One ends while nobody is there to hear of it.
    let events = || std::fs::read_to_string(events.path()).unwrap();
    eventually("the short one ends", || events().contains(r#""event":"job.closed""#).then_some(()));
    dispatcher.start_again();
    let ended = dispatcher.ended(&short);
    assert_eq!((&ended["code"], &ended["attempt"]), (&"completed".into(), &1.into()), "{ended}");
    // It has registered anew, under another name.
    let same = eventually("it has its worker again", || {
        Some(dispatcher.job(&long)).filter(|same| same["worker"] != job["worker"])
    });
    assert_eq!((&same["job"], &same["state"]), (&job["job"], &"running".into()), "{same}");
    assert_eq!(dispatcher.verb(["cancel", &long]).done().exit, 0);
    let ended = dispatcher.ended(&long);
    assert_eq!((&ended["code"], ended["attempts"].as_array().unwrap().len()), (&"terminated".into(), 1), "{ended}");
    dispatcher.verb(["cancel", &long]).done().fails_with(2, &["has ended"]);
    worker.kill();
}

#[test]
fn job_of_a_dead_worker_runs_again_elsewhere_with_its_attempt_number() {
    let dispatcher = Dispatcher::start(&["--lost-after", "1s"]);
    let first = dispatcher.worker(&["obedient"], &[]);
    let id = dispatcher.dispatch("r", "obedient", "");
    let once = json!({ "agent_name": "obedient", "room": "r", "restart_policy": "JRP_NEVER" });
    let once = dispatcher.twirp(CREATE, "r", &once).body["id"].as_str().unwrap().to_owned();
    let job = dispatcher.in_state(&id, "running")["job"].clone();
    dispatcher.in_state(&once, "running");
    let events = tempfile::NamedTempFile::new().unwrap();
    let flags = ["--events", events.path().to_str().unwrap()];
    first.kill();
    let second = dispatcher.worker(&["obedient"], &flags);
    let ended = dispatcher.ended(&once);
    assert_eq!((&ended["code"], &ended["attempt"]), (&"lost".into(), &1.into()));
    let again = dispatcher.in_state(&id, "running");
    assert_eq!(again["attempt"], 2);
    assert_ne!(again["job"], job);
    assert_eq!(again["attempts"][0]["code"], "lost");
    // The agent is told, and the worker says so.
    let created = |line: &str| line.contains(r#""event":"job.created""#) && line.contains(r#""attempt":2"#);
    let lines = || std::fs::read_to_string(events.path()).unwrap();
    eventually("the event is written", || lines().lines().any(created).then_some(()));
    second.kill();
    let ended = {
        let third = dispatcher.worker(&["obedient"], &[]);
        eventually("the third attempt runs", || {
            (dispatcher.job(&id)["attempt"] == 3 && dispatcher.job(&id)["state"] == "running").then_some(())
        });
        third.kill();
        dispatcher.ended(&id)
    };
    assert_eq!(ended["code"], "lost");
    let metrics = dispatcher.ask("GET", "/metrics", "", "", &[], "").body;
    generated::check_metrics("dispatcher", metrics.as_str().unwrap());
    assert!(
        ended["detail"].as_str().unwrap().contains("quarantined: the workers of 3 of 3 attempts were lost"),
        "{ended}"
    );
}

#[test]
fn job_of_a_killed_process_runs_again_at_once_in_another_process() {
    let (dir, listen) = (tempfile::tempdir().unwrap(), free_port());
    let (store, agent) = (dir.path().join("store.db"), guest("obedient"));
    // Nothing is lost by time.
    let call =
        wasm_worker(["run", agent.to_str().unwrap(), "--listen", &listen, "--workers", "2", "--lost-after", "1h"]);
    let call = call.args(["--http", "off", "--log-level", "error", "--store", store.to_str().unwrap()]);
    let supervisor = call.env("WASM_WORKER_LOAD_THRESHOLD", "none").start();
    let verb = |words: &[&str]| wasm_worker(words.iter().copied()).env("LIVEKIT_URL", format!("ws://{listen}")).done();
    eventually("both are there", || (verb(&["workers"]).stdout.matches(" available ").count() == 2).then_some(()));
    let made: Value = serde_json::from_str(&verb(&["dispatch", "obedient", "--json"]).stdout).unwrap();
    let id = made["id"].as_str().unwrap();
    let job = || serde_json::from_str::<Value>(&verb(&["job", id, "--json"]).stdout).unwrap();
    eventually("it runs", || (job()["state"] == "running").then_some(()));
    // Which of them has the job nobody tells; so both are killed. Any thread of the supervisor may have started them.
    for task in std::fs::read_dir(format!("/proc/{}/task", supervisor.pid())).unwrap() {
        let children = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        for pid in children.split_whitespace() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
    }
    eventually("it runs again", || {
        let job = job();
        (job["attempt"] != 1 && job["state"] == "running").then_some(())
    });
    assert_eq!(verb(&["cancel", id]).exit, 0);
    eventually("it has ended", || (job()["code"] == "terminated").then_some(()));
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.done().exit, 0);
}

#[test]
fn repeated_request_is_the_same_dispatch() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |id: &str| {
        let headers = [("X-Livekit-Request-Id", id)];
        let request = json!({ "agent_name": "nobody", "room": "r" });
        dispatcher.twirp_as(&everything("r"), CREATE, &headers, &request).body["id"].clone()
    };
    let first = create("5f0c");
    assert_eq!(create("5f0c"), first);
    assert_ne!(create("5f0d"), first);
    assert_eq!(dispatcher.verb(["cancel", first.as_str().unwrap()]).done().exit, 0);
    assert_eq!(create("5f0c"), first, "also when it is over");
    assert_eq!(dispatcher.ended(first.as_str().unwrap())["code"], "cancelled");
}

#[test]
fn errors_of_the_api_have_livekit_s_codes_and_messages() {
    let dispatcher = Dispatcher::start(&["--metadata-limit", "1KiB"]);
    let request = json!({ "agent_name": "nobody", "room": "r" });
    let refused = |token: &str, method: &str, request: &Value| {
        let answer = dispatcher.twirp_as(token, method, &[], request);
        let part = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        (answer.status, part("code"), part("msg"))
    };
    let admin = everything("r");
    let of = |grants: VideoGrants| token("secret", grants);
    // A bad token is refused before anything else, and not in Twirp's form.
    assert_eq!(dispatcher.twirp_as(&token("other", VideoGrants::default()), CREATE, &[], &request).status, 401);
    let denied = |token: &str, method: &str, request: &Value, part: &str| {
        let (status, code, message) = refused(token, method, request);
        assert_eq!((status, code.as_str()), (401, "unauthenticated"), "{message}");
        assert!(message.starts_with("permissions denied") && message.contains(part), "{message}");
    };
    denied(&everything("other"), CREATE, &request, "no grant `roomAdmin` for this room");
    denied(&of(VideoGrants { room_admin: true, ..Default::default() }), CREATE, &request, "`roomAdmin`");
    denied(&of(VideoGrants::default()), "RoomService/ListRooms", &json!({}), "no grant `roomList`");
    denied(&of(VideoGrants::default()), "RoomService/CreateRoom", &json!({ "name": "r" }), "no grant `roomCreate`");
    let (_, code, message) = refused(&everything(""), CREATE, &json!({ "agent_name": "x" }));
    assert_eq!((code.as_str(), message.as_str()), ("invalid_argument", "the name of the room is missing"));
    let invalid = |request: Value, part: &str| {
        let (status, code, message) = refused(&admin, CREATE, &request);
        assert_eq!((status, code.as_str()), (400, "invalid_argument"), "{message}");
        assert!(message.contains(part), "{message}");
    };
    invalid(
        json!({ "room": "r", "metadata": "x".repeat(1_025) }),
        "the metadata has 1025 bytes, at most 1024 are allowed",
    );
    invalid(json!({ "room": "r", "deployment": "a_b" }), "no `_`");
    invalid(json!({ "room": "r", "attributes": { "x": "y".repeat(65_536) } }), "at most 65536 are allowed");
    invalid(json!({ "room": "r", "attributes": { "wasm-worker.priority": "high" } }), "want a whole number");
    invalid(json!({ "room": "r", "attributes": { "wasm-worker.deadline": "soon" } }), "want a time above zero");
    invalid(json!({ "room": "r", "agent_name": "a\nb" }), "control characters");
    let raw = |content: &str, body: &str| {
        let answer = dispatcher.ask("POST", &format!("/twirp/livekit.{CREATE}"), content, &admin, &[], body);
        (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(raw("application/json", "{"), (400, "malformed".into()));
    assert_eq!(raw("application/protobuf", "\u{1}"), (400, "malformed".into()));
    assert_eq!(raw("text/plain", "{}"), (404, "bad_route".into()));
    assert_eq!(raw("application/json; charset=UTF-8", r#"{"room":"r","unknown":1}"#).0, 200);
    assert_eq!(raw("Application/JSON", r#"{"room":"r","agentName":null,"restartPolicy":1.0}"#).0, 200);
    let get = dispatcher.ask("GET", &format!("/twirp/livekit.{CREATE}"), "", &admin, &[], "");
    assert_eq!((get.status, &get.body["code"]), (404, &"bad_route".into()), "as LiveKit's server answers");
    let wrong = dispatcher.ask("POST", "/api/v1/workers", "", &admin, &[], "");
    assert_eq!((wrong.status, wrong.body["error"].is_string()), (405, true), "{}", wrong.body);
    assert_eq!(refused(&admin, "AgentDispatchService/Nothing", &json!({})).1, "bad_route");
    assert_eq!(refused(&admin, "RoomService/SendData", &json!({})).1, "unimplemented");
    assert_eq!(refused(&everything("x"), LIST, &json!({ "room": "x" })).1, "not_found");
    let twice = dispatcher.ask("POST", "//twirp/livekit.RoomService/ListRooms", "application/json", &admin, &[], "{}");
    assert_eq!(twice.status, 200, "a doubled slash does not matter");
    assert_eq!(dispatcher.ask("GET", "/agent", "", &admin, &[], "").status, 404);
}

#[test]
fn queue_and_rate_are_bounded_and_callers_learn_when_to_retry() {
    let dispatcher = Dispatcher::start(&["--queue-limit", "3"]);
    let request = json!({ "agent_name": "nobody", "room": "r" });
    for _ in 0..3 {
        assert_eq!(dispatcher.twirp(CREATE, "r", &request).status, 200);
    }
    let full = dispatcher.twirp(CREATE, "r", &request);
    assert_eq!((full.status, &full.body["code"]), (429, &"resource_exhausted".into()));
    assert_eq!((full.retry_after.as_deref(), &full.body["meta"]["retry_after_seconds"]), (Some("1"), &"1".into()));
    assert_eq!(full.body["msg"], "the queue is full: 3 dispatches of this API key wait");
    dispatcher.verb(["dispatch", "nobody"]).done().fails_with(2, &["the queue is full", "hint: try again"]);
    // Of many calls two come within one second.
    let dispatcher = Dispatcher::start(&["--dispatch-rate", "1"]);
    let mut fast = (0..1_000).map(|_| dispatcher.twirp(CREATE, "r", &request).body["msg"].to_string());
    assert!(fast.any(|message| message.contains("`dispatch-rate`")), "the rate is not limited");
}

#[test]
fn dispatch_without_a_worker_ends_with_its_reason() {
    let dispatcher = Dispatcher::start(&[]);
    let done = dispatcher.verb(["dispatch", "nobody", "--deadline", "10s", "--wait"]).done();
    done.fails_with(15, &["pending: 1 of 1; no worker of agent `nobody` is connected"]);
    assert!(done.stdout.contains("✘ expired: no worker took the dispatch within 10"), "{}", done.stdout);
    let done = dispatcher.verb(["dispatch", "reject", "--wait"]);
    let worker = dispatcher.worker(&["reject"], &[]);
    let done = done.done();
    assert_eq!(done.exit, 15, "{}", done.stdout);
    worker.kill();
    let without = Dispatcher::start(&["--queue", "off"]);
    let done = without.verb(["dispatch", "nobody", "--wait"]).done();
    assert!(
        done.stdout.contains("✘ unserved: no worker of agent `nobody` is connected, and the queue is off"),
        "{}",
        done.stdout
    );
}

#[test]
fn dispatcher_that_cannot_start_reports_the_reason() {
    let dispatcher = Dispatcher::start(&[]);
    let store = dispatcher.store();
    let serve = |flags: &[&str]| wasm_worker(["serve"].into_iter().chain(flags.iter().copied())).done();
    let store = store.to_str().unwrap();
    let free = tempfile::tempdir().unwrap();
    let other = free.path().join("store.db");
    let other = other.to_str().unwrap();
    serve(&["--listen", "127.0.0.1:0", "--store", store]).fails_with(2, &["is in use by another dispatcher", "hint: "]);
    serve(&["--listen", "0.0.0.0:0", "--store", other])
        .fails_with(2, &["development key is for loopback", "LIVEKIT_KEYS"]);
    let weak = free.path().join("weak.db");
    let weak =
        wasm_worker(["serve", "--listen", "0.0.0.0:0", "--store", path(&weak)]).env("LIVEKIT_KEYS", "key: a").start();
    eventually("it warns", || weak.said().contains("the secret of an API key can be guessed").then_some(()));
    weak.kill();
    let taken = dispatcher.url.trim_start_matches("ws://").to_owned();
    serve(&["--listen", &taken, "--store", other]).fails_with(2, &["cannot listen on", "--listen"]);
    serve(&["--listen", "nowhere"]).fails_with(2, &["want an address with a port"]);
    std::fs::write(other, "this is no store, but longer than the header of one ".repeat(9)).unwrap();
    serve(&["--listen", "127.0.0.1:0", "--store", other])
        .fails_with(2, &["is damaged, or not a store", "move the file away"]);
}

#[test]
fn tokens_are_minted_for_clients_and_workers() {
    let dispatcher = Dispatcher::start(&[]);
    let minted = dispatcher.verb(["token", "--admin", "--room", "r"]).done().stdout;
    assert_eq!(dispatcher.twirp_as(minted.trim(), CREATE, &[], &json!({ "room": "r", "agent_name": "x" })).status, 200);
    dispatcher.verb(["token"]).done().fails_with(2, &["the token would allow nothing"]);
    dispatcher.verb(["token", "--room", "r"]).done().fails_with(2, &["needs `--identity`"]);
    let wrong = dispatcher.verb(["jobs"]).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "wrong").done();
    wrong
        .fails_with(2, &["invalid token: it is not signed with the server's secret of the API key `devkey`", "hint: "]);
    let unknown = dispatcher.verb(["jobs"]).env("LIVEKIT_API_KEY", "nobody").env("LIVEKIT_API_SECRET", "secret").done();
    unknown.fails_with(2, &["the server has no API key `nobody`", "hint: check LIVEKIT_API_KEY"]);
    dispatcher.verb(["dispatch", "x", "--room", ""]).done().fails_with(2, &["the name of the room is missing"]);
}

#[test]
fn request_id_of_another_room_shows_nothing_of_its_dispatch() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |room: &str, agent: &str| {
        let request = json!({ "agent_name": agent, "room": room, "metadata": format!("of {room}") });
        dispatcher.twirp_as(&everything(room), CREATE, &[("X-Livekit-Request-Id", "5f0c")], &request)
    };
    let first = create("room-1", "nobody").body["id"].as_str().unwrap().to_owned();
    for (room, agent) in [("room-2", "nobody"), ("room-1", "other")] {
        let refused = create(room, agent);
        assert_eq!((refused.status, &refused.body["code"]), (400, &"invalid_argument".into()), "{}", refused.body);
        assert!(!refused.body.to_string().contains("of room-1"), "{}", refused.body);
    }
    assert_eq!(dispatcher.verb(["cancel", &first]).done().exit, 0);
    assert_eq!(create("room-2", "nobody").status, 400, "also when it is over");
    assert_eq!(create("room-1", "nobody").body["id"], first);
}

#[test]
fn grants_have_the_scope_that_livekit_s_server_gives_them() {
    let dispatcher = Dispatcher::start(&[]);
    let id = dispatcher.dispatch("room-1", "nobody", "private");
    let as_caller = |method: &str, path: &str, grants: VideoGrants| {
        dispatcher.ask(method, &format!("/api/v1/jobs{path}"), "", &token("secret", grants), &[], "")
    };
    let admin = |room: &str| VideoGrants { room_admin: true, room: room.into(), ..Default::default() };
    let list = VideoGrants { room_list: true, ..Default::default() };
    let create = VideoGrants { room_create: true, ..Default::default() };
    let one = format!("/{id}");
    let whole = as_caller("GET", &one, admin("room-1"));
    assert_eq!((whole.status, &whole.body["metadata"]), (200, &"private".into()));
    let brief = as_caller("GET", &one, list.clone());
    assert_eq!((brief.status, &brief.body["room"], &brief.body["metadata"]), (200, &"room-1".into(), &Value::Null));
    assert_eq!(as_caller("GET", &one, admin("room-2")).status, 404, "of another room");
    assert_eq!(as_caller("GET", &one, create.clone()).status, 401);
    assert_eq!(as_caller("GET", "?room=room-1", admin("room-1")).status, 200);
    assert_eq!(as_caller("GET", "", admin("room-1")).status, 401);
    let cancel = format!("/{id}/cancel");
    for grants in [list, create, admin("")] {
        let refused = as_caller("POST", &cancel, grants);
        assert!([401, 404].contains(&refused.status), "{}", refused.body);
    }
    assert_eq!(as_caller("POST", &cancel, admin("room-2")).status, 404);
    assert_eq!(as_caller("POST", &cancel, admin("room-1")).status, 202);
}

#[test]
fn second_request_for_a_room_changes_it_and_dispatches_its_new_agents() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |request: Value| {
        let answer = dispatcher.twirp("RoomService/CreateRoom", "r", &request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let agents = || {
        let listed = dispatcher.twirp(LIST, "r", &json!({ "room": "r" })).body;
        let dispatches = listed["agentDispatches"].as_array().cloned().unwrap_or_default();
        dispatches.iter().map(|dispatch| dispatch["agentName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = create(json!({ "name": "r", "metadata": "old", "agents": [{ "agentName": "a" }] }));
    let second =
        create(json!({ "name": "r", "emptyTimeout": 77, "agents": [{ "agentName": "a" }, { "agentName": "b" }] }));
    assert_eq!(second["sid"], first["sid"]);
    assert_eq!((&second["metadata"], &second["emptyTimeout"]), (&"old".into(), &77.into()));
    assert_eq!(create(json!({ "name": "r", "metadata": "new" }))["metadata"], "new");
    assert_eq!(agents(), ["a", "b"], "none is dispatched twice");
    let listed = dispatcher.twirp("RoomService/ListRooms", "r", &json!({ "names": ["r", "r"] })).body;
    assert_eq!(listed["rooms"].as_array().unwrap().len(), 1);
    assert_eq!((&listed["rooms"][0]["metadata"], &listed["rooms"][0]["emptyTimeout"]), (&"new".into(), &77.into()));
}

#[test]
fn waiting_dispatch_names_similar_agents_and_what_is_full() {
    let dispatcher = Dispatcher::start(&[]);
    let worker = dispatcher.worker(&["ignore_stop", "obedient"], &["--max-jobs", "1"]);
    eventually("both register", || (dispatcher.workers().len() == 2).then_some(()));
    let why = |id: &str| dispatcher.job(id)["waiting"]["why"].as_str().unwrap_or_default().to_owned();
    let unknown = why(&dispatcher.dispatch("r", "ignore-stop", ""));
    let told = "no worker of agent `ignore-stop` is connected (connected: `ignore_stop`, `obedient`); did you mean `ignore_stop`?";
    assert_eq!(unknown, told);
    let running = dispatcher.dispatch("r", "obedient", "");
    dispatcher.in_state(&running, "running");
    let waits = dispatcher.dispatch("r", "obedient", "");
    eventually("the reason is known", || {
        let why = why(&waits);
        let parts = ["the only worker of agent `obedient` is full: jobs 1, `max-jobs` 1, since 20", "Z"];
        parts.iter().all(|part| why.contains(part)).then_some(())
    });
    let row = dispatcher.verb(["workers"]).done().stdout;
    assert!(row.contains("full (jobs 1, `max-jobs` 1)"), "{row}");
    worker.kill();
}

/// Frames of a worker that is written by hand, in JSON; the first `wanted` answers, or fewer when the connection is closed.
async fn talk(url: &str, frames: &[&str], grants: VideoGrants, wanted: usize) -> Vec<String> {
    let request = ClientRequestBuilder::new(format!("{url}/agent").parse().unwrap());
    let request = request.with_header("Authorization", format!("Bearer {}", token("secret", grants)));
    let Ok((mut socket, _)) = tokio_tungstenite::connect_async(request).await else { return vec!["refused".into()] };
    for frame in frames {
        // It may be cut off in the middle of one that is too large.
        socket.send(Message::Text((*frame).into())).await.ok();
    }
    let mut heard = Vec::new();
    while heard.len() < wanted
        && let Some(Ok(message)) = socket.next().await
    {
        if let Message::Text(text) = message {
            heard.push(text.to_string());
        }
    }
    heard
}

#[test]
fn workers_may_speak_json_and_invalid_frames_close_the_connection() {
    let dispatcher = Dispatcher::start(&[]);
    dispatcher.dispatch("r", "by-hand", "m");
    let url = dispatcher.url.clone();
    crate::support::scripted_server::run(async {
        let grants = || VideoGrants { agent: true, ..Default::default() };
        assert_eq!(talk(&url, &[], VideoGrants::default(), 1).await, ["refused"]);
        let register = r#"{"register": {"type": "JT_ROOM", "agentName": "by-hand", "version": "9"}}"#;
        let ping = r#"{"ping": {"timestamp": "7"}}"#;
        let heard = talk(&url, &[ping, register], grants(), 3).await;
        assert!(heard[0].contains(r#""pong":{"lastTimestamp":"7""#), "{heard:?}");
        assert!(heard[1].contains(r#""workerId":"AW_"#) && heard[1].contains("serverInfo"), "{heard:?}");
        assert!(heard[2].contains(r#""availability""#) && heard[2].contains(r#""metadata":"m""#), "{heard:?}");
        // As LiveKit's server has it, two MiB.
        let large = format!(r#"{{"ping": {{"timestamp": "7"}}, "x": "{}"}}"#, "x".repeat(2 << 20));
        for bad in [&["{}"][..], &["nonsense"], &[r#"{"updateWorker": {}}"#], &[register, register], &[large.as_str()]]
        {
            // The connection is closed, or this waits for ever.
            println!("{}", bad[0].get(..30).unwrap_or(bad[0]));
            talk(&url, bad, grants(), usize::MAX).await;
        }
    });
}

#[test]
fn waiting_callers_beyond_the_bound_are_answered_at_once() {
    let dispatcher = Dispatcher::start(&[]);
    let id = dispatcher.dispatch("r", "brief", "");
    let head = format!(
        "GET /jobs/{id}?after=pending&wait_ms=60000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        everything("")
    );
    // Eight more than may wait.
    let connect = |_| {
        let mut stream = TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let callers: Vec<TcpStream> = (0..520).map(connect).collect();
    let answered = |stream: &TcpStream| stream.peek(&mut [0]).is_ok();
    eventually("eight are told at once", || (callers.iter().filter(|call| answered(call)).count() == 8).then_some(()));
    let (told, waiting): (Vec<_>, Vec<_>) = callers.into_iter().partition(answered);
    for mut stream in told {
        let mut text = String::new();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.to_lowercase().contains("connection: close"), "{text}");
        assert!(text.contains(r#""state":"pending""#), "{text}");
    }
    let worker = dispatcher.worker(&["brief"], &[]);
    dispatcher.ended(&id);
    for mut stream in waiting {
        let mut some = [0; 12];
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.read_exact(&mut some).unwrap();
        assert_eq!(&some, b"HTTP/1.1 200");
    }
    worker.kill();
}
