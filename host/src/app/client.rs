//! A client of a server: LiveKit's dispatch API, and `/api/v1` of wasm-worker's dispatcher. Calls block the thread.
//!
//! Bounds: [`ANSWER_WITHIN`] for an answer of at most [`ANSWER_BYTES_MAX`]; a dispatch that got no answer is sent [`TRIES`] times
//! with one request id, so that it happens once.

mod rooms;

use std::collections::HashMap;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};
use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wasm_worker_core::api::Problem;
use wasm_worker_core::api::dispatcher::{Cancelled, Dispatch};
use wasm_worker_core::text::clip;
use wasm_worker_dispatcher::{DEADLINE, PRIORITY, SERVER_NAME};

use crate::discovery::make_token;
use crate::http_client::{Answer, HttpClient};
use wasm_worker_network::fault::ConnectionError;

const ANSWER_WITHIN: Duration = Duration::from_secs(70);
const ANSWER_BYTES_MAX: usize = 256 << 20;
const TRIES: usize = 3;
const TOKEN_TTL: Duration = Duration::from_secs(10 * 60);
/// The root of the API of wasm-worker's dispatcher.
const API: &str = "/api/v1";
const ROOM_CHARS: usize = 8;
/// A room that a probe asks for.
const PROBED_ROOM: &str = "wasm-worker-doctor";

/// A client of one server.
pub struct Client {
    url: String,
    key: String,
    secret: String,
    http: HttpClient,
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server does not answer.
    #[error("the server at `{url}` does not answer: {why}")]
    Unreachable {
        /// The URL of the server.
        url: String,
        /// The cause.
        why: String,
    },
    /// The server refused the call.
    #[error("the server at `{url}` refuses: {why}")]
    Refused {
        /// The URL of the server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The reason that the server gave.
        why: String,
    },
    /// The server has no `/api/v1`.
    #[error("the server at `{url}` is not wasm-worker's dispatcher, and has no such list")]
    OtherServer {
        /// The URL of the server.
        url: String,
    },
    /// The answer is not of the expected form.
    #[error("the server at `{url}` has another version: {why}")]
    OtherVersion {
        /// The URL of the server.
        url: String,
        /// The first difference.
        why: String,
    },
    /// The API key and its secret make no token.
    #[error("no token can be signed with this API key: {why}")]
    Token {
        /// The cause.
        why: String,
    },
}

impl ClientError {
    /// Advice for the caller, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start one with `wasm-worker run AGENT` or `wasm-worker serve`, or name another with --url")
            }
            Self::Refused { status: 401, .. } => {
                Some("check LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and that the clocks agree")
            }
            Self::Refused { status: 429, .. } => Some("try again in a second"),
            Self::OtherServer { .. } => Some(
                "LiveKit's server does not keep how jobs ended; the workers do: `wasm-worker ps`, `--events`, `--webhook`",
            ),
            Self::Refused { .. } | Self::OtherVersion { .. } | Self::Token { .. } => None,
        }
    }
}

/// A request to run an agent.
#[derive(Clone, Debug, Default)]
pub struct DispatchRequest {
    /// The name that the agent is registered under. The empty name is for workers without a name.
    pub agent: String,
    /// The room of the job; a new one where it is absent.
    pub room: Option<String>,
    /// The metadata of the job, often JSON.
    pub metadata: String,
    /// The attributes of the job.
    pub attributes: HashMap<String, String>,
    /// The deployment of the agent.
    pub deployment: String,
    /// The position in the queue: higher goes first, and 0 is the default.
    pub priority: i32,
    /// The time that the dispatch may wait for a worker, such as `30s`; the dispatcher's default where it is absent.
    pub deadline: Option<String>,
    /// What happens when the worker of the job dies.
    pub on_loss: OnLoss,
}

/// What happens to a dispatch when the worker of its job dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Another worker runs the job again.
    #[default]
    Retry,
    /// The dispatch ends as `lost`.
    End,
}

/// The answer to a call whose result does not matter.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The reason that the server gave, where it refused.
    pub(crate) why: String,
    /// The server's time, in seconds since 1970.
    pub(crate) date_seconds: Option<i64>,
}

