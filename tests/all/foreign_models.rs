//! Agents in Python and JavaScript ask a model by the packages of their language, unchanged: PyPI's `httpx` and npm's `openai`. The
//! requests go out by the contract's HTTP, through `guest-sdk/python` and `guest-sdk/js`. `tests/interop/README.md` says what the
//! agents do.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::harness::{Done, path, root, wasm_worker};
use crate::support::interpreters::{agent_in, with_interpreters};
use crate::support::models::Models;
use crate::support::toolchains::{Language, PYTHON, installed_node, installed_python};

pub(crate) fn text(after_ms: u32, text: &str) -> Value {
    json!({ "after_ms": after_ms, "event": { "text": { "sender": "ann", "text": text } } })
}

/// A job with a model at this base URL, and these events. None where a tool of the language is missing on this machine.
pub(crate) fn job(language: Language, url: &str, allowed: &str, inbox: &[Value]) -> Option<Done> {
    let agent = agent_in(language)?;
    let url = format!("OPENAI_BASE_URL={url}");
    let call = wasm_worker(["run", path(&agent), "--job", "--spec", "-", "--allow-host", allowed]);
    let call = call.args(["--setting", &url, "--setting", "OPENAI_MODEL=stand-in"]);
    let spec = json!({ "participants": [{ "identity": "ann" }], "inbox": inbox });
    Some(with_interpreters(call).stdin(&spec.to_string()).done())
}

/// All that it said between its greeting and its goodbye, and that were no questions.
#[track_caller]
pub(crate) fn answers(done: &Done) -> Vec<String> {
    assert_eq!(done.code(), "completed", "{}\n{}", done.stdout, done.stderr);
    let mut texts = done.texts().remove("lk.chat").unwrap();
    assert_eq!(texts.pop().as_deref(), Some("Goodbye."), "{texts:?}");
    texts.remove(0);
    texts.retain(|text| text != "Anything else?");
    texts
}

fn host_of(url: &str) -> &str {
    url.strip_suffix("/v1").unwrap()
}

fn streams(language: Language) {
    let models = Models::start(&[path(&root().join("tests/interop/models/script.yaml"))]);
    let inbox = [text(200, "ask hello there"), text(3_000, "ask overloaded"), text(6_000, "bye")];
    let Some(done) = job(language, &models.url, host_of(&models.url), &inbox) else { return };
    let said = answers(&done);
    assert_eq!(said[0], "You said: hello there", "{language:?}: {said:?}\n{}", done.stderr);
    assert!(said[1].starts_with("The model fails: ") && said[1].contains("503"), "{language:?}: {said:?}");
    let record = done.record();
    let model = &record["usage"]["models"][0];
    assert_eq!((&model["provider"], &model["model"]), (&json!("openai"), &json!("stand-in")), "{language:?}: {model}");
    assert!(model["counters"]["output_tokens"].as_f64() > Some(0.0), "{language:?}: {model}");

    let inbox = [text(200, "ask hello"), text(6_000, "bye")];
    let done = job(language, &models.url, "http://127.0.0.1:1", &inbox).unwrap();
    let said = answers(&done);
    assert!(said[0].starts_with("The model fails: ") && said[0].contains("not-allowed"), "{language:?}: {said:?}");
}

/// A model whose first answer never ends. It takes the second request when its client has closed the connection of the first.
fn endless_model() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut first = asked(&listener);
        first.write_all(beginning(&["one", " two"]).as_bytes()).unwrap();
        let closed = first.read(&mut [0; 1]);
        let is_closed = match &closed {
            Ok(count) => *count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(is_closed, "{closed:?}");
        let mut second = asked(&listener);
        second.write_all(format!("{}data: [DONE]\n\n", beginning(&["three"])).as_bytes()).unwrap();
    });
    url
}

/// The next connection, whose request was read.
fn asked(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the request ends in its head");
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    drop(reader);
    stream
}

/// The head of a streamed answer, and parts of it. Its end is that of the connection.
fn beginning(parts: &[&str]) -> String {
    let mut answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
    for part in parts {
        let choice = json!({ "index": 0, "delta": { "content": part }, "finish_reason": null });
        let chunk =
            json!({ "id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice] });
        answer.push_str(&format!("data: {chunk}\n\n"));
    }
    answer
}

/// The answer begins although it never ends; interrupted, it is closed at the server, which then answers again.
fn gives_up(language: Language) {
    let url = endless_model();
    let inbox = [text(200, "ask for ever"), text(3_000, "stop"), text(100, "ask again"), text(3_000, "bye")];
    let Some(done) = job(language, &url, host_of(&url), &inbox) else { return };
    assert_eq!(answers(&done), ["one two", "Stopped.", "three"], "{language:?}: {}", done.stderr);
    let record = done.record();
    let interrupted = |text: &&Value| text["attributes"]["interrupted"] == "true";
    let interrupted: Vec<_> = record["activity"]["texts"].as_array().unwrap().iter().filter(interrupted).collect();
    assert_eq!(interrupted.iter().map(|text| &text["text"]).collect::<Vec<_>>(), ["one two"], "{language:?}");
}

/// A script of `tests/interop/sdk` in Python comes to its end, if the machine has Python.
pub(crate) fn python_passes(script: &str) {
    let Some(place) = installed_python("python") else { return };
    let mut python = Command::new(place.join(PYTHON));
    python.env("PYTHONPATH", root().join("guest-sdk/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    passes(python.arg(root().join("tests/interop/sdk").join(script)));
}

/// A script of `tests/interop/sdk` in JavaScript comes to its end, if the machine has Node.
pub(crate) fn javascript_passes(script: &str) {
    if installed_node("javascript").is_some() {
        let script = root().join("tests/interop/sdk").join(script);
        passes(Command::new("node").arg(script).arg(root().join("guest-sdk/js")));
    }
}

fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && stdout.trim() == "done", "{command:?}:\n{stdout}{stderr}");
}

#[test]
fn httpx_of_pypi_streams_in_an_agent() {
    streams(Language::Python);
}

#[test]
fn openai_of_npm_streams_in_an_agent() {
    streams(Language::JavaScript);
}

#[test]
fn stream_that_httpx_gives_up_is_closed() {
    gives_up(Language::Python);
}

#[test]
fn stream_that_openai_gives_up_is_closed() {
    gives_up(Language::JavaScript);
}

#[test]
fn transport_of_httpx_keeps_the_rules_of_the_contract() {
    python_passes("transport_test.py");
}

#[test]
fn fetch_keeps_the_rules_of_the_contract() {
    javascript_passes("fetch_test.mjs");
}
