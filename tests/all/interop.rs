//! LiveKit's own clients and workers, unchanged, with our dispatcher: the packages for Python and for Node, in the versions that
//! `tests/interop` pins.
//!
//! On a machine without Python or Node, the tests are skipped.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{eventually, pause, run_guest};
use crate::support::hook::{header, hook};
use crate::support::rooms::{RoomServer, RoomWorker, delete_room, example_dir};
use crate::support::toolchains::{PYTHON, installed_node, installed_python};

const API_KEY: &str = "devkey";
const API_SECRET: &str = "secret";
/// Each ask is a process of half a second and more.
const ASKS_MAX: usize = 600;
/// A worker takes ten seconds to start on a machine that does nothing else.
const SAYS_WITHIN: Duration = Duration::from_secs(600);

/// A program that can be started.
struct Program {
    name: &'static str,
    /// Interpreter and script.
    words: [OsString; 2],
}

/// `tests/interop/clients/dispatch.py`; none where there is no Python.
fn python_client() -> Option<Program> {
    let dir = installed_python("clients")?;
    Some(Program { name: "python", words: [dir.join(PYTHON).into(), dir.join("dispatch.py").into()] })
}

/// `tests/interop/clients/dispatch.mjs`; none where there is no Node.
fn node_client() -> Option<Program> {
    let dir = installed_node("clients")?;
    Some(Program { name: "node", words: ["node".into(), dir.join("dispatch.mjs").into()] })
}

/// LiveKit's receivers of webhooks, where their languages are there.
fn receivers() -> Vec<Program> {
    let python = installed_python("clients")
        .map(|dir| Program { name: "python", words: [dir.join(PYTHON).into(), dir.join("webhook.py").into()] });
    let node = installed_node("clients")
        .map(|dir| Program { name: "node", words: ["node".into(), dir.join("webhook.mjs").into()] });
    [python, node].into_iter().flatten().collect()
}

/// A worker of livekit-agents that has registered under this name.
fn python_worker(url: &str, name: &str) -> Option<ForeignWorker> {
    let dir = installed_python("livekit_agents")?;
    let words = [dir.join(PYTHON).into(), dir.join("worker.py").into()];
    Some(ForeignWorker::start(&Program { name: "python", words }, url, name))
}

/// The same of @livekit/agents.
fn node_worker(url: &str, name: &str) -> Option<ForeignWorker> {
    let dir = installed_node("livekit_agents_js")?;
    let words = ["node".into(), dir.join("agent.mjs").into()];
    Some(ForeignWorker::start(&Program { name: "node", words }, url, name))
}

impl Program {
    /// The one line of a client.
    #[track_caller]
    fn call(&self, url: &str, words: &[&str]) -> Value {
        self.call_as(API_SECRET, url, words)
    }

