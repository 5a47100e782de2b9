//! Acts of moderation of an agent, at the API of its server.

use livekit_protocol as proto;
use prost::Message as _;
use proto::server_message::Message as FromServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::dispatcher::Dispatcher;
use crate::support::scripted_server::{Peer, Server, job, run, stopped};

/// Begin a job that has a room, which it does not join.
async fn begin(peer: &mut Peer, id: &str) {
    peer.offer(id).await;
    assert!(peer.answer().await.available);
    let assignment = proto::JobAssignment {
        job: job(id),
        url: Some("ws://127.0.0.1:9".into()),
        token: "the-token-of-the-job".into(),
    };
    peer.send(FromServer::Assignment(assignment)).await;
    assert_eq!(peer.report().await, (id.into(), proto::JobStatus::JsRunning, String::new()));
}

/// The next request of a connection: its path, its token and its body.
async fn request(stream: &mut TcpStream) -> (String, String, Vec<u8>) {
    let mut read = Vec::new();
    let end = loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let length: usize = value("content-length: ").parse().unwrap();
    while read.len() < end + length {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
    let path = head.split(' ').nth(1).unwrap().to_owned();
    (path, value("authorization: Bearer "), read[end..].to_vec())
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[test]
fn granted_agent_moderates_its_own_room_by_tokens_that_it_never_sees() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("steward", &["--moderate", "on", "--http", "off"]);
        let mut peer = server.registered().await;
        begin(&mut peer, "AJ_1").await;
        let (mut api, _) = server.0.accept().await.unwrap();

        let (path, token, body) = request(&mut api).await;
        assert_eq!(path, "/twirp/livekit.RoomService/RemoveParticipant");
        let body = proto::RoomParticipantIdentity::decode(body.as_slice()).unwrap();
        assert_eq!((&*body.room, &*body.identity), ("lobby", "troll"));
        let claims = livekit_token::TokenVerifier::with_api_key("devkey", "secret").verify(&token).unwrap();
        assert!(claims.video.room_admin && !claims.video.room_create && !claims.video.room_join, "{claims:?}");
        assert_eq!(claims.video.room, "lobby");
        answer(&mut api, "200 OK", "").await;

        let (path, token, body) = request(&mut api).await;
        assert_eq!(path, "/twirp/livekit.RoomService/DeleteRoom");
        assert_eq!(proto::DeleteRoomRequest::decode(body.as_slice()).unwrap().room, "lobby");
        answer(&mut api, "404 Not Found", r#"{"code":"not_found","msg":"the room is gone"}"#).await;

        let (_, status, error) = peer.report().await;
        assert_eq!(status, proto::JobStatus::JsFailed);
        assert!(error.contains("removed; not-found: the room is gone"), "{error}");
        let said = worker.said();
        assert!([&token, "the-token-of-the-job"].iter().all(|secret| !said.contains(*secret)), "{said}");
        stopped(worker, peer).await;
    });
}

#[test]
fn agent_without_the_grant_is_told_the_line_to_add() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("steward", &["--http", "off"]);
        let mut peer = server.registered().await;
        begin(&mut peer, "AJ_1").await;
        let (_, _, error) = peer.report().await;
        assert_eq!(error.matches("not-allowed: the operator does not grant moderation").count(), 2, "{error}");
        assert!(error.contains("`moderate = \"on\"`"), "{error}");
        stopped(worker, peer).await;
    });
}

#[test]
fn rooms_of_the_dispatcher_are_moderated_too() {
    let dispatcher = Dispatcher::start(&[]);
    let worker = dispatcher.worker(&["steward"], &["--moderate", "on"]);
    let verdict = dispatcher.ended(&dispatcher.dispatch("lobby", "steward", ""));
    let detail = verdict["detail"].as_str().unwrap();
    assert!(detail.contains("not-found: ") && detail.ends_with("; deleted"), "{verdict}");
    worker.kill();
}
