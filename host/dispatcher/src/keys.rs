//! API keys: the verification of access tokens, and the tokens of jobs.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::{AccessToken, Claims, TokenVerifier, VideoGrants};

use crate::settings::KeyPairs;
use wasm_worker_protocol::dispatcher_session::WorkerRegistration;

/// LiveKit's API key and secret for development. They are public.
pub const DEVELOPMENT_PAIR: (&str, &str) = ("devkey", "secret");

/// The lifetime of a job's token, as in LiveKit's server.
const JOB_TOKEN_TTL: Duration = Duration::from_secs(60 * 60);
/// The attribute with the agent's name in a job's token, as in LiveKit's server.
const AGENT_NAME_ATTRIBUTE: &str = "lk.agent_name";

/// The API keys and their secrets.
pub(crate) struct Keys(KeyPairs);

/// The caller of a request, by its token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The API key that signed the token.
    pub(crate) api_key: String,
    pub(crate) grants: VideoGrants,
}

impl Keys {
    pub(crate) fn new(pairs: &KeyPairs) -> Self {
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

    /// The caller with this token. The token must be signed by one of the keys with HS256, and not be expired.
    pub(crate) fn verify(&self, token: &str) -> Result<Caller, String> {
        let unverified = Claims::from_unverified(token).map_err(|error| format!("invalid token: {error}"))?;
        let secret = self.0.get(&unverified.iss).ok_or_else(|| "invalid API key".to_owned())?;
        let claims = TokenVerifier::with_api_key(&unverified.iss, &secret.0).verify(token);
        let claims = claims.map_err(|error| format!("invalid token: {error}"))?;
        Ok(Caller { api_key: claims.iss, grants: claims.video })
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
        let allowed = &worker.permissions;
        let grants = VideoGrants {
            room_join: true,
            agent: true,
            room: job.room.as_ref().map(|room| room.name.clone()).unwrap_or_default(),
            can_subscribe: Some(allowed.can_subscribe),
            can_publish: Some(allowed.can_publish),
            can_publish_data: Some(allowed.can_publish_data),
            can_update_own_metadata: Some(allowed.can_update_metadata),
            hidden: allowed.hidden,
            ..Default::default()
        };
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

#[cfg(test)]
mod tests {
    use wasm_worker_core::secret::Secret;

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
        assert!(keys.verify(until_2001).unwrap_err().contains("invalid token"));
        let without_expiry = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwibmJmIjowLCJ2aWRlbyI6eyJhZ2VudCI6dHJ1ZX19.osQ-d3cE-sin_EL8x61uVCUTANCgSTanjNhG2ayTGVI";
        assert!(keys.verify(without_expiry).is_err());
    }
}
