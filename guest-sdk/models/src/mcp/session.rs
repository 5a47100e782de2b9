//! Exchanges with one server: which version it speaks, and its session where it has one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_worker_sdk::http::{Request, Response};
use wasm_worker_sdk::time;
use wasm_worker_sdk::types::Failure;

use super::McpError;
use super::headers;
use super::message::{self, Answer, Told};
use super::tools::{self, Definition};
use crate::wire;

/// The newest version, which has no sessions.
const MODERN: &str = "2026-07-28";
/// The versions with `initialize`, newest first.
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// The errors that only servers of a version without sessions have. The last one lists the versions that they speak.
const MODERN_ERRORS: [i64; 3] = [-32020, -32021, -32022];
/// Number of requests of the server during one exchange that are answered.
const ASKED_MAX: usize = 16;
/// Number of bytes of the id of a session.
const SESSION_BYTES_MAX: usize = 1 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(super) struct Session {
    shared: Rc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    url: String,
    /// What the server speaks, once that is known.
    era: RefCell<Option<Era>>,
    last_id: Cell<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Era {
    Modern,
    Legacy { version: &'static str, session: Option<String> },
}

/// A request for the server.
#[derive(Debug)]
pub(super) struct Call {
    method: &'static str,
    params: Value,
    /// Headers of the newest version for this request.
    headers: Vec<(String, String)>,
    /// Whether the server may get it twice.
    repeatable: bool,
}

impl Call {
    pub(super) fn list(cursor: Option<&str>) -> Self {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor }));
        Self { method: "tools/list", params, headers: Vec::new(), repeatable: true }
    }

    pub(super) fn tool(tool: &Definition, arguments: Value) -> Self {
        let mut headers = headers::of(&tool.mirrored, &arguments);
        headers.push(("Mcp-Name".into(), headers::encoded(&tool.name)));
        let params = json!({ "name": tool.name, "arguments": arguments });
        Self { method: "tools/call", params, headers, repeatable: false }
    }
}

/// The answer to a message.
struct Answered {
    status: u16,
    /// The session that the server gave.
    session: Option<String>,
    /// The result or the error; `None` where the server sent neither.
    told: Option<Told>,
    /// The beginning of a page, where the server sent no message of the protocol.
    page: String,
}

impl Session {
    pub(super) fn new(url: String) -> Self {
        let shared = Shared { url, era: RefCell::new(None), last_id: Cell::new(0) };
        Self { shared: Rc::new(shared), timeout: TIMEOUT }
    }

    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether the server speaks a version without sessions.
    pub(super) fn is_modern(&self) -> bool {
        *self.shared.era.borrow() == Some(Era::Modern)
    }

    /// Sends a request and waits for its result.
    pub(super) async fn ask(&self, call: &Call) -> Result<Value, McpError> {
        let era = self.shared.era.borrow().clone();
        match era {
            None => self.ask_first(call).await,
            Some(Era::Modern) => self.ask_modern(call).await?.result(),
            Some(era) => self.ask_legacy(call, era).await,
        }
    }

    /// Sends the first request, in the newest version, and learns from the answer what the server speaks.
    async fn ask_first(&self, call: &Call) -> Result<Value, McpError> {
        let answered = self.ask_modern(call).await?;
        match &answered.told {
            Some(Told::Result(_)) => {
                self.shared.era.replace(Some(Era::Modern));
                answered.result()
            }
            Some(Told::Error { code, data, .. }) if MODERN_ERRORS.contains(code) => {
                let supported = data.get("supported").and_then(Value::as_array).into_iter().flatten();
                let mut supported = supported.filter_map(Value::as_str);
                if supported.any(|version| LEGACY.contains(&version)) {
                    return self.ask_after_initialize(call).await;
                }
                answered.result()
            }
            // These say nothing about versions.
            _ if matches!(answered.status, 401 | 403 | 407 | 408 | 429 | 500..) => answered.result(),
            _ => self.ask_after_initialize(call).await,
        }
    }

    async fn ask_modern(&self, call: &Call) -> Result<Answered, McpError> {
        let mut params = call.params.clone();
        if let Some(params) = params.as_object_mut() {
            params.insert("_meta".into(), tools::meta(MODERN));
        }
        let id = self.next_id();
        let mut request = self.request(message::request(id, call.method, &params)).repeatable(call.repeatable);
        request = request.header("MCP-Protocol-Version", MODERN).header("Mcp-Method", call.method);
        for (name, value) in &call.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        self.exchange(request, id).await
    }

    async fn ask_after_initialize(&self, call: &Call) -> Result<Value, McpError> {
        let era = self.initialize().await?;
        self.ask_once(call, &era).await?.result()
    }

    /// Sends a request in the session. A session that is over is begun anew, once.
    async fn ask_legacy(&self, call: &Call, era: Era) -> Result<Value, McpError> {
        let answered = self.ask_once(call, &era).await?;
        let has_session = matches!(era, Era::Legacy { session: Some(_), .. });
        if answered.status != 404 || !has_session {
            return answered.result();
        }
        // Another call may have begun a new session meanwhile.
        let now = self.shared.era.borrow().clone().filter(|now| *now != era);
        match now {
            Some(now) => self.ask_once(call, &now).await?.result(),
            None => self.ask_after_initialize(call).await,
        }
    }

    async fn ask_once(&self, call: &Call, era: &Era) -> Result<Answered, McpError> {
        let id = self.next_id();
        let request = self.request(message::request(id, call.method, &call.params));
        self.exchange(in_session(request.repeatable(call.repeatable), era), id).await
    }

