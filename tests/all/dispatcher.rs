//! The embedded dispatcher: its queue, its workers, and the jobs whose worker or dispatcher dies.

use futures_util::{SinkExt, StreamExt};
use livekit_token::VideoGrants;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use crate::documentation::generated;
use crate::support::dispatcher::{Dispatcher, token};
use crate::support::harness::{eventually, guest, path, wasm_worker};

const CREATE: &str = "AgentDispatchService/CreateDispatch";
const LIST: &str = "AgentDispatchService/ListDispatch";

/// A port that was free a moment ago.
pub(crate) fn free_port() -> String {
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
    let events = || std::fs::read_to_string(events.path()).unwrap();
    eventually("the long one is in its room", || events().contains(r#""event":"room.joined""#).then_some(()));
    dispatcher.kill();
    // One ends while nobody is there to hear of it.
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