impl Client {
    /// A client of the server at this URL (`ws`, `wss`, `http` or `https`), which signs its tokens with this API key.
    pub fn new(url: &str, key: String, secret: String) -> Self {
        let url = url.replacen("ws", "http", usize::from(url.starts_with("ws")));
        let http = HttpClient::new(ANSWER_WITHIN, ANSWER_BYTES_MAX);
        Self { url: url.trim_end_matches('/').to_owned(), key, secret, http }
    }

    /// Dispatch an agent, and return the id of the dispatch.
    ///
    /// # Errors
    /// When the server does not answer or refuses, for example because its queue is full.
    pub fn dispatch(&self, request: DispatchRequest) -> Result<String, ClientError> {
        Ok(self.create_dispatch(request)?.id)
    }

    /// The state of a dispatch at wasm-worker's dispatcher, by its own id or that of one of its jobs.
    ///
    /// # Errors
    /// When the server does not answer, does not know the id, or is not wasm-worker's dispatcher.
    pub fn job(&self, id: &str) -> Result<Dispatch, ClientError> {
        let path = format!("/jobs/{}", escaped(id));
        // The grant to list rooms shows the room. Metadata and attributes need the grant to administer that room.
        let Dispatch { room, .. } = self.get(&path)?;
        let grants = VideoGrants { room_list: true, room_admin: true, room, ..Default::default() };
        self.ask(Request::get(format!("{}{API}{path}", self.url)), grants)
    }

    /// Stop a dispatch at wasm-worker's dispatcher, by its own id or that of one of its jobs.
    pub(crate) fn cancel(&self, id: &str) -> Result<(), ClientError> {
        let Dispatch { room, .. } = self.get(&format!("/jobs/{}", escaped(id)))?;
        // A dispatcher of an older version wants the grant to create rooms.
        let grants = VideoGrants { room_create: true, room_admin: true, room, ..Default::default() };
        let url = format!("{}{API}/jobs/{}/cancel", self.url, escaped(id));
        let Cancelled { .. } = self.ask(Request::post(url), grants)?;
        Ok(())
    }

    /// Dispatch an agent, and return the dispatch as LiveKit's API has it.
    pub(crate) fn create_dispatch(&self, request: DispatchRequest) -> Result<proto::AgentDispatch, ClientError> {
        let DispatchRequest { agent, room, metadata, mut attributes, deployment, priority, deadline, on_loss } =
            request;
        if priority != 0 {
            attributes.insert(PRIORITY.into(), priority.to_string());
        }
        attributes.extend(deadline.map(|deadline| (DEADLINE.to_owned(), deadline)));
        let restart = match on_loss {
            OnLoss::Retry => proto::JobRestartPolicy::JrpOnFailure,
            OnLoss::End => proto::JobRestartPolicy::JrpNever,
        };
        let new_room = || format!("room-{}", make_token().get(..ROOM_CHARS).unwrap_or_default());
        let room = room.unwrap_or_else(new_room);
        let grants = VideoGrants { room_admin: true, room: room.clone(), ..Default::default() };
        let restart_policy = restart as i32;
        let request = proto::CreateAgentDispatchRequest {
            agent_name: agent,
            room,
            metadata,
            restart_policy,
            deployment,
            attributes,
        };
        self.twirp("AgentDispatchService/CreateDispatch", grants, &request)
    }

    /// Call the server once, to learn whether it answers, accepts the key, and has the same time.
    pub(crate) fn probe(&self, within: Duration) -> Result<Probe, ClientError> {
        let grants = VideoGrants { room_list: true, ..Default::default() };
        // The answer is short: no room has this name.
        let request = proto::ListRoomsRequest { names: vec![PROBED_ROOM.into()] };
        let url = format!("{}/twirp/livekit.RoomService/ListRooms", self.url);
        let call = Request::post(url).header("Authorization", self.bearer(grants)?);
        let call = call.header("Content-Type", "application/protobuf");
        let http = HttpClient::new(within, ANSWER_BYTES_MAX);
        let answer = self.send_by(&http, call, request.encode_to_vec().into())?;
        let date = answer.headers.get("date").and_then(|date| date.to_str().ok()).and_then(date_seconds);
        let why = match self.refused(&answer) {
            ClientError::Refused { why, .. } => why,
            other => other.to_string(),
        };
        Ok(Probe { status: answer.status.as_u16(), why, date_seconds: date })
    }

