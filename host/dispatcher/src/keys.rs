//! API keys: the verification of access tokens, and the tokens of jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use livekit_protocol as proto;
use livekit_protocol::TrackSource;
use livekit_token::{AccessToken, VideoGrants};
use serde::Deserialize;
use serde_json::Value;

use crate::proto_json;
use crate::settings::KeyPairs;
use wasm_worker_core::text::clip;
use wasm_worker_protocol::dispatcher_session::WorkerRegistration;

/// LiveKit's API key and secret for development. They are public.
pub const DEVELOPMENT_PAIR: (&str, &str) = ("devkey", "secret");

/// The lifetime of a job's token, as in LiveKit's server.
const JOB_TOKEN_TTL: Duration = Duration::from_secs(60 * 60);
/// The shortest lifetime of a participant's next token, as in LiveKit's server.
const ROOM_TOKEN_TTL_MIN: Duration = Duration::from_secs(10 * 60);
/// The attribute with the agent's name in a job's token, as in LiveKit's server.
const AGENT_NAME_ATTRIBUTE: &str = "lk.agent_name";
/// The claim with the configuration of a new room.
const ROOM_CONFIG: &str = "roomConfig";
/// The sources of tracks that a token can name.
const SOURCES: [TrackSource; 4] =
    [TrackSource::Camera, TrackSource::Microphone, TrackSource::ScreenShare, TrackSource::ScreenShareAudio];
/// Shortest secret that nobody guesses, in bytes, as in LiveKit's server.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// The API keys and their secrets.
pub(crate) struct Keys(KeyPairs);

/// The caller of a request, by its token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The API key that signed the token.
    pub(crate) api_key: String,
    pub(crate) grants: VideoGrants,
    /// The person of a token that joins a room; of others it says nothing.
    pub(crate) person: Person,
    /// What the room is to be like where the person is the first in it; for an existing room it says nothing.
    pub(crate) room_config: proto::RoomConfiguration,
    /// The expiry of the token, as a Unix time.
    pub(crate) expires_s: i64,
}

/// The person of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Person {
    #[serde(rename = "sub")]
    pub(crate) identity: String,
    pub(crate) name: String,
    /// LiveKit's kind of the participant, such as `agent`; empty for the standard one.
    pub(crate) kind: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Person {
    /// The size of the metadata and the attributes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.metadata.len() + self.attributes_bytes()
    }

    /// The size of the attributes, names and values together, in bytes.
    pub(crate) fn attributes_bytes(&self) -> usize {
        self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Why a token is refused. No text shows a secret or a valid signature.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The text is no token, or has another algorithm.
    #[error("invalid token: want a JSON Web Token that is signed with HS256")]
    Malformed,
    /// The token names no API key.
    #[error("invalid token: it names no API key (`iss`)")]
    NoKey,
    /// The API key is not known.
    #[error("invalid API key: the server has no API key `{0}`")]
    UnknownKey(String),
    /// The signature is that of another secret.
    #[error("invalid token: it is not signed with the server's secret of the API key `{0}`")]
    Signature(String),
    /// The token is no longer valid.
    #[error("invalid token: it expired at {at}, and the clock of the server shows {now:.0}")]
    Expired { at: Timestamp, now: Timestamp },
    /// The token is not valid yet.
    #[error("invalid token: it is not valid before {at}, and the clock of the server shows {now:.0}")]
    NotYetValid { at: Timestamp, now: Timestamp },
    /// The token would be valid for ever.
    #[error("invalid token: it has no expiry (`exp`)")]
    NoExpiry,
    /// A claim has another type than it should have.
    #[error("invalid token: its claim `{claim}` cannot be read: {why}")]
    Claim { claim: String, why: String },
}

/// The claims that an error names. They are read before the signature is verified.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Unverified {
    iss: Option<String>,
    exp: Value,
    nbf: Value,
}

impl Keys {
    pub(crate) fn new(pairs: &KeyPairs) -> Self {
        // The first token that is signed installs the algorithms that tokens are verified with.
        pairs.iter().for_each(|(key, secret)| drop(AccessToken::with_api_key(key, &secret.0).to_jwt()));
        Self(pairs.clone())
    }

