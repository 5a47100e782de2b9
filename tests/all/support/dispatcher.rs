//! The embedded dispatcher as a process on loopback with a store of its own, and calls of its API.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use livekit_token::{AccessToken, VideoGrants};
use serde_json::{Value, json};

use crate::support::harness::{Call, Started, eventually, guest, wasm_worker};

/// Longest wait of a caller for an answer of a dispatcher that may be killed; then it asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A dispatcher that runs; it is killed with this value.
pub(crate) struct Dispatcher {
    process: Option<Started>,
    pub(crate) url: String,
    flags: Vec<&'static str>,
    dir: tempfile::TempDir,
}

/// What a call was answered with.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<String>,
}

impl Dispatcher {
    pub(crate) fn start(flags: &[&'static str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut dispatcher = Self { process: None, url: String::new(), flags: flags.to_vec(), dir };
        dispatcher.serve("127.0.0.1:0");
        dispatcher
    }

    fn serve(&mut self, listen: &str) {
        let store = self.store();
        let call = wasm_worker(["serve", "--listen", listen, "--log-level", "warn", "--store"]);
        let mut process = call.args([store.to_str().unwrap()]).args(self.flags.iter().copied()).start();
        let mut line = String::new();
        BufReader::new(process.take_stdout()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("the dispatcher does not start: {}", process.done().stderr);
        }
        self.url = line.trim().to_owned();
        self.process = Some(process);
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().pid()
    }

    /// Its standard error so far.
    pub(crate) fn said(&self) -> String {
        self.process.as_ref().unwrap().said()
    }

    /// End it as nobody expects.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Another one, at the same place and with the same store.
    pub(crate) fn start_again(&mut self) {
        let listen = self.url.trim_start_matches("ws://").to_owned();
        self.serve(&listen);
    }

    /// A verb of ours that talks to it.
    pub(crate) fn verb<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Call {
        wasm_worker(words).env("LIVEKIT_URL", &self.url)
    }

    /// A worker of these guests.
    pub(crate) fn worker(&self, guests: &[&str], flags: &[&str]) -> Started {
        let agents: Vec<String> = guests.iter().map(|name| guest(name).to_str().unwrap().to_owned()).collect();
        let call = self.verb(["run"].into_iter().chain(agents.iter().map(String::as_str)));
        // Other tests keep the machine busy, and nothing is read of what it says.
        let call = call.env("WASM_WORKER_LOAD_THRESHOLD", "none").env("WASM_WORKER_LOG_LEVEL", "error");
        let call = call.env("WASM_WORKER_HTTP", "off").env("WASM_WORKER_MAX_RETRY", "100");
        call.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").args(flags.iter().copied()).start()
    }

    pub(crate) fn workers(&self) -> Vec<Value> {
        let answer = self.ask("GET", "/workers", "application/json", &everything(""), &[], "");
        answer.body["workers"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone()
    }

    /// A method of LiveKit's services, in JSON, with a token that may do everything in this room.
    pub(crate) fn twirp(&self, method: &str, room: &str, request: &Value) -> Answer {
        self.twirp_as(&everything(room), method, &[], request)
    }

    pub(crate) fn twirp_as(&self, token: &str, method: &str, headers: &[(&str, &str)], request: &Value) -> Answer {
        self.ask("POST", &format!("/twirp/livekit.{method}"), "application/json", token, headers, &request.to_string())
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        content: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.url, method, path, content, token, headers, body)
    }

    /// Create a dispatch; its id.
    #[track_caller]
    pub(crate) fn dispatch(&self, room: &str, agent: &str, metadata: &str) -> String {
        let request = json!({ "agent_name": agent, "room": room, "metadata": metadata });
        let answer = self.twirp("AgentDispatchService/CreateDispatch", room, &request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// Everything that is known of a dispatch or job.
    #[track_caller]
    pub(crate) fn job(&self, id: &str) -> Value {
        let room = self.job_without_metadata(id)["room"].as_str().unwrap_or_default().to_owned();
        self.job_in(&room, id)
    }

    /// What everybody sees; the metadata is for the administrator of the room.
    #[track_caller]
    fn job_without_metadata(&self, id: &str) -> Value {
        self.job_in("", id)
    }

    #[track_caller]
    fn job_in(&self, room: &str, id: &str) -> Value {
        let answer = self.ask("GET", &format!("/jobs/{id}"), "application/json", &everything(room), &[], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Once it is over.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        self.in_state(id, "ended")
    }

    #[track_caller]
    pub(crate) fn in_state(&self, id: &str, state: &str) -> Value {
        let is_there = |job: &Value| job["state"] == state;
        eventually(&format!("{id} is {state}"), || {
            Some(self.job_without_metadata(id)).filter(is_there).map(|_| self.job(id))
        })
    }
}

/// Create a dispatch at a dispatcher that may be killed meanwhile, and return its id. As clients do, it sends the same request until it has
/// an answer.
#[track_caller]
pub(crate) fn create_across_kills(url: &str, room: &str, agent: &str, request_id: &str) -> String {
    let body = json!({ "agent_name": agent, "room": room }).to_string();
    let caller = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).build().new_agent();
    let url = format!("{}/twirp/livekit.AgentDispatchService/CreateDispatch", url.replace("ws://", "http://"));
    let text = eventually("the dispatcher takes the dispatch", || {
        let request = caller.post(&url).header("Authorization", format!("Bearer {}", everything(room)));
        let request = request.header("Content-Type", "application/json").header("X-Livekit-Request-Id", request_id);
        request.send(body.as_str()).and_then(|mut answer| answer.body_mut().read_to_string()).ok()
    });
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

/// Ask the API of the server at this URL.
pub(crate) fn ask(
    url: &str,
    method: &str,
    path: &str,
    content: &str,
    token: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let url = format!("{}{path}", url.replace("ws://", "http://"));
    let mut request = ureq::http::Request::builder().method(method).uri(url).header("Content-Type", content);
    request = request.header("Authorization", format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = match method {
        "GET" => agent.run(request.body(()).unwrap()),
        _ => agent.run(request.body(body.to_owned()).unwrap()),
    }
    .unwrap();
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let text = response.body_mut().read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status: response.status().as_u16(), body, retry_after }
}

/// A token that may do everything in a room, and with rooms.
pub(crate) fn everything(room: &str) -> String {
    let grants =
        VideoGrants { room_admin: true, room: room.into(), room_create: true, room_list: true, ..Default::default() };
    token("secret", grants)
}

pub(crate) fn token(secret: &str, grants: VideoGrants) -> String {
    AccessToken::with_api_key("devkey", secret).with_grants(grants).to_jwt().unwrap()
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }
}
