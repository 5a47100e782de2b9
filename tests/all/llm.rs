//! The example `llm`: a model answers in a room, with a stand-in in its place.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, path, target_dir, wasm_worker};
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, Person, saw};
use crate::support::rooms::{RoomServer, RoomWorker, example_dir};
use crate::support::skip;
use crate::support::web::{Web, answer};

const CHAT: &str = "lk.chat";
const TRANSCRIPTION: &str = "lk.transcription";

/// A cache of these tests alone, because a replay needs the agent of its recording.
fn with_own_cache(call: Call) -> Call {
    call.env("WASM_WORKER_CACHE_DIR", cache())
}

fn cache() -> PathBuf {
    target_dir().join("test-llm-cache")
}

/// The one recording in a directory.
#[track_caller]
fn recording(dir: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.pop().unwrap()
}

/// Replay a recording, and compare the replay with it.
#[track_caller]
fn replays(file: &Path) -> Value {
    let done = with_own_cache(wasm_worker(["replay", path(file), "--json"])).done();
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    let result = done.lines().pop().unwrap();
    assert_eq!(result["same"], true, "{result}");
    assert_eq!(result["fuel"], result["recorded_fuel"], "{result}");
    result
}

fn hello() -> String {
    let text = json!({ "after_ms": 20, "event": { "text": { "sender": "ann", "topic": CHAT, "text": "hello" } } });
    json!({ "participants": [{ "identity": "ann" }], "inbox": [text] }).to_string()
}

#[test]
fn stand_in_answers_in_a_job_and_its_recording_replays() {
    let (dir, example) = (tempfile::tempdir().unwrap(), example_dir("llm"));
    let call = wasm_worker(["run", path(&example), "--job", "--spec", "-", "--record", path(dir.path())]);
    let call = call.without("OPENAI_BASE_URL").without("OPENAI_API_KEY").without("OPENAI_MODEL");
    let done = with_own_cache(call).stdin(&hello()).done();
    // The script is over, and nobody said `bye`.
    assert_eq!(done.code(), "stalled", "{}", done.stderr);
    assert_eq!(done.texts()[TRANSCRIPTION], ["I am a stand-in for a model, and you said: ann: hello"]);
    for part in [
        "the setting `OPENAI_BASE_URL` is a stand-in for models, and no model: http://127.0.0.1:",
        "granted",
        "not needed by a stand-in for models: the secret `OPENAI_API_KEY`",
    ] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    let record = done.record();
    let model = &record["usage"]["models"][0];
    assert_eq!((&model["kind"], &model["model"]), (&json!("llm"), &json!("gpt-5-mini")), "{record}");
    assert!(model["counters"]["output_tokens"].as_f64().unwrap() > 1.0, "{record}");
    assert_eq!(record["usage"]["network"]["all"]["requests"], 1, "{record}");
    let result = replays(&recording(dir.path()));
    assert_eq!(result["fuel"], record["usage"]["fuel"], "{result}");
}

#[test]
fn stand_in_needs_no_secret_and_a_host_that_is_not_granted_is_a_warning() {
    // A file gets what its operator lists, and nobody lists anything.
    let example = example_dir("llm");
    let built = with_own_cache(wasm_worker(["build", path(&example)])).done();
    let call = wasm_worker(["run", built.stdout.trim(), "--job", "--spec", "-"]);
    let done = with_own_cache(call.without("OPENAI_BASE_URL").without("OPENAI_API_KEY")).stdin(&hello()).done();
    let level_of = |part: &str| {
        let line = done.stderr.lines().find(|line| line.contains(part));
        let line = line.unwrap_or_else(|| panic!("`{part}` is missing in:\n{}", done.stderr));
        ["INFO", "WARN"].into_iter().find(|level| line.contains(level))
    };
    assert_eq!(level_of("not granted: the host `api.openai.com`: `--allow-host api.openai.com`"), Some("WARN"));
    assert_eq!(level_of("not needed by a stand-in for models: the secret `OPENAI_API_KEY`"), Some("INFO"));
}

#[test]
fn two_variables_make_the_stand_in_a_real_model() {
    let web = Web::start(|asked| {
        assert_eq!(asked.path(), "/v1/chat/completions");
        let part = |text: &str| format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] }));
        let parts = [part("I am "), part("real"), "data: [DONE]\n\n".to_owned()].concat();
        answer("200 OK", &[("content-type", "text/event-stream")], &parts)
    });
    let example = example_dir("llm");
    let host = web.address.to_string();
    let call = wasm_worker(["run", path(&example), "--job", "--spec", "-", "--allow-host", &host]);
    let call = call.env("OPENAI_BASE_URL", web.url("v1")).env("OPENAI_API_KEY", "sk-of-the-variable");
    let done = with_own_cache(call).stdin(&hello()).done();
    assert_eq!(done.texts()[TRANSCRIPTION], ["I am real"], "{}", done.stderr);
    assert!(!done.stderr.contains("stand-in") && !done.stderr.contains("sk-of"), "{}", done.stderr);
    let [asked] = &web.asked()[..] else { panic!("{:#?}", web.asked()) };
    // The key is for another server.
    assert!(!asked.head.contains("sk-of-the-variable"), "{}", asked.head);
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&body["model"], &body["stream"]), (&json!("gpt-5-mini"), &json!(true)), "{body}");
    assert_eq!(body["messages"][1]["content"], "ann: hello", "{body}");
}

