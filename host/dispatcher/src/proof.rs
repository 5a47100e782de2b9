//! The proof that a dispatcher has the secret of an API key, for processes that find it by its address alone.
//!
//! Whoever holds the usual port first could say that it is a dispatcher, and would be shown tokens. So a process asks first. The
//! question is a token without grants, which only a holder of the secret can read as a question and which allows nothing; the answer
//! is another such token. Both contain a random number and the address: an answer of a dispatcher at another address does not fit,
//! and neither does the question itself.
//!
//! Bound: both tokens are valid for [`TTL`].

use std::net::SocketAddr;
use std::time::Duration;

use livekit_token::{AccessToken, Claims, TokenVerifier, VideoGrants};

use crate::keys::Keys;

const TTL: Duration = Duration::from_secs(60);
/// The subject of a question.
const QUESTION: &str = "wasm-worker-question";
/// The subject of an answer.
const ANSWER: &str = "wasm-worker-answer";
/// The header of the response to `GET /` that contains the answer, where the request contains a question.
pub const PROOF_HEADER: &str = "x-wasm-worker-proof";

/// A question to whatever listens at an address.
pub struct Question {
    key: String,
    secret: String,
    /// The random number and the address.
    about: String,
}

impl Question {
    /// A question that only the holder of this API key can answer, at this address.
    pub fn new(key: String, secret: String, address: SocketAddr) -> Self {
        let about = format!("{:032x} {address}", rand::random::<u128>());
        Self { key, secret, about }
    }

    /// The bearer token of the request.
    ///
    /// # Errors
    /// When the API key cannot sign a token.
    pub fn token(&self) -> Result<String, String> {
        sign(&self.key, &self.secret, QUESTION, &self.about)
    }

    /// Whether this is the answer.
    pub fn is_answered_by(&self, answer: &str) -> bool {
        read(&self.key, &self.secret, ANSWER, answer).is_some_and(|about| about == self.about)
    }
}

/// The answer of the dispatcher that listens at this address to a question; `None` for every other token. One that listens at all
/// addresses of the machine answers for each of them.
pub(crate) fn answer(keys: &Keys, address: SocketAddr, token: &str) -> Option<String> {
    let key = Claims::from_unverified(token).ok()?.iss;
    let secret = keys.secret(&key)?;
    let about = read(&key, secret, QUESTION, token)?;
    let asked: SocketAddr = about.rsplit_once(' ')?.1.parse().ok()?;
    let is_here = asked.port() == address.port() && (address.ip().is_unspecified() || asked.ip() == address.ip());
    is_here.then(|| sign(&key, secret, ANSWER, &about).ok()).flatten()
}

fn sign(key: &str, secret: &str, subject: &str, about: &str) -> Result<String, String> {
    let token = AccessToken::with_api_key(key, secret).with_ttl(TTL).with_identity(subject).with_metadata(about);
    token.to_jwt().map_err(|error| error.to_string())
}

/// What a token of this subject is about. A token with a grant is never one: a worker chooses the texts in those of its jobs.
fn read(key: &str, secret: &str, subject: &str, token: &str) -> Option<String> {
    let claims = TokenVerifier::with_api_key(key, secret).verify(token).ok()?;
    (claims.sub == subject && claims.video == VideoGrants::default()).then_some(claims.metadata)
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::secret::Secret;

    use super::*;

    fn keys(secret: &str) -> Keys {
        Keys::new(&[("key".to_owned(), Secret(secret.to_owned()))].into())
    }

    #[test]
    fn only_the_holder_of_the_secret_at_that_address_answers() {
        let here = SocketAddr::from(([127, 0, 0, 1], 7880));
        let question = Question::new("key".into(), "hidden".into(), here);
        let token = question.token().unwrap();
        let proof = answer(&keys("hidden"), here, &token).unwrap();
        assert!(question.is_answered_by(&proof));
        assert!(answer(&keys("guessed"), here, &token).is_none(), "another secret");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 7880));
        assert!(answer(&keys("hidden"), everywhere, &token).is_some());
        // A dispatcher elsewhere, asked by somebody between.
        for elsewhere in [([127, 0, 0, 1], 7881), ([127, 0, 0, 2], 7880), ([0, 0, 0, 0], 7881)] {
            assert!(answer(&keys("hidden"), elsewhere.into(), &token).is_none(), "{elsewhere:?}");
        }
        let forged = sign("key", "guessed", ANSWER, &question.about).unwrap();
        for wrong in [&token, &forged, "", "a.b.c"] {
            assert!(!question.is_answered_by(wrong), "{wrong}");
        }
        let another = Question::new("key".into(), "hidden".into(), here);
        assert!(!another.is_answered_by(&proof), "an answer is for one question");
    }

    #[test]
    fn the_token_of_a_job_is_no_answer() {
        let here = SocketAddr::from(([127, 0, 0, 1], 7880));
        let question = Question::new("key".into(), "hidden".into(), here);
        let grants = VideoGrants { room_join: true, room: "r".into(), ..Default::default() };
        let token = AccessToken::with_api_key("key", "hidden").with_identity(ANSWER).with_metadata(&question.about);
        assert!(!question.is_answered_by(&token.with_grants(grants).to_jwt().unwrap()));
        let grants = VideoGrants { room_list: true, ..Default::default() };
        let token = AccessToken::with_api_key("key", "hidden").with_identity(QUESTION).with_metadata(&question.about);
        assert!(answer(&keys("hidden"), here, &token.with_grants(grants).to_jwt().unwrap()).is_none());
    }
}
