//! Events as posts to a URL, signed as LiveKit signs its own webhooks: the `Authorization` header is a token of the API key
//! whose `sha256` is the hash of the body, so that LiveKit's own receivers can verify it.
//!
//! Bounds: one post at a time, [`POST_WITHIN`] for each attempt, [`ATTEMPTS`] attempts.

use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use livekit_token::AccessToken;
use sha2::{Digest, Sha256};
use wasm_worker_core::secret::Secret;

use super::sink::Place;
use crate::config::Config;

const POST_WITHIN: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 3;
/// As LiveKit's server has it.
const TOKEN_TTL: Duration = Duration::from_secs(5 * 60);
const CONTENT_TYPE: &str = "application/webhook+json";

/// Where to post.
pub(crate) struct Webhook {
    url: String,
    key: Secret,
    secret: Secret,
    agent: ureq::Agent,
}

impl Webhook {
    /// None where it is not set.
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

impl Place for Webhook {
    fn take(&mut self, line: &str) -> Result<(), String> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_jitter()
            .with_max_times(ATTEMPTS - 1);
        (|| self.post(line)).retry(pauses).call()
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}
