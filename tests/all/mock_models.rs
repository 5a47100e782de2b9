//! `wasm-worker mock-models`: the vendor's own SDKs accept it as their server, also where it is scripted to fail.
//!
//! The clients are `tests/interop/models/client.py` (PyPI's openai) and `client.mjs` (npm's openai). Both get the same orders, and
//! have to tell the same. On a machine without Python or Node, the tests are skipped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::harness::{path, root, wasm_worker};
use crate::support::models::Models;
use crate::support::toolchains::{PYTHON, installed_node, installed_python};

const KEY: &str = "a-key-of-the-tests";
/// Seconds that a client waits for an answer that does not come.
const SHORT: f64 = 1.0;

/// One with the script of `tests/interop/models`, which wants a key.
fn scripted(dir: &tempfile::TempDir) -> Models {
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, format!("{KEY}\n")).unwrap();
    Models::start(&[path(&root().join("tests/interop/models/script.yaml")), "--key-file", path(&key_file)])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sdk {
    Python,
    Node,
}

/// A client that runs.
struct Client {
    sdk: Sdk,
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// None where its language is not on this machine.
    fn start(sdk: Sdk, models: &Models, key: &str) -> Option<Self> {
        let mut command = match sdk {
            Sdk::Python => {
                let dir = installed_python("models")?;
                let mut python = Command::new(dir.join(PYTHON));
                python.arg(dir.join("client.py"));
                python
            }
            Sdk::Node => {
                let mut node = Command::new("node");
                node.arg(installed_node("models")?.join("client.mjs"));
                node
            }
        };
        command.env("OPENAI_BASE_URL", &models.url).env("OPENAI_API_KEY", key);
        // Proxies of this machine do not reach loopback.
        for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { sdk, child, orders, answers })
    }

    #[track_caller]
    fn tells(&mut self, order: &Value) -> Value {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{:?} tells {line:?} ({error}) on {order}", self.sdk))
    }

    /// Check the answer to an order with this text.
    #[track_caller]
    fn check(&mut self, what: &str, text: &str, wanted: &Value) {
        let told = self.tells(&json!({ "do": what, "text": text, "timeout": SHORT * 60.0, "shown": 40 }));
        assert_eq!(told, *wanted, "{:?} {what} {text}", self.sdk);
    }

    /// The name of the error, and whether it is one of the SDK's own.
    #[track_caller]
    fn fails(&mut self, what: &str, text: &str, timeout: f64) -> (String, bool) {
        let told = self.tells(&json!({ "do": what, "text": text, "timeout": timeout }));
        let name = told["error"].as_str().unwrap_or_else(|| panic!("{:?} {what} {text}: {told}", self.sdk));
        (name.to_owned(), told["is_api_error"] == true)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A client ends with its input.
        self.orders = None;
        drop(self.child.wait());
    }
}

fn streamed(text: &str, parts: u64, finish: &str, tokens: u64) -> Value {
    json!({
        "text": text, "length": text.len(), "parts": parts, "finish": finish, "tokens": tokens, "calls": [], "empty": 1
    })
}

fn error(name: &str, status: u64, code: Option<&str>) -> Value {
    json!({ "error": name, "is_api_error": true, "status": status, "code": code })
}

/// Answers of every form.
fn converses(client: &mut Client) {
    client.check("models", "", &json!({ "models": ["stand-in", "stand-in-small"] }));
    let said = "You said: hello";
    client.check("chat", "hello", &json!({ "model": "stand-in", "text": said, "finish": "stop", "tokens": 4 }));
    client.check("stream", "hello", &streamed(said, 3, "stop", 4));
    client.check("response", "hello", &json!({ "text": said, "status": "completed", "tokens": 4 }));
    client.check("response-stream", "hello", &json!({ "text": said, "last": "response.completed", "whole": said }));
    client.check("structured", "structured", &json!({ "said": "yes", "count": 3 }));
    let call = |name: &str| json!({ "name": name, "arguments": "{\"city\":\"Paris\"}" });
    let text = "It is noon, and the sun shines.";
    let tools = json!({ "calls": [call("weather"), call("time")], "finish": "tool_calls", "text": text });
    client.check("tools", "the weather in Paris", &tools);
}

/// Errors with a status.
fn is_refused(client: &mut Client) {
    client.check("stream", "overloaded", &error("InternalServerError", 503, None));
    client.check("chat", "no quota", &error("RateLimitError", 429, Some("insufficient_quota")));
    client.check("stream", "html", &error("InternalServerError", 502, None));
    client.check("chat", "error", &error("InternalServerError", 500, None));
    let told = client.tells(&json!({ "do": "chat", "text": "hello", "model": "gpt-9" }));
    assert_eq!(told, error("NotFoundError", 404, Some("model_not_found")), "{:?}", client.sdk);
    // The first two requests are refused, and the third is answered.
    let limited = |retries: u64| json!({ "do": "chat", "text": "limited", "retries": retries });
    assert_eq!(client.tells(&limited(0)), error("RateLimitError", 429, Some("rate_limit_exceeded")));
    let told = client.tells(&limited(1));
    assert_eq!(told, json!({ "model": "stand-in", "text": "at last", "finish": "stop", "tokens": 3 }));
}