    /// Call a method of LiveKit's API.
    fn twirp<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        grants: VideoGrants,
        request: &Q,
    ) -> Result<A, ClientError> {
        let url = format!("{}/twirp/livekit.{method}", self.url);
        let (body, id) = (Bytes::from(request.encode_to_vec()), make_token());
        let mut tries = 1;
        let answer = loop {
            let request = Request::post(&url).header("Authorization", self.bearer(grants.clone())?);
            let request = request.header("Content-Type", "application/protobuf").header("X-Livekit-Request-Id", &id);
            match self.send(request, body.clone()) {
                Ok(answer) => break answer,
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
            }
        };
        if answer.status != StatusCode::OK {
            return Err(self.refused(&answer));
        }
        A::decode(answer.body).map_err(|error| self.other_version(&error.to_string()))
    }

    /// Read from the API of wasm-worker's dispatcher.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(
            Request::get(format!("{}{API}{path}", self.url)),
            VideoGrants { room_list: true, ..Default::default() },
        )
    }

    fn ask<T: DeserializeOwned>(&self, request: Builder, grants: VideoGrants) -> Result<T, ClientError> {
        let answer = self.send(request.header("Authorization", self.bearer(grants)?), Bytes::new())?;
        // A server that is reached by a wrong host name says so before any of its routes.
        if answer.redirect().is_some() || answer.status == StatusCode::MISDIRECTED_REQUEST {
            return Err(self.refused(&answer));
        }
        if answer.headers.get("server").is_none_or(|server| server != SERVER_NAME) {
            return Err(ClientError::OtherServer { url: self.url.clone() });
        }
        if !answer.status.is_success() {
            return Err(self.refused(&answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.other_version(&error.to_string()))
    }

    fn send(&self, request: Builder, body: Bytes) -> Result<Answer, ClientError> {
        self.send_by(&self.http, request, body)
    }

    fn send_by(&self, http: &HttpClient, request: Builder, body: Bytes) -> Result<Answer, ClientError> {
        let unreachable =
            |error: ConnectionError| ClientError::Unreachable { url: self.url.clone(), why: error.to_string() };
        if self.url.contains(['?', '#']) {
            return Err(unreachable(ConnectionError::Url));
        }
        let request = request.body(body).map_err(|_| unreachable(ConnectionError::Url))?;
        http.call_and_wait(request).map_err(unreachable)
    }

    fn bearer(&self, grants: VideoGrants) -> Result<String, ClientError> {
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_ttl(TOKEN_TTL).with_grants(grants).to_jwt();
        let token = token.map_err(|error| ClientError::Token { why: error.to_string() })?;
        Ok(format!("Bearer {token}"))
    }

    fn other_version(&self, why: &str) -> ClientError {
        ClientError::OtherVersion { url: self.url.clone(), why: why.to_owned() }
    }

    fn refused(&self, answer: &Answer) -> ClientError {
        let status = answer.status.as_u16();
        let text = String::from_utf8_lossy(&answer.body);
        let why = match (serde_json::from_slice(&answer.body), answer.redirect()) {
            (_, Some(place)) => format!("{status}: it redirects to `{place}`; use the URL that this leads to"),
            (Ok(RefusalBody::Problem(Problem { error })), None) => clip(&error),
            (Ok(RefusalBody::Twirp { code, msg }), None) => clip(&format!("{code}: {msg}")),
            (Err(_), None) if status == 404 => "404: it has no LiveKit API; want the URL of a LiveKit server".into(),
            (Err(_), None) => format!("{status}: {}", clip(text.trim())),
        };
        ClientError::Refused { url: self.url.clone(), status, why }
    }
}

/// The body of a refusal: that of `/api/v1`, or that of LiveKit's API.
#[derive(Deserialize)]
#[serde(untagged)]
enum RefusalBody {
    Problem(Problem),
    Twirp { code: String, msg: String },
}

/// The time in the header `Date`.
fn date_seconds(date: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp().as_second())
}

/// Any text as a part of a path or of a query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
