//! Exchanges with made servers of several versions.

use serde_json::{Value, json};
use wasm_worker_sdk::Event;
use wasm_worker_sdk::contract::http::Request;
use wasm_worker_sdk::native::{self, Call};
use wasm_worker_sdk::types::{HttpBody, HttpHead};

use super::{McpError, Server};
use crate::Tool;
use crate::fake::begin;

/// What a made server answers: a status, headers, a body.
type Answer = (u16, Vec<(&'static str, &'static str)>, String);

/// Runs a task against a made server, and returns its output and the requests, each as a short text.
fn run<T: 'static>(task: impl Future<Output = T> + 'static, serve: impl Fn(&Asked) -> Answer) -> (T, Vec<String>) {
    let output = begin(task);
    let mut lines = Vec::new();
    for _ in 0..100 {
        for call in native::take_calls() {
            let Call::HttpSend(id, request) = call else { continue };
            let asked = Asked::read(&request);
            lines.push(asked.to_string());
            let (status, headers, body) = serve(&asked);
            let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let head = Event::HttpHead(HttpHead { id, status, url: String::new(), headers });
            let body = Event::HttpBody(HttpBody { id, bytes: body.into_bytes(), last: true });
            native::step(0.0, vec![head, body]);
        }
        if let Some(output) = output.take() {
            return (output, lines);
        }
    }
    panic!("the task waits after {lines:?}");
}

struct Asked {
    method: String,
    id: Value,
    params: Value,
    http: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn read(request: &Request) -> Self {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        Self {
            method: body["method"].as_str().unwrap_or_default().into(),
            id: body["id"].clone(),
            params: body["params"].clone(),
            http: request.method.clone(),
            headers: request.headers.clone(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(have, _)| have == name).map_or("-", |(_, value)| value.as_str())
    }

    fn result(&self, result: &Value) -> String {
        json!({ "jsonrpc": "2.0", "id": self.id, "result": result }).to_string()
    }

    fn error(&self, code: i64, data: &Value) -> String {
        json!({ "jsonrpc": "2.0", "id": self.id, "error": { "code": code, "message": "no", "data": data } }).to_string()
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (version, session) = (self.header("MCP-Protocol-Version"), self.header("Mcp-Session-Id"));
        write!(f, "{} {} {version} {session}", self.http, self.method)
    }
}

/// A page with one tool.
fn page(name: &str) -> Value {
    let region = json!({ "type": "string", "x-mcp-header": "Region" });
    let schema = json!({ "type": "object", "properties": { "region": region } });
    json!({ "tools": [{ "name": name, "inputSchema": schema }] })
}

/// The text that a tool gives for these arguments.
async fn call(tool: Tool, arguments: &'static str) -> Result<String, String> {
    tool.run(arguments).await.map_err(|error| error.to_string())
}

fn modern(asked: &Asked) -> Answer {
    let meta = &asked.params["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], asked.header("MCP-Protocol-Version"));
    assert_eq!(asked.header("Mcp-Method"), asked.method);
    assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
    match asked.method.as_str() {
        "tools/list" if asked.params["cursor"] == "2" => (200, Vec::new(), asked.result(&page("b.c"))),
        "tools/list" => {
            let mut first = page("a");
            first["nextCursor"] = "2".into();
            (200, Vec::new(), format!(": hello\n\ndata: {}\n\n", asked.result(&first)))
        }
        "tools/call" => {
            let text = format!("{} {}", asked.header("Mcp-Name"), asked.header("Mcp-Param-Region"));
            (
                200,
                Vec::new(),
                asked.result(&json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }] })),
            )
        }
        _ => (404, Vec::new(), asked.error(-32601, &Value::Null)),
    }
}

