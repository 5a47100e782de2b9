//! The server on loopback, with a plain HTTP client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use wasm_worker_core::secret::Secret;

use crate::answer::HEADER;
use crate::script::Script;
use crate::server::{Options, REQUEST_BYTES_MAX, serve};

/// Ends a test that would wait for ever. It measures nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, which ends when this is dropped.
struct Running {
    address: SocketAddr,
    _runtime: Runtime,
}

/// An answer: its status, a header of it, and its body.
struct Got {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Result<String, String>,
}

impl Running {
    fn start(script: Script, options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, script, options));
        Self { address, _runtime: runtime }
    }

    fn with(rules: &str) -> Self {
        let script = Script::parse("f", &format!("pace: {{tokens-per-second: 1000}}\nrules:\n{rules}")).unwrap();
        Self::start(script, Options::default())
    }

    fn send(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Got {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let agent = config.build().new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = agent.run(request.body(body).unwrap()).unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Got { status, headers, body: response.body_mut().read_to_string().map_err(|error| error.to_string()) }
    }

    fn chat(&self, user: &str, stream: bool) -> Got {
        let body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": user }] });
        self.send("POST", "/v1/chat/completions", Some("any"), &body.to_string())
    }

    /// Send a request over a connection of its own.
    fn raw(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{head}Host: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    fn raw_chat(&self, stream: bool) -> TcpStream {
        let body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "x" }] });
        self.raw("POST /v1/chat/completions HTTP/1.1\r\n", &body.to_string())
    }
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(self.body.as_ref().unwrap()).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Everything that comes until this text.
fn until(stream: &mut TcpStream, text: &str) -> String {
    let (mut got, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&got).contains(text) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the stream ends: {}", String::from_utf8_lossy(&got));
        got.extend(byte);
    }
    String::from_utf8(got).unwrap()
}

/// Whether nothing comes, and the connection stays, for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn the_script_without_a_file_answers_whole_and_as_a_stream() {
    let server = Running::start(Script::built_in(), Options::default());
    let got = server.chat("hi", false);
    assert_eq!((got.status, got.header("content-type")), (200, "application/json"));
    let said = "I am a stand-in for a model, and you said: hi";
    assert_eq!(got.json()["choices"][0]["message"]["content"], said);
    assert!(got.header(HEADER).starts_with("wasm-worker mock-models"), "{:?}", got.headers);
    assert_eq!((got.header("x-request-id"), got.header("content-length").is_empty()), ("req_stand-in-1", false));
    let got = server.chat("hi", true);
    assert_eq!(got.header("content-type"), "text/event-stream; charset=utf-8");
    let body = got.body.unwrap();
    let chunks = body.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let text: String =
        chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!((text.as_str(), body.ends_with("data: [DONE]\n\n")), (said, true));
    let body = json!({ "model": "m", "input": "hi" }).to_string();
    let got = server.send("POST", "/v1/responses", None, &body);
    assert_eq!(got.json()["output"][0]["content"][0]["text"], said);
}

