//! Whether the program at the dispatcher's port of this machine has the secret of the API key. It is asked before it is shown a token
//! that allows anything: any user of the machine could hold the port.
//!
//! Bounds: [`ANSWER_WITHIN`] and [`ANSWER_BYTES_MAX`].

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use wasm_worker_dispatcher::{PROOF_HEADER, Question, reachable};

use crate::http_client::HttpClient;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The proof is in the head of the answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What listens at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// A dispatcher that proves to have the secret.
    Trusted,
    /// Something else, or a dispatcher that has another secret.
    Stranger,
    /// Nothing that answers.
    Silent,
}

/// Ask what listens at an address of this machine. Blocks the thread.
pub(crate) fn ask(address: SocketAddr, key: &str, secret: &str) -> Listener {
    let address = reachable(address);
    if TcpStream::connect_timeout(&address, ANSWER_WITHIN).is_err() {
        return Listener::Silent;
    }
    let question = Question::new(key.to_owned(), secret.to_owned(), address);
    let Ok(token) = question.token() else { return Listener::Stranger };
    let request = Request::get(format!("http://{address}/")).header(AUTHORIZATION, format!("Bearer {token}"));
    let Ok(request) = request.body(Bytes::new()) else { return Listener::Stranger };
    let answer = HttpClient::new(ANSWER_WITHIN, ANSWER_BYTES_MAX).deliver_and_wait(request);
    let proof = answer.as_ref().ok().and_then(|answer| answer.headers.get(PROOF_HEADER)?.to_str().ok());
    if proof.is_some_and(|proof| question.is_answered_by(proof)) { Listener::Trusted } else { Listener::Stranger }
}
