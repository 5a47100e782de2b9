//! Whether the program at the dispatcher's port of this machine has the secret of the API key. It is asked before it is shown a token
//! that allows anything: any user of the machine could hold the port.
//!
//! Bound: [`ANSWER_WITHIN`].

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use wasm_worker_dispatcher::{PROOF_HEADER, Question, reachable};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

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
    let question = Question::new(key.to_owned(), secret.to_owned(), address.port());
    let Ok(token) = question.token() else { return Listener::Stranger };
    let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).proxy(None).max_redirects(0);
    let agent = agent.http_status_as_error(false).build().new_agent();
    let url = format!("http://{address}/");
    match agent.get(url).header("Authorization", format!("Bearer {token}")).call() {
        Ok(response) => {
            let answer = response.headers().get(PROOF_HEADER).and_then(|answer| answer.to_str().ok());
            if answer.is_some_and(|answer| question.is_answered_by(answer)) {
                Listener::Trusted
            } else {
                Listener::Stranger
            }
        }
        Err(_) => Listener::Stranger,
    }
}