#[test]
fn models_are_listed() {
    let script = Script::parse("f", "models: [a, b/c]\nrules: [{answer: x}]\n").unwrap();
    let server = Running::start(script, Options::default());
    let got = server.send("GET", "/v1/models", None, "").json();
    assert_eq!((&got["object"], &got["data"][1]["id"]), (&json!("list"), &json!("b/c")));
    assert_eq!(server.send("GET", "/v1/models/b/c", None, "").json()["owned_by"], "stand-in");
    let got = server.send("GET", "/v1/models/z", None, "");
    assert_eq!((got.status, &got.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert!(server.send("GET", "/", None, "").body.unwrap().contains("stand-in"));
}

#[test]
fn wrong_requests_have_errors_of_the_vendor() {
    let server = Running::with("  - answer: x\n");
    let error = |method: &str, path: &str, body: &str| {
        let got = server.send(method, path, None, body);
        assert!(!got.header(HEADER).is_empty());
        (got.status, got.json()["error"]["type"].as_str().unwrap().to_owned())
    };
    let invalid = "invalid_request_error".to_owned();
    assert_eq!(error("POST", "/v1/chat/completions", "{"), (400, invalid.clone()));
    assert_eq!(error("POST", "/v1/chat/completions", "{\"model\": \"m\"}"), (400, invalid.clone()));
    assert_eq!(error("POST", "/v1/embeddings", "{}"), (404, invalid.clone()));
    assert_eq!(error("DELETE", "/v1/models", ""), (405, invalid));
}

#[test]
fn a_large_request_is_refused() {
    let server = Running::with("  - answer: x\n");
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = REQUEST_BYTES_MAX + 1;
    write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
    assert!(until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 413"));
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let options = Options { key: Some(Secret("right".into())) };
    let server = Running::start(Script::built_in(), options);
    let status = |key| server.send("GET", "/v1/models", key, "").status;
    assert_eq!([None, Some("wrong"), Some("righty"), Some("right")].map(status), [401, 401, 401, 200]);
    let got = server.send("GET", "/v1/models", Some("wrong"), "");
    assert_eq!(got.json()["error"]["code"], "invalid_api_key");
    assert!(!got.body.as_ref().unwrap().contains("right") && !got.header(HEADER).is_empty());
}

#[test]
fn refusals_come_with_status_headers_and_body() {
    let server = Running::with(
        "  - {when: {nth: 1}, refuse: {status: 429, retry-after: 1500ms}}\n  - {when: {nth: 2}, refuse: 500}\n  \
         - refuse: {status: 502, body: <h1>Bad gateway</h1>}\n",
    );
    let limited = server.chat("x", true);
    assert_eq!((limited.status, limited.header("retry-after"), limited.header("retry-after-ms")), (429, "2", "1500"));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(server.chat("x", true).json()["error"]["type"], "server_error");
    let html = server.chat("x", true);
    assert_eq!((html.status, html.header("content-type")), (502, "text/html"));
    assert_eq!(html.body.unwrap(), "<h1>Bad gateway</h1>");
}

#[test]
fn an_answer_without_a_reply_stays_open() {
    let server = Running::with("  - faults: hang\n");
    assert!(is_silent(&mut server.raw_chat(false)));
    assert!(is_silent(&mut server.raw_chat(true)));
}

#[test]
fn a_stream_hangs_in_the_middle() {
    let server = Running::with("  - {answer: one two three, faults: {hang: 2}}\n");
    let mut stream = server.raw_chat(true);
    assert!(until(&mut stream, "\" two\"").starts_with("HTTP/1.1 200"));
    until(&mut stream, "\n\n\r\n");
    assert!(is_silent(&mut stream));
    let mut whole = server.raw_chat(false);
    until(&mut whole, "{\"choices\"");
    while !is_silent(&mut whole) {}
}

#[test]
fn a_stream_ends_or_breaks_in_the_middle() {
    let ended = Running::with("  - {answer: one two three, faults: {stop: 2}}\n");
    let body = ended.chat("x", true).body.unwrap();
    assert!(body.contains(" two") && !body.contains("DONE"), "{body}");
    let half = ended.chat("x", false).body.unwrap();
    assert!(serde_json::from_str::<Value>(&half).is_err(), "{half}");
    let broken = Running::with("  - {answer: one two three, faults: {cut: 2}}\n");
    assert!(broken.chat("x", true).body.is_err());
    assert!(broken.chat("x", false).body.is_err());
    let mut stream = broken.raw_chat(true);
    let mut all = Vec::new();
    // A reset is as good as an end.
    drop(stream.read_to_end(&mut all));
    let all = String::from_utf8(all).unwrap();
    assert!(all.contains(" two") && !all.ends_with("0\r\n\r\n"), "{all}");
}

#[test]
fn wrong_json_errors_and_long_lines_come_in_a_stream() {
    let server = Running::with(
        "  - {when: {user: json}, answer: one two, faults: {wrong-json: 1}}\n  \
         - {when: {user: error}, answer: one two, faults: {error: 1}}\n  - {answer: one, faults: {long-line: 2MiB}}\n",
    );
    let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
    let wrong = |body: &str| {
        let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]" && !is_json(data)).count()
    };
    assert_eq!(wrong(&server.chat("json", true).body.unwrap()), 1);
    let whole = server.chat("json", false).body.unwrap();
    assert!(!is_json(&whole), "{whole}");
    assert_eq!(server.chat("error", false).status, 500);
    assert!(server.chat("error", true).body.unwrap().contains("{\"error\":{"));
    let long = server.chat("x", true).body.unwrap();
    assert!(long.lines().map(str::len).max().unwrap() > 2 << 20);
}

#[test]
fn bytes_of_a_slow_answer_come_one_by_one() {
    let server = Running::with("  - {answer: x, faults: {slow-loris: 1ms}}\n");
    let mut stream = server.raw_chat(false);
    let body = until(&mut stream, "\r\n0\r\n\r\n");
    let chunks = body.split("\r\n\r\n").nth(1).unwrap();
    assert!(chunks.starts_with("1\r\n{\r\n1\r\n\"\r\n"), "{chunks}");
}

#[test]
fn oddities_of_other_servers_are_sent() {
    let server = Running::with("  - {answer: one two, faults: [crlf, comments, no-space, empty-choices, no-done]}\n");
    let body = server.chat("x", true).body.unwrap();
    assert!(body.starts_with(": keep-alive\r\n\r\ndata:{"), "{body}");
    assert!(body.contains("\"choices\":[]") && !body.contains("DONE"), "{body}");
}

#[test]
fn silent_and_endless_heads_do_not_stop_others() {
    let server = Running::with("  - answer: x\n");
    let _silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut endless = TcpStream::connect(server.address).unwrap();
    endless.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(endless, "GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70 << 10)).unwrap();
    assert!(until(&mut endless, "\r\n").starts_with("HTTP/1.1 431"));
    assert_eq!(server.chat("x", false).status, 200);
}

#[test]
fn a_client_that_leaves_ends_its_answer() {
    let server =
        Running::with("  - {when: {user: x, nth: 1}, faults: hang}\n  - {answer: one two, faults: {hang: 1}}\n");
    let streams = [server.raw_chat(false), server.raw_chat(true)];
    for mut stream in streams {
        stream.shutdown(Shutdown::Write).unwrap();
        // A server that waits for the end of the answer takes longer than the patience of the read.
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

/// Keeps the fields of every event.
struct Log(&'static Mutex<String>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut log = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            log.push_str(&format!("{field}={value:?} "));
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_log_has_requests_without_their_contents() {
    static LOG: Mutex<String> = Mutex::new(String::new());
    tracing::subscriber::set_global_default(Log(&LOG)).unwrap();
    let server = Running::with("  - {when: {user: {contains: hush-1}}, refuse: 503}\n  - answer: hush-2 {user}\n");
    let messages = |user: &str| json!([{ "role": "system", "content": "hush-3" }, { "role": "user", "content": user }]);
    for user in ["hush-1", "hush-4"] {
        let body = json!({ "model": "logged-model", "messages": messages(user) }).to_string();
        server.send("POST", "/v1/chat/completions", Some("hush-5"), &body);
    }
    server.send("POST", "/v1/chat/completions", Some("hush-5"), "{\"model\": \"m\", \"messages\": \"hush-6\"}");
    let log = LOG.lock().unwrap();
    assert!(log.contains("logged-model") && log.contains("line=Some(3)") || log.contains("line=3"), "{log}");
    assert!(log.contains("a request is refused") && !log.contains("hush"), "{log}");
}

#[test]
fn many_clients_are_answered_at_once() {
    let server = Running::with("  - answer: {text: one two three, first-token: 300ms}\n");
    let mut streams: Vec<TcpStream> = (0..200).map(|_| server.raw_chat(true)).collect();
    for stream in &mut streams {
        until(stream, "[DONE]");
    }
}
