//! The sink that posts events to a URL, as LiveKit's server posts its own, so that LiveKit's receivers verify and read the posts: the
//! `Authorization` header is a token of the API key with the `sha256` of the body, and the body is a `WebhookEvent`.
//!
//! An event is delivered when the receiver answers with a 2xx status. Redirects are not followed.
//!
//! Bounds: one post at a time, [`POST_WITHIN`] for each attempt, [`ATTEMPTS`] attempts with pauses up to [`PAUSE_MAX`].

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Request;
use hyper::body::Bytes;
use jiff::Timestamp;
use livekit_token::AccessToken;
use rand::RngExt;
use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use wasm_worker_core::backoff::Backoff;
use wasm_worker_core::secret::Secret;

use super::sink::EventSink;
use crate::config::Config;
use crate::http_client::HttpClient;

const POST_WITHIN: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The lifetime that LiveKit's server uses.
const TOKEN_TTL: Duration = Duration::from_secs(5 * 60);
const CONTENT_TYPE: &str = "application/webhook+json";
/// Nothing of an answer is used but its status.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const ID_CHARS: usize = 12;

/// The receiver of the posts, and the key that signs them.
pub(crate) struct Webhook {
    url: String,
    key: Secret,
    secret: Secret,
    client: HttpClient,
}

impl Webhook {
    /// The webhook of the settings; none where it is not set.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let (url, key, secret) =
            (config.webhook.clone()?, config.livekit.api_key.clone()?, config.livekit.api_secret.clone()?);
        Some(Self { url, key, secret, client: HttpClient::new(POST_WITHIN, ANSWER_BYTES_MAX) })
    }

    fn post(&self, body: &Bytes) -> Result<(), String> {
        let hash = BASE64_STANDARD.encode(Sha256::digest(body));
        let token = AccessToken::with_api_key(&self.key.0, &self.secret.0).with_ttl(TOKEN_TTL).with_sha256(&hash);
        let token = token.to_jwt().map_err(|error| error.to_string())?;
        let request = Request::post(&self.url).header("Authorization", &token).header("Content-Type", CONTENT_TYPE);
        let request = request.body(body.clone()).map_err(|error| format!("{}: {error}", self.url))?;
        let answer = self.client.deliver_and_wait(request).map_err(|error| format!("{}: {error}", self.url))?;
        match (answer.status, answer.redirect()) {
            (status, _) if status.is_success() => Ok(()),
            (status, Some(place)) => {
                Err(format!("{}: the receiver answered {status}; set the URL to `{place}`", self.url))
            }
            (status, None) => Err(format!("{}: the receiver answered {status}; want a 2xx status", self.url)),
        }
    }
}

impl EventSink for Webhook {
    #[expect(clippy::disallowed_methods, reason = "the thread belongs to this sink")]
    fn write(&mut self, line: &str) -> Result<(), String> {
        let body = Bytes::from(webhook_event(line)?);
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            let posted = self.post(&body);
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

/// An event in the form of LiveKit's `WebhookEvent`, in which `job`, `room`, `participant` and `track` are messages. What happens in a
/// hosted room has LiveKit's name. The other fields of the event are unknown to LiveKit's receivers, which ignore them.
fn webhook_event(line: &str) -> Result<String, String> {
    let mut event: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let at: Option<Timestamp> = event.get("at").and_then(Value::as_str).and_then(|at| at.parse().ok());
    let room = event.get("room").and_then(Value::as_str).map(|name| json!({ "name": name }));
    let mut job = Map::new();
    for (name, key) in [("job", "id"), ("dispatch", "dispatchId"), ("agent", "agentName")] {
        if let Some(text) = event.get(name).filter(|text| text.is_string()) {
            job.insert(key.into(), text.clone());
        }
    }
    job.extend(room.clone().map(|room| ("room".into(), room)));
    if event.contains_key("job") {
        event.insert("job".into(), job.into());
    }
    event.extend(room.map(|room| ("room".into(), room)));
    if let Some(Value::Object(facts)) = event.remove("livekit") {
        event.extend(facts);
        let name = event.get("event").and_then(Value::as_str).map(|name| name.replace('.', "_"));
        event.extend(name.map(|name| ("event".into(), name.into())));
    }
    // A receiver knows an event that it gets twice by its id. JSON has numbers of 64 bits as texts for protobuf.
    event.insert("id".into(), format!("EV_{}", Alphanumeric.sample_string(&mut rand::rng(), ID_CHARS)).into());
    event.insert("createdAt".into(), at.unwrap_or_else(Timestamp::now).as_second().to_string().into());
    serde_json::to_string(&event).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_fields_of_livekit_s_webhook_event() {
        let line =
            r#"{"at":"2026-11-28T10:08:02.4Z","event":"job.created","agent":"a","job":"AJ_1","room":"r","attempt":2}"#;
        let event: Value = serde_json::from_str(&webhook_event(line).unwrap()).unwrap();
        assert_eq!(event["job"], json!({ "id": "AJ_1", "agentName": "a", "room": { "name": "r" } }));
        assert_eq!(event["room"], json!({ "name": "r" }));
        assert_eq!(event["createdAt"], "1795860482");
        assert_eq!(
            (&event["event"], &event["attempt"], &event["agent"]),
            (&json!("job.created"), &json!(2), &json!("a"))
        );
        assert!(event["id"].as_str().unwrap().starts_with("EV_"), "{event}");

        let line = r#"{"event":"track.published","room":"r","participant":"ann","track":"TR_1",
            "livekit":{"room":{"name":"r","sid":"RM_1"},"participant":{"identity":"ann"},"track":{"sid":"TR_1"}}}"#;
        let event: Value = serde_json::from_str(&webhook_event(line).unwrap()).unwrap();
        assert_eq!((&event["event"], &event["room"]["sid"]), (&json!("track_published"), &json!("RM_1")));
        assert_eq!((&event["participant"]["identity"], &event["track"]["sid"]), (&json!("ann"), &json!("TR_1")));
        assert!(event.get("livekit").is_none() && event.get("job").is_none(), "{event}");

        let event: Value =
            serde_json::from_str(&webhook_event(r#"{"event":"worker.drained","agent":"a"}"#).unwrap()).unwrap();
        assert!(event.get("job").is_none() && event.get("room").is_none(), "{event}");
    }
}