    /// Whether the development key is among them.
    pub(crate) fn is_development(&self) -> bool {
        self.0.contains_key(DEVELOPMENT_PAIR.0)
    }

    pub(crate) fn secret(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|secret| secret.0.as_str())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// The API keys whose secret can be guessed.
    pub(crate) fn weak(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|(_, secret)| secret.0.len() < SECRET_BYTES_MIN).map(|(key, _)| key)
    }

    /// The caller with this token. The token must be signed by one of the keys with HS256, and not be expired.
    pub(crate) fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let unverified = insecure_decode::<Unverified>(token).map_err(|_| TokenError::Malformed)?.claims;
        let key = unverified.iss.as_deref().filter(|key| !key.is_empty()).ok_or(TokenError::NoKey)?;
        let secret = self.0.get(key).filter(|secret| !secret.0.is_empty());
        let secret = secret.ok_or_else(|| TokenError::UnknownKey(clip(key)))?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_nbf = true;
        // Like LiveKit's server, ignore the audience.
        validation.validate_aud = false;
        let decoded = decode::<Value>(token, &DecodingKey::from_secret(secret.0.as_bytes()), &validation);
        let mut claims = decoded.map_err(|error| token_error(&error, key, &unverified))?.claims;
        let expires_s = unix_seconds(claims.get("exp"));
        let grants =
            grants(&mut claims).map_err(|error| TokenError::Claim { claim: "video".into(), why: error.to_string() })?;
        let room_config = room_config(&mut claims)
            .map_err(|error| TokenError::Claim { claim: ROOM_CONFIG.into(), why: error.to_string() })?;
        let person = person(claims);
        Ok(Caller { api_key: key.to_owned(), grants, person, room_config, expires_s })
    }

    /// The next token of a participant, with its newest facts. It is valid for as long as the one before, and at least for
    /// [`ROOM_TOKEN_TTL_MIN`].
    pub(crate) fn room_token(&self, caller: &Caller) -> Result<String, String> {
        let secret = self.0.get(&caller.api_key).ok_or("the API key of the participant is not configured")?;
        let left = u64::try_from(caller.expires_s.saturating_sub(Timestamp::now().as_second())).unwrap_or_default();
        let person = &caller.person;
        let mut token = AccessToken::with_api_key(&caller.api_key, &secret.0)
            .with_ttl(Duration::from_secs(left).max(ROOM_TOKEN_TTL_MIN))
            .with_identity(&person.identity)
            .with_name(&person.name)
            .with_kind(&person.kind)
            .with_metadata(&person.metadata)
            .with_attributes(&person.attributes)
            .with_grants(caller.grants.clone());
        if caller.room_config != proto::RoomConfiguration::default() {
            token = token.with_room_config(caller.room_config.clone());
        }
        token.to_jwt().map_err(|error| error.to_string())
    }

    /// The token with which the agent of a job joins its room, as LiveKit's server creates it.
    pub(crate) fn job_token(
        &self,
        api_key: &str,
        worker: &WorkerRegistration,
        job: &proto::Job,
        answer: &proto::AvailabilityResponse,
    ) -> Result<String, String> {
        let secret = self.0.get(api_key).ok_or("the API key of the worker is not configured")?;
        let mut grants = VideoGrants {
            room_join: true,
            agent: true,
            room: job.room.as_ref().map(|room| room.name.clone()).unwrap_or_default(),
            hidden: worker.permissions.hidden,
            ..Default::default()
        };
        permit(&mut grants, &worker.permissions);
        let mut attributes = answer.participant_attributes.clone();
        attributes.insert(AGENT_NAME_ATTRIBUTE.into(), worker.dispatch_key.agent.clone());
        let token = AccessToken::with_api_key(api_key, &secret.0)
            .with_ttl(JOB_TOKEN_TTL)
            .with_identity(&answer.participant_identity)
            .with_name(&answer.participant_name)
            .with_kind("agent")
            .with_metadata(&answer.participant_metadata)
            .with_attributes(attributes)
            .with_grants(grants);
        token.to_jwt().map_err(|error| error.to_string())
    }
}