fn say(person: &mut Person, text: &str) {
    person.order(&json!({ "do": "text", "topic": CHAT, "text": text }));
}

/// The whole texts of the agent among these lines.
fn answers(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| saw(line, "text") && line["topic"] == TRANSCRIPTION).collect()
}

fn parts(lines: &[Value]) -> usize {
    lines.iter().filter(|line| saw(line, "part") && line["topic"] == TRANSCRIPTION).count()
}

/// The first person says something, and both hear the answer.
fn both_hear(people: &mut [Person; 2], name: &str) {
    let [first, second] = people;
    say(first, "hello there");
    for person in [first, second] {
        let lines = person.until("answer", |lines| answers(lines).len() == 1);
        let answer = answers(&lines)[0];
        assert_eq!(answer["text"], format!("I am a stand-in for a model, and you said: {name}: hello there"));
        assert!(parts(&lines) > 1, "it is streamed: {lines:#?}");
    }
}

/// The second person has a long answer, and the first one interrupts it.
fn one_interrupts_the_other(people: &mut [Person; 2], name: &str) {
    let [first, second] = people;
    say(second, &"word ".repeat(400));
    for person in [&mut *first, &mut *second] {
        person.until("first words", |lines| parts(lines) >= 12);
    }
    say(first, "no more");
    for person in [first, second] {
        let lines = person.until("second answer", |lines| answers(lines).len() == 2);
        let [cut, new] = answers(&lines)[..] else { panic!("{lines:#?}") };
        let words = cut["text"].as_str().unwrap().matches("word").count();
        assert!(words < 400, "{cut}");
        // The client for Node tells no attributes of the end.
        let interrupted = &cut["attributes"]["interrupted"];
        assert!(interrupted.is_null() || interrupted == "true", "{cut}");
        assert_eq!(new["text"], format!("I am a stand-in for a model, and you said: {name}: no more"));
        assert_eq!(new["attributes"]["interrupted"], Value::Null, "{new}");
    }
}

/// A conversation of two people with the model, recorded and replayed.
fn converse(server: &RoomServer) {
    let room = "two-people-and-a-model";
    let dir = tempfile::tempdir().unwrap();
    let joins = |client: Client| server.person(client, room);
    let (Some(first), Some(second)) = (joins(Client::Python), joins(Client::Node)) else {
        return skip("llm", "the clients for Python and for Node are needed");
    };
    let mut people = [first, second];
    let cache = cache();
    let flags = ["--record", path(dir.path()), "--cache-dir", path(&cache)];
    let worker = RoomWorker::with_flags(&server.url(), "llm", &example_dir("llm"), &flags);
    for person in &mut people {
        person.sees("room", |line| saw(line, "connected"));
    }
    server.dispatch(room, "llm");
    for person in &mut people {
        person.sees("agent", |line| saw(line, "joined") && line["kind"] == "agent");
    }
    let name = Client::Python.name();
    both_hear(&mut people, name);
    one_interrupts_the_other(&mut people, name);
    say(&mut people[1], "bye");
    for person in &mut people {
        let farewell = person.sees("farewell", |line| saw(line, "text") && line["topic"] == TRANSCRIPTION);
        assert_eq!(farewell["text"], "Goodbye.");
    }
    let [closed] = &worker.publishes("job.closed", 1)[..] else { panic!("one job") };
    assert_eq!(closed["verdict"]["code"], "completed", "{closed}");
    people.into_iter().for_each(Person::leaves);
    assert_eq!(worker.stop().exit, 0);
    let result = replays(&recording(dir.path()));
    // Every step returned.
    assert_eq!(result["end"], Value::Null, "{result}");
    assert!(result["steps"].as_u64().unwrap() > 20, "{result}");
}

#[test]
fn two_people_talk_with_a_model_in_our_own_room() {
    converse(&RoomServer::Own(Dispatcher::start(&[])));
}

#[test]
fn two_people_talk_with_a_model_on_a_livekit_server() {
    let Some(server) = LiveKitServer::start("two people and a model in a room of a LiveKit server") else { return };
    converse(&RoomServer::LiveKit(server));
}