#[test]
fn newest_version_needs_no_session() {
    let server = Server::new("https://x/mcp").prefix("x_");
    let kept = server.clone();
    let (tools, lines) = run(async move { kept.tools().await.unwrap() }, modern);
    assert_eq!(lines, ["POST tools/list 2026-07-28 -", "POST tools/list 2026-07-28 -"]);
    let names: Vec<&str> = tools.iter().map(|tool| tool.info().name.as_str()).collect();
    assert_eq!(names, ["x_a", "x_b_c"]);
    let (text, lines) = run(call(tools[1].clone(), r#"{"region":"é"}"#), modern);
    assert_eq!(text.unwrap(), "b.c =?base64?w6k=?=");
    assert_eq!(lines, ["POST tools/call 2026-07-28 -"]);
    let ((), lines) = run(server.close(), modern);
    assert!(lines.is_empty());
}

/// A server with sessions of this name.
fn legacy(asked: &Asked, session: &'static str) -> Answer {
    let told = asked.header("Mcp-Session-Id");
    match (asked.http.as_str(), asked.method.as_str()) {
        ("POST", "initialize") => {
            assert_eq!(asked.params["protocolVersion"], "2025-11-25");
            let result = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {} });
            (200, vec![("Mcp-Session-Id", session)], format!("event: message\ndata: {}\n\n", asked.result(&result)))
        }
        _ if told == "-" => {
            (400, Vec::new(), json!({ "id": null, "error": { "code": -32000, "message": "no session" } }).to_string())
        }
        _ if told != session => (404, Vec::new(), "gone".into()),
        ("DELETE", _) => (405, Vec::new(), String::new()),
        ("POST", "notifications/initialized") => (202, Vec::new(), String::new()),
        ("POST", "tools/list") => (200, Vec::new(), asked.result(&page("a"))),
        ("POST", "tools/call") => {
            assert_eq!(asked.header("Mcp-Param-Region"), "-");
            (200, Vec::new(), asked.result(&json!({ "content": [{ "type": "text", "text": session }] })))
        }
        _ => panic!("{asked}"),
    }
}

const SESSION: [&str; 4] = [
    "POST tools/list 2026-07-28 -",
    "POST initialize - -",
    "POST notifications/initialized 2025-06-18 s1",
    "POST tools/list 2025-06-18 s1",
];