    /// Begins a session with an older server.
    async fn initialize(&self) -> Result<Era, McpError> {
        let id = self.next_id();
        let [newest, ..] = LEGACY;
        let client = json!({ "name": "wasm-worker", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": newest, "capabilities": {}, "clientInfo": client });
        let request = self.request(message::request(id, "initialize", &params)).repeatable(true);
        let mut answered = self.exchange(request, id).await?;
        let session = answered.session.take();
        let result = answered.result()?;
        let told = result.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let version = LEGACY.into_iter().find(|version| *version == told);
        let version = version.ok_or_else(|| McpError::Invalid(format!("its version is `{told:.64}`")))?;
        let era = Era::Legacy { version, session };
        self.notify(message::notification("notifications/initialized"), &era).await?;
        self.shared.era.replace(Some(era.clone()));
        Ok(era)
    }

    /// Ends the session.
    pub(super) async fn close(self) {
        let era = self.shared.era.take();
        if let Some(era @ Era::Legacy { session: Some(_), .. }) = era {
            let request = Request::new("DELETE", self.shared.url.as_str()).timeout(self.timeout);
            if let Err(failure) = in_session(request, &era).send().await {
                log::info!("a session of tools was not ended: {failure}");
            }
        }
    }

    /// Sends a message that has no answer.
    async fn notify(&self, message: String, era: &Era) -> Result<(), McpError> {
        let mut response = in_session(self.request(message), era).send().await?;
        let status = response.status();
        if status >= 400 {
            let message = wire::page(&response.beginning(1 << 10).await);
            return Err(McpError::Status { status, message });
        }
        wire::finish_reading(&mut response).await;
        Ok(())
    }

    /// Sends a request, answers what the server asks meanwhile, and waits for the result.
    async fn exchange(&self, request: Request, id: u64) -> Result<Answered, McpError> {
        time::timeout(self.timeout, self.exchange_in_time(request, id)).await.unwrap_or_else(|| {
            let message = format!("no answer within {:?}", self.timeout);
            Err(McpError::Http(Failure { id: 0, code: "timeout".into(), status: 0, message }))
        })
    }

    async fn exchange_in_time(&self, request: Request, id: u64) -> Result<Answered, McpError> {
        let mut response = request.send().await?;
        let status = response.status();
        let session = response.header("mcp-session-id").filter(|session| is_session(session)).map(str::to_owned);
        if status >= 400 {
            let page = response.beginning(64 << 10).await;
            let mut answer = Answer::new(id);
            let told = answer.feed(page.as_bytes()).and_then(|mut told| {
                told.extend(answer.finish()?);
                Ok(told)
            });
            // Any page may come with such a status.
            let told = told.unwrap_or_default().into_iter().find(|told| matches!(told, Told::Error { .. }));
            return Ok(Answered { status, session, told, page: wire::page(&page) });
        }
        let told = self.read(&mut response, Answer::new(id)).await?;
        Ok(Answered { status, session, told, page: "no answer".into() })
    }

    async fn read(&self, response: &mut Response, mut answer: Answer) -> Result<Option<Told>, McpError> {
        let mut asked = 0;
        while let Some(bytes) = response.chunk().await? {
            for told in answer.feed(&bytes)? {
                let Told::Asked { id, method } = told else {
                    wire::finish_reading(response).await;
                    return Ok(Some(told));
                };
                asked += 1;
                if asked > ASKED_MAX {
                    return Err(McpError::TooLarge(format!("more than {ASKED_MAX} requests during one")));
                }
                self.answer(&id, &method).await;
            }
        }
        Ok(answer.finish()?.into_iter().find(|told| !matches!(told, Told::Asked { .. })))
    }

    /// Answers a request of the server. Only older servers have such.
    async fn answer(&self, id: &Value, method: &str) {
        let era = self.shared.era.borrow().clone();
        let Some(era @ Era::Legacy { .. }) = era else { return };
        if let Err(error) = self.notify(message::answer_to_server(id, method), &era).await {
            log::info!("a request of a server of tools was not answered: {error}");
        }
    }

    fn request(&self, body: String) -> Request {
        let request = Request::post(self.shared.url.as_str()).timeout(self.timeout);
        request.header("accept", "application/json, text/event-stream").json(body)
    }

    fn next_id(&self) -> u64 {
        self.shared.last_id.set(self.shared.last_id.get() + 1);
        self.shared.last_id.get()
    }
}

fn in_session(request: Request, era: &Era) -> Request {
    match era {
        Era::Modern => request,
        Era::Legacy { version, session } => {
            let request = request.header("MCP-Protocol-Version", *version);
            session.iter().fold(request, |request, session| request.header("Mcp-Session-Id", session.as_str()))
        }
    }
}

/// The id of a session has visible letters of ASCII only.
fn is_session(text: &str) -> bool {
    !text.is_empty() && text.len() <= SESSION_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Answered {
    fn result(self) -> Result<Value, McpError> {
        match self.told {
            Some(Told::Result(result)) => Ok(result),
            Some(Told::Error { code, message, .. }) => Err(McpError::Rpc { code, message }),
            Some(Told::Asked { .. }) | None if self.status < 400 => {
                Err(McpError::Invalid("the stream ended without the answer".into()))
            }
            Some(Told::Asked { .. }) | None => Err(McpError::Status { status: self.status, message: self.page }),
        }
    }
}