/// Grant what a permission allows, and nothing else of that kind. What a participant is, such as hidden or an agent, stays.
pub(crate) fn permit(grants: &mut VideoGrants, allowed: &proto::ParticipantPermission) {
    grants.can_subscribe = Some(allowed.can_subscribe);
    grants.can_publish = Some(allowed.can_publish);
    grants.can_publish_data = Some(allowed.can_publish_data);
    grants.can_update_own_metadata = Some(allowed.can_update_metadata);
    let is_allowed = |source: &TrackSource| allowed.can_publish_sources.contains(&(*source as i32));
    grants.can_publish_sources = SOURCES.into_iter().filter(is_allowed).map(name_of_source).collect();
}

/// The numbers of the sources with these names, each once.
pub(crate) fn source_numbers(names: &[String]) -> Vec<i32> {
    let is_named = |source: &TrackSource| names.contains(&name_of_source(*source));
    SOURCES.into_iter().filter(is_named).map(|source| source as i32).collect()
}

/// The name of a source in tokens.
fn name_of_source(source: TrackSource) -> String {
    source.as_str_name().to_ascii_lowercase()
}

/// The person of a token. A claim that is `null` is absent. Claims of another form make nobody of it, who joins no room.
fn person(claims: Value) -> Person {
    let Value::Object(mut claims) = claims else { return Person::default() };
    claims.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(claims)).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, reason = "a time that no number holds becomes the last one")]
fn unix_seconds(claim: Option<&Value>) -> i64 {
    claim.and_then(Value::as_f64).unwrap_or_default() as i64
}

/// The grants of a token. A field that is `null` is absent.
fn grants(claims: &mut Value) -> Result<VideoGrants, serde_json::Error> {
    let mut video = claims.get_mut("video").map(Value::take).unwrap_or_default();
    match &mut video {
        Value::Null => return Ok(VideoGrants::default()),
        Value::Object(fields) => fields.retain(|_, value| !value.is_null()),
        _ => {}
    }
    serde_json::from_value(video)
}

/// The configuration of the room in a token.
fn room_config(claims: &mut Value) -> Result<proto::RoomConfiguration, serde_json::Error> {
    match claims.get_mut(ROOM_CONFIG).map(Value::take) {
        None | Some(Value::Null) => Ok(proto::RoomConfiguration::default()),
        Some(config) => proto_json::read(config.to_string().as_bytes()),
    }
}