    #[track_caller]
    fn call_as(&self, secret: &str, url: &str, words: &[&str]) -> Value {
        let output = self.command(url).env("LIVEKIT_API_SECRET", secret).args(words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{} {words:?} prints no JSON ({error}, {}): {stderr}", self.name, output.status)
        });
        assert_eq!(output.status.success(), answer["error"].is_null(), "{} {words:?}: {answer}", self.name);
        answer
    }

    /// The code and the HTTP status of the error.
    #[track_caller]
    fn refused(&self, url: &str, words: &[&str]) -> (String, u64) {
        let answer = self.call(url, words);
        let error = &answer["error"];
        assert!(error.is_object(), "{} {words:?} succeeds: {answer}", self.name);
        (error["code"].as_str().unwrap().to_owned(), error["status"].as_u64().unwrap())
    }

    /// Id and error of the one job of a dispatch, once it has this status.
    #[track_caller]
    fn job(&self, url: &str, room: &str, dispatch: &str, wanted: &str) -> (String, String) {
        let (id, _, error) = self.job_once(url, room, dispatch, &[wanted]);
        (id, error)
    }

    /// Id, status and error of the one job of a dispatch, once it has one of these.
    #[track_caller]
    fn job_once(&self, url: &str, room: &str, dispatch: &str, wanted: &[&str]) -> (String, String, String) {
        let mut found = Value::Null;
        for _ in 0..ASKS_MAX {
            found = self.call(url, &["get", room, dispatch]);
            let job = &found[0]["jobs"][0];
            if wanted.iter().any(|wanted| job["status"] == *wanted) {
                let [id, status, error] = ["id", "status", "error"].map(|key| job[key].as_str().unwrap().to_owned());
                return (id, status, error);
            }
        }
        panic!("no job of {dispatch} becomes one of {wanted:?}: {found}");
    }

    /// Create a dispatch, and get its id.
    #[track_caller]
    fn dispatch(&self, url: &str, room: &str, agent: &str, metadata: &str) -> String {
        let created = self.call(url, &["create", room, agent, metadata]);
        created[0]["id"].as_str().unwrap_or_else(|| panic!("no dispatch in {created}")).to_owned()
    }

    /// The user's settings do not reach it, and it has no proxy on its way to loopback.
    fn command(&self, url: &str) -> Command {
        let [interpreter, script] = &self.words;
        let mut command = Command::new(interpreter);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_uppercase();
            if text.starts_with("LIVEKIT_") || text.ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command.arg(script).stdin(Stdio::null());
        command.env("LIVEKIT_URL", url).env("LIVEKIT_API_KEY", API_KEY).env("LIVEKIT_API_SECRET", API_SECRET);
        command
    }
}

/// A worker that is not ours, and all that it started: they end with this value.
struct ForeignWorker {
    process: Child,
    /// What all of them print.
    log: tempfile::NamedTempFile,
}

impl ForeignWorker {
    #[track_caller]
    fn start(program: &Program, url: &str, name: &str) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = program.command(url);
        command.arg("start").env("AGENT_NAME", name);
        // A group of its own is what can be killed as one.
        let output = log.reopen().unwrap();
        command.process_group(0).stdout(output.try_clone().unwrap()).stderr(output);
        let worker = Self { process: command.spawn().unwrap(), log };
        worker.says("registered worker");
        worker
    }

    #[track_caller]
    fn says(&self, words: &str) {
        let every = Duration::from_millis(20);
        for _ in 0..SAYS_WITHIN.as_millis() / every.as_millis() {
            if self.said().contains(words) {
                return;
            }
            pause(every);
        }
        panic!("the worker does not say `{words}`:\n{}", self.said());
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap()).into_owned()
    }
}

impl Drop for ForeignWorker {
    fn drop(&mut self) {
        // Not waited for yet, so its id is still its own; but all of the group may have ended.
        kill_process_group(Pid::from_child(&self.process), Signal::KILL).unwrap_or_default();
        drop(self.process.wait());
    }
}

/// With both clients, where they are there.
fn clients() -> Vec<Program> {
    [python_client(), node_client()].into_iter().flatten().collect()
}

