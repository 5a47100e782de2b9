//! The sink that posts events to a URL, signed as LiveKit signs its own webhooks: the `Authorization` header is a token of the API
//! key with the `sha256` of the body, so that LiveKit's own receivers can verify the post.
//!
//! Bounds: one post at a time, [`POST_WITHIN`] for each attempt, [`ATTEMPTS`] attempts with pauses up to [`PAUSE_MAX`].

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use livekit_token::AccessToken;
use rand::RngExt;
use sha2::{Digest, Sha256};
use wasm_worker_core::backoff::Backoff;
use wasm_worker_core::secret::Secret;

use super::sink::EventSink;
use crate::config::Config;

const POST_WITHIN: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The lifetime that LiveKit's server uses.
const TOKEN_TTL: Duration = Duration::from_secs(5 * 60);
const CONTENT_TYPE: &str = "application/webhook+json";

/// The receiver of the posts, and the key that signs them.
pub(crate) struct Webhook {
    url: String,
    key: Secret,
    secret: Secret,
    agent: ureq::Agent,
}

impl Webhook {
    /// The webhook of the settings; none where it is not set.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let (url, key, secret) =
            (config.webhook.clone()?, config.livekit.api_key.clone()?, config.livekit.api_secret.clone()?);
        let agent = ureq::Agent::config_builder().timeout_global(Some(POST_WITHIN)).build().new_agent();
        Some(Self { url, key, secret, agent })
    }

    fn post(&self, body: &str) -> Result<(), String> {
        let hash = BASE64_STANDARD.encode(Sha256::digest(body.as_bytes()));
        let token = AccessToken::with_api_key(&self.key.0, &self.secret.0).with_ttl(TOKEN_TTL).with_sha256(&hash);
        let token = token.to_jwt().map_err(|error| error.to_string())?;
        let request = self.agent.post(&self.url).header("Authorization", &token).header("Content-Type", CONTENT_TYPE);
        request.send(body).map(drop).map_err(|error| error.to_string())
    }
}

impl EventSink for Webhook {
    #[expect(clippy::disallowed_methods, reason = "the thread belongs to this sink")]
    fn write(&mut self, line: &str) -> Result<(), String> {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            let posted = self.post(line);
            let pause = backoff.fail_with_jitter(rand::rng().random());
            if posted.is_ok() || backoff.failures() >= ATTEMPTS {
                return posted;
            }
            std::thread::sleep(pause);
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}
