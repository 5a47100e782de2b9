//! A client of a server: LiveKit's dispatch API, and `/api/v1` of wasm-worker's dispatcher. Calls block the thread.
//!
//! Bounds: [`ANSWER_WITHIN`] for an answer of at most [`ANSWER_BYTES_MAX`]; a dispatch that got no answer is sent [`TRIES`] times
//! with one request id, so that it happens once.

use std::collections::HashMap;
use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use wasm_worker_core::api::Problem;
use wasm_worker_core::api::dispatcher::{Cancelled, Dispatch};
use wasm_worker_core::text::clip;
use wasm_worker_dispatcher::{DEADLINE, PRIORITY, SERVER_NAME};

use crate::discovery::make_token;

const ANSWER_WITHIN: Duration = Duration::from_secs(70);
const ANSWER_BYTES_MAX: u64 = 256 << 20;
const TRIES: usize = 3;
const TOKEN_TTL: Duration = Duration::from_secs(10 * 60);
/// The root of the API of wasm-worker's dispatcher.
const API: &str = "/api/v1";
const ROOM_CHARS: usize = 8;
/// The HTTP status of a server that does not answer to the host name in the URL.
const MISDIRECTED: u16 = 421;

/// A client of one server.
pub struct Client {
    url: String,
    key: String,
    secret: String,
    agent: ureq::Agent,
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

impl Client {
    /// A client of the server at this URL (`ws`, `wss`, `http` or `https`), which signs its tokens with this API key.
    pub fn new(url: &str, key: String, secret: String) -> Self {
        let url = url.replacen("ws", "http", usize::from(url.starts_with("ws")));
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).http_status_as_error(false).build();
        Self { url: url.trim_end_matches('/').to_owned(), key, secret, agent: agent.new_agent() }
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
        self.get_as(&path, VideoGrants { room_list: true, room_admin: true, room, ..Default::default() })
    }

    /// Stop a dispatch at wasm-worker's dispatcher, by its own id or that of one of its jobs.
    pub(crate) fn cancel(&self, id: &str) -> Result<(), ClientError> {
        let Dispatch { room, .. } = self.get(&format!("/jobs/{}", escaped(id)))?;
        // A dispatcher of an older version wants the grant to create rooms.
        let grants = VideoGrants { room_create: true, room_admin: true, room, ..Default::default() };
        let Cancelled { .. } = self.post_as(&format!("/jobs/{}/cancel", escaped(id)), grants)?;
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

    /// Call a method of LiveKit's API.
    fn twirp<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        grants: VideoGrants,
        request: &Q,
    ) -> Result<A, ClientError> {
        let url = format!("{}/twirp/livekit.{method}", self.url);
        let (body, id) = (request.encode_to_vec(), make_token());
        let mut tries = 1;
        let mut response = loop {
            let request = self.agent.post(&url).header("Authorization", self.bearer(grants.clone())?);
            let request = request.header("Content-Type", "application/protobuf").header("X-Livekit-Request-Id", &id);
            match request.send(&body[..]) {
                Ok(response) => break response,
                Err(error) if tries == TRIES => return Err(self.unreachable(&error)),
                Err(_) => tries += 1,
            }
        };
        let (status, bytes) = self.read(&mut response)?;
        if status != 200 {
            return Err(self.refused(status, &bytes));
        }
        A::decode(&*bytes).map_err(|error| self.other_version(&error.to_string()))
    }

    /// Read from the API of wasm-worker's dispatcher.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get_as(path, VideoGrants { room_list: true, ..Default::default() })
    }

    fn get_as<T: DeserializeOwned>(&self, path: &str, grants: VideoGrants) -> Result<T, ClientError> {
        let request = self.agent.get(format!("{}{API}{path}", self.url)).header("Authorization", self.bearer(grants)?);
        self.answer(request.call())
    }

    /// Change something by the API of wasm-worker's dispatcher.
    fn post_as<T: DeserializeOwned>(&self, path: &str, grants: VideoGrants) -> Result<T, ClientError> {
        let request = self.agent.post(format!("{}{API}{path}", self.url)).header("Authorization", self.bearer(grants)?);
        self.answer(request.send_empty())
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let ours = response.headers().get("server").is_some_and(|server| server == SERVER_NAME);
        let (status, bytes) = self.read(&mut response)?;
        // A server that is reached by a wrong host name says so before any of its routes.
        if !ours && status != MISDIRECTED {
            return Err(ClientError::OtherServer { url: self.url.clone() });
        }
        if !(200..300).contains(&status) {
            return Err(self.refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| self.other_version(&error.to_string()))
    }

    fn read(&self, response: &mut Response<ureq::Body>) -> Result<(u16, Vec<u8>), ClientError> {
        let bytes = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok((response.status().as_u16(), bytes.map_err(|error| self.unreachable(&error))?))
    }

    fn bearer(&self, grants: VideoGrants) -> Result<String, ClientError> {
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_ttl(TOKEN_TTL).with_grants(grants).to_jwt();
        let token = token.map_err(|error| ClientError::Token { why: error.to_string() })?;
        Ok(format!("Bearer {token}"))
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        ClientError::Unreachable { url: self.url.clone(), why: error.to_string() }
    }

    fn other_version(&self, why: &str) -> ClientError {
        ClientError::OtherVersion { url: self.url.clone(), why: why.to_owned() }
    }

    fn refused(&self, status: u16, body: &[u8]) -> ClientError {
        let text = String::from_utf8_lossy(body);
        let why = match serde_json::from_slice(body) {
            Ok(RefusalBody::Problem(Problem { error })) => error,
            Ok(RefusalBody::Twirp { code, msg }) => format!("{code}: {msg}"),
            Err(_) => format!("{status}: {}", clip(text.trim())),
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

/// Any text as a part of a path or of a query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