fn token_error(error: &JwtError, key: &str, claims: &Unverified) -> TokenError {
    let now = Timestamp::now();
    let time = |claim: &Value| {
        let since_epoch = SignedDuration::try_from_secs_f64(claim.as_f64()?.round()).ok()?;
        Timestamp::from_duration(since_epoch).ok()
    };
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature(key.to_owned()),
        ErrorKind::ExpiredSignature => TokenError::Expired { at: time(&claims.exp).unwrap_or_default(), now },
        ErrorKind::ImmatureSignature => {
            TokenError::NotYetValid { at: time(&claims.nbf).unwrap_or(Timestamp::MAX), now }
        }
        ErrorKind::MissingRequiredClaim(_) if claims.exp.is_null() => TokenError::NoExpiry,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            TokenError::Claim { claim: claim.clone(), why: "want a number of seconds".into() }
        }
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wasm_worker_core::secret::Secret;
    use wasm_worker_protocol::dispatcher_session::DispatchKey;

    use super::*;

    #[test]
    fn token_must_be_signed_by_a_known_key_and_not_be_expired() {
        let keys =
            Keys::new(&[("a", "one"), ("b", "two")].map(|(key, secret)| (key.into(), Secret(secret.into()))).into());
        let token = |key: &str, secret: &str| {
            let grants = VideoGrants { agent: true, ..Default::default() };
            AccessToken::with_api_key(key, secret).with_grants(grants).to_jwt().unwrap()
        };
        let caller = keys.verify(&token("b", "two")).unwrap();
        assert_eq!((caller.api_key.as_str(), caller.grants.agent), ("b", true));
        for bad in [token("b", "one"), token("c", "two"), "x".into(), String::new(), "a.b.c".into()] {
            assert!(keys.verify(&bad).is_err(), "{bad}");
        }
        // A token with `{"alg":"none"}` that names key a.
        let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIiwiZXhwIjo5OTk5OTk5OTk5LCJuYmYiOjB9.";
        assert!(keys.verify(unsigned).is_err());
        // Tokens of key a: valid until 2286, valid until 2001, and without an expiry.
        let until_2286 = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwibmJmIjowLCJleHAiOjk5OTk5OTk5OTksInZpZGVvIjp7ImFnZW50Ijp0cnVlfX0.QJPdqvu1AgRJIE9KkB8gzKctKPpCHdlHboKR4EJELc0";
        assert!(keys.verify(until_2286).unwrap().grants.agent);
        let until_2001 = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwibmJmIjowLCJleHAiOjEwMDAwMDAwMDAsInZpZGVvIjp7ImFnZW50Ijp0cnVlfX0.L8HI8Bpa2sXJOE39h5jTFKiuer3Zy_0JCWfAxZtvH7A";
        let expired = keys.verify(until_2001).unwrap_err().to_string();
        assert!(expired.starts_with("invalid token: it expired at 2001-09-09T01:46:40Z, and the clock"), "{expired}");
        let without_expiry = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwibmJmIjowLCJ2aWRlbyI6eyJhZ2VudCI6dHJ1ZX19.osQ-d3cE-sin_EL8x61uVCUTANCgSTanjNhG2ayTGVI";
        assert_eq!(keys.verify(without_expiry).unwrap_err(), TokenError::NoExpiry);
    }

    /// A token of key `a` with these claims.
    fn signed(claims: &Value) -> String {
        let header = jsonwebtoken::Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, claims, &jsonwebtoken::EncodingKey::from_secret(b"one")).unwrap()
    }

    fn keys() -> Keys {
        Keys::new(&[("a", "one"), ("empty", "")].map(|(key, secret)| (key.into(), Secret(secret.into()))).into())
    }

    #[test]
    fn refusal_names_its_reason_and_no_secret() {
        let keys = keys();
        let now = Timestamp::now().as_second();
        let why = |token: &str| keys.verify(token).unwrap_err().to_string();
        let other = AccessToken::with_api_key("a", "two").to_jwt().unwrap();
        for (token, part) in [
            (other, "not signed with the server's secret of the API key `a`"),
            (AccessToken::with_api_key("c", "one").to_jwt().unwrap(), "the server has no API key `c`"),
            (signed(&json!({ "iss": "a", "exp": now - 3_600 })), "it expired at "),
            (signed(&json!({ "iss": "a", "exp": now + 60, "nbf": now + 3_600 })), "it is not valid before "),
            (signed(&json!({ "iss": "a" })), "it has no expiry"),
            (signed(&json!({ "iss": "a", "exp": null })), "it has no expiry"),
            (signed(&json!({ "iss": "a", "exp": "soon" })), "`exp` cannot be read: want a number"),
            (signed(&json!({ "exp": now + 60 })), "it names no API key"),
            (signed(&json!({ "iss": "empty", "exp": now + 60 })), "the server has no API key `empty`"),
            (signed(&json!({ "iss": "a", "exp": now + 60, "video": { "roomList": "yes" } })), "`video` cannot be read"),
            ("x".into(), "want a JSON Web Token"),
        ] {
            let why = why(&token);
            assert!(why.contains(part), "`{part}` is missing in `{why}`");
            assert!(!why.contains("one") && !why.contains("two"), "{why}");
        }
    }

    #[test]
    fn token_of_a_job_joins_its_room_and_no_other() {
        let keys = keys();
        let worker = WorkerRegistration {
            dispatch_key: DispatchKey { agent: "helper".into(), job_type: 0, deployment: String::new() },
            instance: String::new(),
            version: String::new(),
            permissions: proto::ParticipantPermission { can_publish_data: true, ..Default::default() },
        };
        let room = proto::Room { name: "r".into(), ..Default::default() };
        let job = proto::Job { room: Some(room), ..Default::default() };
        let answer = proto::AvailabilityResponse { participant_identity: "agent-1".into(), ..Default::default() };
        let caller = keys.verify(&keys.job_token("a", &worker, &job, &answer).unwrap()).unwrap();
        assert!(caller.grants.room_join && caller.grants.room == "r" && caller.grants.can_publish_data());
        assert!(!caller.grants.can_publish() && !caller.grants.room_admin);
        let person = caller.person;
        assert_eq!((person.identity.as_str(), person.kind.as_str()), ("agent-1", "agent"));
        assert_eq!(person.attributes[AGENT_NAME_ATTRIBUTE], "helper");
    }

    #[test]
    fn next_token_of_a_participant_says_what_is_true_by_now() {
        let keys = keys();
        let now = Timestamp::now().as_second();
        let grants = json!({ "room": "r", "roomJoin": true, "canPublish": false });
        let claims = json!({
            "iss": "a", "exp": now + 7_200, "sub": "ann", "name": null, "kind": "agent", "attributes": { "a": "1" },
            "video": grants,
        });
        let mut caller = keys.verify(&signed(&claims)).unwrap();
        assert_eq!((caller.person.identity.as_str(), caller.expires_s), ("ann", now + 7_200));
        caller.person.name = "Ann".into();
        let next = keys.verify(&keys.room_token(&caller).unwrap()).unwrap();
        assert_eq!((&next.person, &next.grants), (&caller.person, &caller.grants));
        assert!((next.expires_s - now - 7_200).abs() < 5, "{}", next.expires_s);
        caller.expires_s = now;
        let next = keys.verify(&keys.room_token(&caller).unwrap()).unwrap();
        assert!((next.expires_s - now - 600).abs() < 5, "{}", next.expires_s);
        // Claims of another form make nobody of it.
        let odd = json!({ "iss": "a", "exp": now + 60, "sub": 7 });
        assert_eq!(keys.verify(&signed(&odd)).unwrap().person, Person::default());
    }

    #[test]
    fn permission_grants_its_sources_and_keeps_what_somebody_is() {
        let mut grants = VideoGrants { hidden: true, recorder: true, room: "r".into(), ..Default::default() };
        let sources = vec![TrackSource::ScreenShare as i32, TrackSource::Camera as i32, 99];
        permit(&mut grants, &proto::ParticipantPermission { can_publish_sources: sources, ..Default::default() });
        assert_eq!(grants.can_publish_sources, ["camera", "screen_share"]);
        assert_eq!(source_numbers(&grants.can_publish_sources), [1, 3]);
        assert_eq!((grants.can_publish, grants.hidden, grants.recorder), (Some(false), true, true));
        permit(&mut grants, &proto::ParticipantPermission { can_publish: true, ..Default::default() });
        assert!(grants.can_publish() && grants.can_publish_sources.is_empty());
    }

    #[test]
    fn claims_may_have_fractions_nulls_and_unknown_fields() {
        let keys = keys();
        let now = Timestamp::now().as_second() as f64;
        let odd = json!({
            "iss": "a", "exp": now + 60.5, "nbf": now - 0.25, "iat": null, "aud": "x", "name": null, "attributes": null,
            "video": { "roomList": true, "room": null, "canPublish": null, "later": [1] },
        });
        let caller = keys.verify(&signed(&odd)).unwrap();
        assert!(caller.grants.room_list && caller.grants.room.is_empty());
        for video in [json!(null), json!({})] {
            let none = json!({ "iss": "a", "exp": now + 60.0, "video": video });
            assert_eq!(keys.verify(&signed(&none)).unwrap().grants, VideoGrants::default());
        }
        // Clocks may differ by a minute.
        assert!(keys.verify(&signed(&json!({ "iss": "a", "exp": now - 30.0, "nbf": now + 30.0 }))).is_ok());
    }
}
