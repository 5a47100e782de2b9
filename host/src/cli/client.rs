//! How the commands that dispatch talk to a server: LiveKit's, or the dispatcher of this machine.

use std::time::Duration;

use clap::Args;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message;
use serde_json::Value;

use super::settings::{Choice, SettingFlags};
use super::{Exit, Failure};
use crate::config::Config;
use wasm_worker_dispatcher::DEVELOPMENT_PAIR;

const ANSWER_WITHIN: Duration = Duration::from_secs(70);
const TOKEN_TTL: Duration = Duration::from_secs(10 * 60);
/// Where the dispatcher of this machine is.
const HERE: &str = "http://127.0.0.1:7880";
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Of a call that finds no server, or none that answers.
const TRIES: usize = 3;

/// The settings that say where the server is.
pub(crate) struct ServerSettings;

impl Choice for ServerSettings {
    fn has(key: &str) -> bool {
        matches!(key, "url" | "api-key" | "api-secret")
    }
}

#[derive(Args)]
pub(crate) struct ClientFlags {
    #[command(flatten)]
    settings: SettingFlags<ServerSettings>,
}

/// A server to talk to.
pub(crate) struct Client {
    url: String,
    key: String,
    secret: String,
    agent: ureq::Agent,
}

/// Any text as a part of a path or of a query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What it answered, when it refused.
#[derive(serde::Deserialize)]
struct Refused {
    #[serde(default)]
    code: String,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    error: String,
}

impl ClientFlags {
    pub(crate) fn client(self) -> Result<Client, Failure> {
        let config = self.settings.load()?;
        config.check_server()?;
        Client::new(&config)
    }
}

/// The API key and its secret; the development pair where neither is set.
pub(crate) fn pair(config: &Config) -> Result<(String, String), Failure> {
    match (&config.livekit.api_key, &config.livekit.api_secret) {
        (Some(key), Some(secret)) => Ok((key.0.clone(), secret.0.clone())),
        (None, None) => Ok((DEVELOPMENT_PAIR.0.into(), DEVELOPMENT_PAIR.1.into())),
        _ => Err(Failure::usage("want both `api-key` and `api-secret`, or neither for the development pair")),
    }
}

impl Client {
    fn new(config: &Config) -> Result<Self, Failure> {
        let (key, secret) = pair(config)?;
        let url = config.livekit.url.clone().unwrap_or_else(|| HERE.into());
        let url = url.replacen("ws", "http", usize::from(url.starts_with("ws")));
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).http_status_as_error(false).build();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), key, secret, agent: agent.new_agent() })
    }

    /// Call a method of LiveKit's. A call that brought no answer is made again; it is the same call, by its id.
    pub(crate) fn twirp<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        grants: VideoGrants,
        request: &Q,
    ) -> Result<A, Failure> {
        let url = format!("{}/twirp/livekit.{method}", self.url);
        let (body, id) = (request.encode_to_vec(), crate::discovery::make_token());
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
        A::decode(&*bytes).map_err(|error| self.strange(&error.to_string()))
    }

    /// Read a page of our dispatcher.
    pub(crate) fn page(&self, path: &str) -> Result<Value, Failure> {
        let grants = VideoGrants { room_list: true, ..Default::default() };
        let request = self.agent.get(format!("{}{path}", self.url)).header("Authorization", self.bearer(grants)?);
        self.json(request.call())
    }

    /// Have our dispatcher do something.
    pub(crate) fn act(&self, path: &str) -> Result<Value, Failure> {
        let grants = VideoGrants { room_create: true, ..Default::default() };
        let request = self.agent.post(format!("{}{path}", self.url)).header("Authorization", self.bearer(grants)?);
        self.json(request.send_empty())
    }

    fn json(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let ours = response.headers().get("server").is_some_and(|server| server == wasm_worker_dispatcher::SERVER_NAME);
        let (status, bytes) = self.read(&mut response)?;
        if !ours {
            let error = format!("the server at `{}` is not wasm-worker's dispatcher, and does not tell this", self.url);
            let hint = "LiveKit's server forgets how jobs end; the workers tell: `wasm-worker ps`, --events, --webhook"
                .to_owned();
            return Err(Failure { exit: Exit::Usage, error: error.into(), hint: Some(hint) });
        }
        if !(200..300).contains(&status) {
            return Err(self.refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| self.strange(&error.to_string()))
    }

    fn read(&self, response: &mut ureq::http::Response<ureq::Body>) -> Result<(u16, Vec<u8>), Failure> {
        let bytes = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok((response.status().as_u16(), bytes.map_err(|error| self.unreachable(&error))?))
    }

    fn bearer(&self, grants: VideoGrants) -> Result<String, Failure> {
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_ttl(TOKEN_TTL).with_grants(grants).to_jwt();
        let token = token.map_err(|error| Failure::usage(format!("no token can be made with this key: {error}")))?;
        Ok(format!("Bearer {token}"))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let failure = format!("the server at `{}` does not answer: {error}", self.url);
        let hint = "start one with `wasm-worker run AGENT` or `wasm-worker serve`, or name one with --url".to_owned();
        Failure { exit: Exit::Host, error: failure.into(), hint: Some(hint) }
    }

    fn strange(&self, why: &str) -> Failure {
        let error = format!("the server at `{}` is of another version: {why}", self.url);
        Failure { exit: Exit::Host, error: error.into(), hint: None }
    }

    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let text = String::from_utf8_lossy(body);
        let why = match serde_json::from_slice::<Refused>(body) {
            Ok(Refused { error, .. }) if !error.is_empty() => error,
            Ok(Refused { code, msg, .. }) if !code.is_empty() => format!("{code}: {msg}"),
            _ => format!("{status}: {}", wasm_worker_core::text::clip(text.trim())),
        };
        let hint = match status {
            401 => Some("check LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and that the clocks agree".to_owned()),
            429 => Some("try again in a second".to_owned()),
            _ => None,
        };
        let exit = if status >= 500 { Exit::Host } else { Exit::Usage };
        Failure { exit, error: format!("the server at `{}` refuses: {why}", self.url).into(), hint }
    }
}