#[test]
fn older_server_gets_a_session_and_a_new_one_when_it_is_over() {
    let server = Server::new("https://x/mcp");
    let kept = server.clone();
    let (tools, lines) = run(async move { kept.tools().await.unwrap() }, |asked| legacy(asked, "s1"));
    assert_eq!(lines, SESSION);
    let (text, lines) = run(call(tools[0].clone(), r#"{"region":"x"}"#), |asked| legacy(asked, "s2"));
    assert_eq!(text.unwrap(), "s2");
    let again = [
        "POST tools/call 2025-06-18 s1",
        "POST initialize - -",
        "POST notifications/initialized 2025-06-18 s2",
        "POST tools/call 2025-06-18 s2",
    ];
    assert_eq!(lines, again);
    let ((), lines) = run(server.close(), |asked| legacy(asked, "s2"));
    assert_eq!(lines, ["DELETE  2025-06-18 s2"]);
}

#[test]
fn session_that_is_over_at_once_is_not_begun_for_ever() {
    let server = Server::new("https://x/mcp");
    let (tools, _) = run(async move { server.tools().await.unwrap() }, |asked| legacy(asked, "s1"));
    let serve = |asked: &Asked| match asked.method.as_str() {
        "tools/call" => (404, Vec::new(), "gone".into()),
        _ => legacy(asked, if asked.header("Mcp-Session-Id") == "s1" { "s1" } else { "s2" }),
    };
    let (text, lines) = run(call(tools[0].clone(), "{}"), serve);
    assert_eq!(text.unwrap_err(), "the server of tools answered 404: gone");
    assert_eq!(lines.len(), 4);
}

#[test]
fn server_tells_that_it_speaks_older_versions() {
    let serve = |asked: &Asked| match asked.header("MCP-Protocol-Version") {
        "2026-07-28" => (400, Vec::new(), asked.error(-32022, &json!({ "supported": ["2025-06-18"] }))),
        _ => legacy(asked, "s1"),
    };
    let (tools, lines) = run(async { Server::new("https://x/mcp").tools().await.unwrap() }, serve);
    assert_eq!((tools.len(), lines), (1, SESSION.map(String::from).to_vec()));
    let serve = |asked: &Asked| (400, Vec::new(), asked.error(-32022, &json!({ "supported": ["2031-01-01"] })));
    let (tools, lines) = run(async { Server::new("https://x/mcp").tools().await }, serve);
    assert!(matches!(tools, Err(McpError::Rpc { code: -32022, .. })));
    assert_eq!(lines.len(), 1);
}

#[test]
fn errors_are_told_as_they_are() {
    let list =
        |serve: fn(&Asked) -> Answer| run(async { Server::new("https://x/mcp").tools().await.map(|_| ()) }, serve);
    let (error, lines) = list(|_| (401, Vec::new(), "<title>Sign in</title>".into()));
    assert_eq!(error.unwrap_err().to_string(), "the server of tools answered 401: Sign in");
    assert_eq!(lines.len(), 1);
    let (error, _) = list(|asked| (200, Vec::new(), asked.result(&json!({}))));
    assert!(matches!(error, Err(McpError::Invalid(_))));
    // Pages without end, and an answer without an answer.
    let (error, lines) = list(|asked| (200, Vec::new(), asked.result(&json!({ "tools": [], "nextCursor": "1" }))));
    assert!(matches!(error, Err(McpError::TooLarge(_))));
    assert_eq!(lines.len(), 64);
    let (error, _) = list(|asked| match asked.method.as_str() {
        "tools/list" => (200, Vec::new(), ": nothing\n\n".into()),
        _ => (400, Vec::new(), "<html>".into()),
    });
    assert!(matches!(error, Err(McpError::Status { status: 400, .. })));
    let (error, _) = list(|asked| match asked.method.as_str() {
        "initialize" => (200, Vec::new(), asked.result(&json!({ "protocolVersion": "1.0" }))),
        _ => (404, Vec::new(), String::new()),
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "the server of tools does not keep to the protocol: its version is `1.0`"
    );
}

#[test]
fn server_that_asks_during_a_call_is_answered() {
    let server = Server::new("https://x/mcp");
    let (tools, _) = run(async move { server.tools().await.unwrap() }, |asked| legacy(asked, "s1"));
    let serve = |asked: &Asked| match asked.method.as_str() {
        "tools/call" => {
            let result = asked.result(&json!({ "content": [{ "type": "text", "text": "done" }] }));
            let ping = json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" });
            (200, Vec::new(), format!("data: {ping}\n\ndata: {result}\n\n"))
        }
        _ => {
            assert_eq!(asked.id, "p");
            (202, Vec::new(), String::new())
        }
    };
    let (text, lines) = run(call(tools[0].clone(), "{}"), serve);
    assert_eq!(text.unwrap(), "done");
    assert_eq!(lines, ["POST tools/call 2025-06-18 s1", "POST  2025-06-18 s1"]);
}

#[test]
fn server_that_does_not_end_its_answer_is_given_up() {
    let server = Server::new("https://x/mcp").timeout(std::time::Duration::from_secs(2));
    let output = begin(async move { server.tools().await.map(|_| ()) });
    let head = HttpHead { id: 1, status: 200, url: String::new(), headers: Vec::new() };
    let body = HttpBody { id: 1, bytes: b": ping\n\n".to_vec(), last: false };
    native::step(1_000.0, vec![Event::HttpHead(head), Event::HttpBody(body)]);
    assert!(output.borrow().is_none());
    native::step(2_000.0, Vec::new());
    assert!(matches!(output.take().unwrap(), Err(McpError::Http(failure)) if failure.code == "timeout"));
    assert!(matches!(native::take_calls()[..], [Call::HttpSend(1, _), Call::Cancel(1)]));
}
