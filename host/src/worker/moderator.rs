//! Acts of moderation at the server's API, for the agents that the operator grants them to.
//!
//! Each request has a token of its own, for one act in the room of the job; the agent never sees it.
//!
//! Bounds: [`WITHIN`] for an act, [`ANSWER_BYTES_MAX`] for its answer, [`AT_ONCE`] acts of one agent at a time. Each of its jobs has
//! a few open acts at most, which wait for their turn within the same time.

use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use livekit_token::VideoGrants;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasm_worker_core::room::moderation::{Moderation, ModerationDone, ModerationFailure, Moderator};
use wasm_worker_core::text::{clip, with_causes};
use wasm_worker_room::moderation::{self, ANSWER_BYTES_MAX, ModerationGrant, ModerationRequest};

use super::link::Server;
use crate::http_client::HttpClient;
use wasm_worker_network::fault::ConnectionError;

/// Longest time of an act, its wait for a turn included.
const WITHIN: Duration = Duration::from_secs(10);
/// Lifetime of a token. The clocks of two machines may differ by less.
const TOKEN_TTL: Duration = Duration::from_secs(60);
/// Most acts of one agent at a time.
const AT_ONCE: usize = 16;

/// The API of one server.
pub(super) struct ServerModerator {
    api: Arc<Api>,
    /// The runtime for everything but guests.
    control: Handle,
}

struct Api {
    server: Server,
    client: HttpClient,
    turns: Semaphore,
}

impl ServerModerator {
    fn new(server: Server, control: Handle) -> Self {
        let client = HttpClient::new(WITHIN, ANSWER_BYTES_MAX);
        Self { api: Arc::new(Api { server, client, turns: Semaphore::new(AT_ONCE) }), control }
    }

    /// One for all jobs of an agent.
    pub(super) fn shared(server: Server, control: Handle) -> Arc<dyn Moderator> {
        Arc::new(Self::new(server, control))
    }
}

impl Moderator for ServerModerator {
    fn begin(&self, room: &str, act: Moderation, done: ModerationDone) {
        let (api, request) = (self.api.clone(), moderation::request_for(act, room));
        self.control.spawn(async move {
            let late = |_| Err(failed("timeout", format!("the server's API gave no answer within {WITHIN:?}")));
            done(timeout(WITHIN, api.perform(request)).await.unwrap_or_else(late));
        });
    }
}

impl Api {
    async fn perform(&self, request: ModerationRequest) -> Result<(), ModerationFailure> {
        let ModerationRequest { path, body, grant } = request;
        // The turns are never closed.
        let _turn = self.turns.acquire().await;
        let token = self.server.token(TOKEN_TTL, grants(grant)).map_err(|why| failed("refused", why))?;
        let request = Request::post(format!("{}{path}", self.server.api_url()))
            .header(CONTENT_TYPE, moderation::CONTENT_TYPE)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Bytes::from(body))
            .map_err(|error| failed("refused", error.to_string()))?;
        let answer = self.client.call(request).await.map_err(|error| unanswered(&error))?;
        moderation::outcome(answer.status.as_u16(), &answer.body)
    }
}

fn grants(grant: ModerationGrant) -> VideoGrants {
    match grant {
        ModerationGrant::Admin { room } => VideoGrants { room_admin: true, room, ..Default::default() },
        ModerationGrant::Move { room, destination } => {
            VideoGrants { room_admin: true, room, destination_room: destination, ..Default::default() }
        }
        ModerationGrant::Create => VideoGrants { room_create: true, ..Default::default() },
    }
}

/// The failure of an act that got no answer.
fn unanswered(error: &ConnectionError) -> ModerationFailure {
    let code = if matches!(error, ConnectionError::Silent { .. }) { "timeout" } else { "refused" };
    failed(code, clip(&with_causes(error)))
}

fn failed(code: &'static str, message: String) -> ModerationFailure {
    ModerationFailure { code, status: 0, message }
}

#[cfg(test)]
mod tests {
    use livekit_token::TokenVerifier;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::*;

    async fn read_head(socket: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(socket.read_buf(&mut head).await.unwrap() > 0);
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    fn begin(moderator: &ServerModerator, act: Moderation) -> oneshot::Receiver<Result<(), ModerationFailure>> {
        let (sender, outcome) = oneshot::channel();
        moderator.begin("lobby", act, Box::new(move |outcome| sender.send(outcome).unwrap()));
        outcome
    }

    async fn behind(url: &str) -> ServerModerator {
        let server = Server::new(url, "key".into(), "secret-of-at-least-32-characters-".into()).unwrap();
        ServerModerator::new(server, Handle::current())
    }

    #[tokio::test]
    async fn each_act_is_a_request_with_a_token_for_it_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let moderator = behind(&format!("ws://{}/prefix", listener.local_addr().unwrap())).await;
        let outcome = begin(&moderator, Moderation::RemoveParticipant { identity: "ann".into() });
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = read_head(&mut socket).await;
        assert!(head.starts_with("POST /prefix/twirp/livekit.RoomService/RemoveParticipant HTTP/1.1\r\n"), "{head}");
        let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap();
        let claims =
            TokenVerifier::with_api_key("key", "secret-of-at-least-32-characters-").verify(token.trim()).unwrap();
        let expected = VideoGrants { room_admin: true, room: "lobby".into(), ..Default::default() };
        assert_eq!(serde_json::to_value(&claims.video).unwrap(), serde_json::to_value(expected).unwrap());
        assert!(claims.exp - claims.nbf <= 60, "{claims:?}");
        let body = r#"{"code":"not_found","msg":"no participant"}"#;
        let answer = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
        let failure = outcome.await.unwrap().unwrap_err();
        assert_eq!((failure.code, failure.status, &*failure.message), ("not-found", 404, "no participant"));

        // The connection is used again.
        let outcome = begin(&moderator, Moderation::DeleteRoom);
        assert!(read_head(&mut socket).await.contains("/DeleteRoom HTTP/1.1\r\n"));
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(outcome.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_and_one_that_pours_are_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let moderator = behind(&url).await;
        let outcome = begin(&moderator, Moderation::DeleteRoom);
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await;
        let length = 2 * ANSWER_BYTES_MAX;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
        // The moderator hangs up before the end.
        drop(socket.write_all(answer.as_bytes()).await);
        let failure = outcome.await.unwrap().unwrap_err();
        assert_eq!((failure.code, failure.status), ("refused", 0), "{failure:?}");
        drop((socket, listener));
        let failure = begin(&behind(&url).await, Moderation::DeleteRoom).await.unwrap().unwrap_err();
        assert_eq!(failure.code, "refused", "{failure:?}");
    }
}