#[test]
fn foreign_clients_create_list_get_and_delete_dispatches() {
    let dispatcher = Dispatcher::start(&[]);
    let url = &dispatcher.url;
    let clients = clients();
    for client in &clients {
        let room = format!("dispatches-of-{}", client.name);
        let id = client.dispatch(url, &room, "nobody", r#"{"a":"ü"}"#);
        assert!(id.starts_with("AD_"), "{id}");
        let (job, why) = client.job(url, &room, &id, "JS_PENDING");
        assert_eq!(why, "pending: 1 of 1; no worker of agent `nobody` is connected");
        let jobs = json!([{ "id": job, "status": "JS_PENDING", "error": why }]);
        let wanted = json!([{ "id": id, "agent": "nobody", "room": room, "metadata": r#"{"a":"ü"}"#, "jobs": jobs }]);
        // Protobuf and JSON say the same.
        for other in &clients {
            assert_eq!(other.call(url, &["get", &room, &id]), wanted, "{}", other.name);
            assert!(other.call(url, &["list", &room]).as_array().unwrap().contains(&wanted[0]), "{}", other.name);
        }
        assert_eq!(client.call(url, &["get", &room, "AD_unknown"]), json!([]));
        // The client for Node tells nothing of the answer.
        let deleted = client.call(url, &["delete", &room, &id]);
        assert_eq!(deleted[0]["id"], if client.name == "node" { Value::Null } else { id.as_str().into() });
        assert_eq!(client.call(url, &["get", &room, &id]), json!([]));
        assert_eq!(client.refused(url, &["delete", &room, &id]), ("not_found".into(), 404));
    }
}

#[test]
fn foreign_clients_create_list_and_delete_rooms() {
    let dispatcher = Dispatcher::start(&[]);
    let url = &dispatcher.url;
    for client in clients() {
        let [plain, staffed] = ["plain", "staffed"].map(|kind| format!("{kind}-{}", client.name));
        let made = client.call(url, &["create-room", &plain]);
        assert_eq!(made[0]["name"], plain);
        assert!(made[0]["sid"].as_str().unwrap().starts_with("RM_"), "{made}");
        // The same room, not another one.
        assert_eq!(client.call(url, &["create-room", &plain]), made);
        assert_eq!(client.call(url, &["participants", &plain]), json!([]));

        let other = client.call(url, &["create-room-with-agent", &staffed, "nobody", "hello"]);
        let dispatches = client.call(url, &["list", &staffed]);
        assert_eq!((&dispatches[0]["agent"], &dispatches[0]["metadata"]), (&"nobody".into(), &"hello".into()));
        let rooms = client.call(url, &["rooms"]);
        for room in [&made[0], &other[0]] {
            assert!(rooms.as_array().unwrap().contains(room), "{room} is missing in {rooms}");
        }
        for room in [&plain, &staffed] {
            assert_eq!(client.call(url, &["delete-room", room]), json!([]));
            assert_eq!(client.refused(url, &["delete-room", room]), ("not_found".into(), 404));
        }
        let rooms = client.call(url, &["rooms"]).to_string();
        assert!(!rooms.contains(&plain) && !rooms.contains(&staffed), "{rooms}");
    }
}

#[test]
fn foreign_clients_with_a_wrong_secret_are_refused() {
    let dispatcher = Dispatcher::start(&[]);
    for client in clients() {
        for words in [&["list", "lobby"][..], &["create", "lobby", "nobody", ""], &["rooms"], &["create-room", "lobby"]]
        {
            let answer = client.call_as("wrong", &dispatcher.url, words);
            assert_eq!(answer["error"]["status"], 401, "{} {words:?}: {answer}", client.name);
        }
    }
}

#[test]
fn livekit_s_receivers_read_the_webhooks() {
    let (url, received) = hook();
    let flags = ["--webhook", Box::leak(url.into_boxed_str()), "--api-key", API_KEY, "--api-secret", API_SECRET];
    let done = run_guest("minimal", [flags[0], flags[1]])
        .env("LIVEKIT_API_KEY", API_KEY)
        .env("LIVEKIT_API_SECRET", API_SECRET)
        .done();
    assert_eq!(done.code(), "completed");
    let dispatcher = Dispatcher::start(&flags);
    let dispatch = dispatcher.dispatch("lobby", "nobody", "");
    assert_eq!(dispatcher.verb(["cancel", &dispatch]).done().exit, 0);
    let mut posts = Vec::new();
    while posts.last().is_none_or(|(_, body): &(String, String)| !body.contains("dispatch.ended")) {
        posts.push(received.recv_timeout(SAYS_WITHIN).unwrap());
    }

    for receiver in receivers() {
        for (head, body) in &posts {
            let posted: Value = serde_json::from_str(body).unwrap();
            let token = header(head, "authorization");
            let read = receiver.call("", &[token, body]);
            for (field, of_ours) in
                [("event", &posted["event"]), ("id", &posted["id"]), ("createdAt", &posted["createdAt"])]
            {
                assert_eq!(&read[field], of_ours, "{}: {field} of {body}", receiver.name);
            }
            assert_eq!(read["job"], posted["job"]["id"], "{}: {body}", receiver.name);
            assert_eq!(read["room"], posted["room"]["name"], "{}: {body}", receiver.name);
            assert_eq!(read["agent"], posted["job"]["agentName"], "{}: {body}", receiver.name);
        }
        let (head, body) = posts.last().unwrap();
        let token = header(head, "authorization");
        for (secret, body) in [("wrong", body.clone()), (API_SECRET, body.replace("lobby", "yard"))] {
            let refused = receiver.call_as(secret, "", &[token, &body]);
            assert!(refused["error"].is_string(), "{} reads a forged post: {refused}", receiver.name);
        }
    }
    let [created] = &posts.iter().filter(|(_, body)| body.contains("dispatch.created")).collect::<Vec<_>>()[..] else {
        panic!("{posts:?}")
    };
    let created: Value = serde_json::from_str(&created.1).unwrap();
    assert_eq!((&created["job"]["dispatchId"], &created["room"]["name"]), (&json!(dispatch), &json!("lobby")));
}

#[test]
fn livekit_s_receivers_read_the_webhooks_of_rooms() {
    let (url, received) = hook();
    let flags = ["--webhook", Box::leak(url.into_boxed_str()), "--api-key", API_KEY, "--api-secret", API_SECRET];
    let dispatcher = Dispatcher::start(&flags);
    let server = RoomServer::Own(dispatcher);
    let worker = RoomWorker::with_flags(&server.url(), "echo", &example_dir("echo"), &[]);
    server.dispatch("lobby", "echo");
    let mut posts: Vec<(String, String)> = Vec::new();
    let mut until = |name: &str| {
        let wanted = format!("\"event\":\"{name}\"");
        while posts.last().is_none_or(|(_, body)| !body.contains(&wanted)) {
            posts.push(received.recv_timeout(SAYS_WITHIN).unwrap());
        }
    };
    until("track_published");
    delete_room(&server.url(), "lobby");
    until("room_finished");
    assert_eq!(worker.stop().exit, 0);

    let hosted = |event: &Value| event["event"].as_str().unwrap().contains('_');
    let events: Vec<Value> = posts.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).filter(hosted).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expected = [
        "room_started",
        "participant_joined",
        "track_published",
        "track_unpublished",
        "participant_left",
        "room_finished",
    ];
    assert_eq!(names, expected);
    for (event, has_participant, has_track) in [(0, false, false), (1, true, false), (2, true, true)]
        .into_iter()
        .map(|(at, participant, track)| (&events[at], participant, track))
    {
        assert!(event["room"]["sid"].as_str().unwrap().starts_with("RM_"), "{event}");
        assert_eq!(
            (event["participant"].is_object(), event["track"].is_object()),
            (has_participant, has_track),
            "{event}"
        );
    }
    for receiver in receivers() {
        for (head, body) in posts.iter().filter(|(_, body)| hosted(&serde_json::from_str(body).unwrap())) {
            let posted: Value = serde_json::from_str(body).unwrap();
            let read = receiver.call("", &[header(head, "authorization"), body]);
            assert_eq!((&read["event"], &read["room"]), (&posted["event"], &posted["room"]["name"]), "{body}");
            assert_eq!(read["participant"], posted["participant"]["identity"], "{}: {body}", receiver.name);
            assert_eq!(read["track"], posted["track"]["sid"], "{}: {body}", receiver.name);
        }
    }
}

#[test]
fn worker_of_livekit_agents_runs_jobs_and_reports_their_ends() {
    let dispatcher = Dispatcher::start(&[]);
    let url = &dispatcher.url;
    let Some(client) = python_client() else { return };
    let Some(worker) = python_worker(url, "in-python") else { return };
    let ended = |metadata: &str, statuses: &[&str]| {
        let dispatch = client.dispatch(url, "jobs-in-python", "in-python", metadata);
        let (job, status, error) = client.job_once(url, "jobs-in-python", &dispatch, statuses);
        worker.says(&format!("began job=\"{job}\""));
        let why = if status == "JS_FAILED" { "failed: the worker reports no error" } else { "" };
        assert_eq!(error, why, "{metadata}");
    };
    ended("ok", &["JS_SUCCESS"]);
    // It takes one that crashed for one that succeeded, unless its process fails on its way out. It never says why.
    ended("raise", &["JS_SUCCESS", "JS_FAILED"]);
    ended("exit 3", &["JS_FAILED"]);

    let dispatch = client.dispatch(url, "jobs-in-python", "in-python", "sleep 600");
    let (job, _) = client.job(url, "jobs-in-python", &dispatch, "JS_RUNNING");
    worker.says(&format!("began job=\"{job}\""));
    client.call(url, &["delete", "jobs-in-python", &dispatch]);
    worker.says(&format!("ended job=\"{job}\""));
    assert_eq!(client.call(url, &["get", "jobs-in-python", &dispatch]), json!([]));
}

#[test]
fn worker_of_livekit_agents_for_node_runs_jobs() {
    let dispatcher = Dispatcher::start(&[]);
    let url = &dispatcher.url;
    let Some(client) = node_client() else { return };
    let Some(worker) = node_worker(url, "in-node") else { return };
    let launched = |metadata: &str| {
        let dispatch = client.dispatch(url, "jobs-in-node", "in-node", metadata);
        // From its assignment on: this worker reports nothing of its jobs, not even their ends.
        let (job, _) = client.job(url, "jobs-in-node", &dispatch, "JS_RUNNING");
        worker.says(&format!("began job=\"{job}\""));
        (dispatch, format!("ended job=\"{job}\""))
    };
    worker.says(&launched("ok").1);
    worker.says(&launched("raise").1);

    let (dispatch, ended) = launched("sleep 600");
    client.call(url, &["delete", "jobs-in-node", &dispatch]);
    worker.says(&ended);
    assert_eq!(client.call(url, &["get", "jobs-in-node", &dispatch]), json!([]));
}

#[test]
fn own_workers_and_a_worker_of_livekit_agents_share_one_pool() {
    let dispatcher = Dispatcher::start(&[]);
    let url = &dispatcher.url;
    let Some(theirs) = python_worker(url, "pool") else { return };
    let ours = [0, 1].map(|_| dispatcher.worker(&["obedient"], &["--agent-name", "pool"]));
    let jobs = || dispatcher.workers().iter().map(|worker| worker["jobs"].as_u64().unwrap()).collect::<Vec<_>>();
    eventually("all three are there", || (jobs().len() == 3).then_some(()));
    // By lot: a dozen are enough most of the time, and some more always.
    let mut dispatches = Vec::new();
    while dispatches.len() < 12 || jobs().contains(&0) {
        assert!(dispatches.len() < 60, "one of them gets nothing: {:?}", jobs());
        let dispatch = dispatcher.dispatch("pool", "pool", "sleep 600");
        dispatcher.in_state(&dispatch, "running");
        dispatches.push(dispatch);
    }
    println!("{}", dispatcher.verb(["workers"]).done().stdout);
    for dispatch in &dispatches {
        dispatcher.verb(["cancel", dispatch]).done();
    }
    for dispatch in &dispatches {
        let ended = dispatcher.ended(dispatch);
        assert_eq!(ended["code"], "terminated", "{ended}");
    }
    drop(theirs);
    for worker in ours {
        worker.kill();
    }
}