/// Oddities of servers that are no errors.
fn accepts_oddities(client: &mut Client) {
    client.check("stream", "odd", &streamed("one two three", 3, "stop", 4));
    client.check("stream", "slow", &streamed("one", 1, "stop", 2));
    client.check("stream", "filtered", &streamed("one", 1, "content_filter", 2));
    let mut empty = streamed("one", 1, "stop", 2);
    empty["empty"] = json!(2);
    client.check("stream", "empty", &empty);
    client.check("chat", "empty", &json!({ "choices": 0 }));
    let without = json!({ "model": "stand-in", "text": "one", "finish": "stop", "tokens": null });
    client.check("chat", "no usage", &without);
    let mut long = streamed(&"x".repeat(40), 2, "stop", 2);
    long["length"] = json!((1 << 20) + 3);
    client.check("stream", "long", &long);
    // An end without a reason to finish is told to the program, not as an error.
    let mut stopped = streamed("one two", 2, "", 0);
    (stopped["finish"], stopped["tokens"], stopped["empty"]) = (Value::Null, Value::Null, json!(0));
    client.check("stream", "stop", &stopped);
}

/// Faults that the SDKs tell as errors. Their names differ.
fn sees_faults(client: &mut Client) {
    let names = match client.sdk {
        Sdk::Python => ["APITimeoutError", "JSONDecodeError", "APIConnectionError"],
        Sdk::Node => ["APIConnectionTimeoutError", "SyntaxError", "TypeError"],
    };
    let [timeout, no_json, broken] = names;
    let patient = SHORT * 60.0;
    for what in ["chat", "stream"] {
        assert_eq!(client.fails(what, "silence", SHORT), (timeout.to_owned(), true));
        assert_eq!(client.fails(what, "wrong json", patient), (no_json.to_owned(), false));
        assert_eq!(client.fails(what, "cut", patient).0, broken, "{what}");
    }
    assert_eq!(client.fails("chat", "stop", patient), (no_json.to_owned(), false));
    assert_eq!(client.fails("stream", "error", patient), ("APIError".to_owned(), true));
    let hung = client.tells(&json!({ "do": "stream", "text": "hang", "timeout": SHORT }));
    match client.sdk {
        Sdk::Python => assert_eq!((&hung["error"], &hung["is_api_error"]), (&json!(timeout), &json!(true))),
        // The client gives up, and the SDK ends the stream as if it were complete.
        Sdk::Node => assert_eq!((&hung["text"], &hung["finish"]), (&json!("one two"), &Value::Null), "{hung}"),
    }
}

fn accepts_the_stand_in(sdk: Sdk) {
    let dir = tempfile::tempdir().unwrap();
    let models = scripted(&dir);
    let Some(mut client) = Client::start(sdk, &models, KEY) else { return };
    converses(&mut client);
    is_refused(&mut client);
    accepts_oddities(&mut client);
    sees_faults(&mut client);
    let mut stranger = Client::start(sdk, &models, "another-key").unwrap();
    stranger.check("models", "", &error("AuthenticationError", 401, Some("invalid_api_key")));
}

#[test]
fn python_sdk_accepts_the_stand_in() {
    accepts_the_stand_in(Sdk::Python);
}

#[test]
fn node_sdk_accepts_the_stand_in() {
    accepts_the_stand_in(Sdk::Node);
}

#[test]
fn stand_in_without_a_script_repeats_what_it_hears() {
    let models = Models::start(&[]);
    let address = models.url.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1"));
    assert!(address.is_some_and(|address| address.starts_with("127.0.0.1:")), "{}", models.url);
    let body = json!({ "model": "gpt", "messages": [{ "role": "user", "content": "hello" }] });
    let mut response = ureq::post(format!("{}/chat/completions", models.url)).send(body.to_string()).unwrap();
    assert!(response.headers()["x-stand-in"].to_str().unwrap().contains("mock-models"));
    let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(answer["model"], "stand-in/gpt");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("stand-in") && text.ends_with("hello"), "{text}");
}

#[test]
fn faults_of_a_script_are_told_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script.yaml");
    std::fs::write(&script, "rules:\n  - answr: hello\n").unwrap();
    let done = wasm_worker(["mock-models", path(&script)]).done();
    assert_eq!((done.exit, done.stdout.as_str()), (2, ""), "{}", done.stderr);
    assert!(
        done.stderr.contains("script.yaml:2: `answr` is unknown for a rule; did you mean `answer`?"),
        "{}",
        done.stderr
    );
}
