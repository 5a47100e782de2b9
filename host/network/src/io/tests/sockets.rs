//! WebSockets, to good servers and to others.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use wasm_worker_core::network::command::SocketRequest;
use wasm_worker_core::secret::Secret;

use super::server::{Server, read_head};
use super::*;
use crate::secrets::{Place, Source};

/// A server that opens each socket, and then runs this.
async fn opening<F: Future<Output = ()> + Send + 'static>(
    run: impl Fn(WebSocketStream<TcpStream>) -> F + Send + Sync + 'static,
) -> Server {
    let run = Arc::new(run);
    Server::start(move |stream, _| {
        let run = run.clone();
        async move { run(tokio_tungstenite::accept_async(stream).await.unwrap()).await }
    })
    .await
}

/// A server that opens each socket, and then does nothing.
async fn mute() -> Server {
    opening(|socket| async move {
        let _held = socket;
        std::future::pending().await
    })
    .await
}

impl Client {
    fn connect(&mut self, server: &Server) {
        let request = SocketRequest { url: format!("ws://{}/x", server.line()), ..SocketRequest::default() };
        self.connection.perform(Command::Connect { id: 1, request });
    }

    async fn opened(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, NetworkEvent::Opened { id: 1, .. }), "{event:?}");
    }
}

fn closed(code: u16, reason: &str) -> NetworkEvent {
    NetworkEvent::Closed { id: 1, code, reason: reason.into() }
}

#[tokio::test]
async fn messages_go_both_ways_and_those_before_the_opening_wait() {
    let server = opening(|mut socket| async move {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let mut client = Setup::new(&[&server.line()]).client();
    client.connect(&server);
    client.connection.perform(Command::SendText { id: 1, text: "é".into() });
    client.connection.perform(Command::SendBytes { id: 1, bytes: vec![1; 100_000] });
    client.opened().await;
    let mut events = Vec::new();
    while events.len() < 2 {
        let event = client.next().await;
        if !matches!(event, NetworkEvent::Writable { .. }) {
            events.push(event);
        }
    }
    let text = NetworkEvent::Text { id: 1, text: "é".into() };
    assert_eq!(events, [text, NetworkEvent::Bytes { id: 1, bytes: vec![1; 100_000] }]);
    client.connection.perform(Command::Close { id: 1, code: 3_001, reason: "enough".into() });
    assert_eq!(client.next().await, closed(3_001, "enough"));
    let used = client.connection.numbers().traffic();
    assert_eq!((used.all.sockets, used.all.requests), (1, 0));
    assert!(used.all.bytes_received == 100_002 && used.all.bytes_sent > 100_002, "{used:?}");
}

#[tokio::test]
async fn the_server_closes_with_a_code_or_is_lost() {
    let frame = CloseFrame { code: CloseCode::Library(4_000), reason: "bye sk-hidden-key".into() };
    let server = opening(move |mut socket| {
        let frame = frame.clone();
        async move {
            socket.send(Message::text("token sk-hidden-key")).await.unwrap();
            socket.close(Some(frame)).await.unwrap();
            while socket.next().await.is_some_and(|received| received.is_ok()) {}
        }
    })
    .await;
    let mut setup = Setup::new(&[&server.line()]);
    let place = Place::Header { name: "x-key".into(), prefix: String::new() };
    let (host, source) = (server.line().parse().unwrap(), Source::Value(Secret("sk-hidden-key".into())));
    setup.secrets = vec![SecretRule { host, place, source }];
    let mut client = setup.client();
    client.connect(&server);
    client.opened().await;
    assert_eq!(client.next().await, NetworkEvent::Text { id: 1, text: "token *************".into() });
    assert_eq!(client.next().await, closed(4_000, "bye *************"));
    let server = opening(|socket| async move { drop(socket) }).await;
    let mut client = Setup::new(&[&server.line()]).client();
    client.connect(&server);
    client.opened().await;
    let event = client.next().await;
    assert!(matches!(event, NetworkEvent::Closed { code: 1_006, .. }), "{event:?}");
}

#[tokio::test]
async fn frames_by_other_rules_close_the_socket_with_the_reason() {
    // A masked frame, a text that is none, a frame of a reserved kind, one that tells 2^62 bytes, and a message beyond the bound.
    let long = [&[0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0][..], &[0; 100]].concat();
    let big = [&[0x82, 127, 0, 0, 0, 0, 0, 16, 0, 1][..], &vec![0; 100_000]].concat();
    for (bytes, code) in [
        (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], 1_002),
        (vec![0x81, 1, 0xff], 1_007),
        (vec![0x83, 0], 1_002),
        (long, 1_009),
        (big, 1_009),
    ] {
        let server = opening(move |mut socket| {
            let bytes = bytes.clone();
            async move {
                // Past the library, which would not send this.
                drop(socket.get_mut().write_all(&bytes).await);
                std::future::pending().await
            }
        })
        .await;
        let mut setup = Setup::new(&[&server.line()]);
        setup.limits.message_bytes_max = 1 << 20;
        let mut client = setup.client();
        client.connect(&server);
        client.opened().await;
        let event = client.next().await;
        let NetworkEvent::Closed { code: got, reason, .. } = &event else { panic!("{event:?}") };
        assert!(*got == code && !reason.is_empty(), "{code}: {event:?}");
    }
}

#[tokio::test]
async fn handshakes_that_fail_are_named() {
    let other_key =
        "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
    for (answer, code, status) in [
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "refused", 401),
        ("HTTP/1.1 302 Found\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n", "refused", 302),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "refused", 200),
        (other_key, "malformed", 0),
        ("SSH-2.0-OpenSSH_9.9\r\n", "malformed", 0),
        ("", "unavailable", 0),
    ] {
        let server = Server::answering(answer).await;
        let mut client = Setup::new(&[&server.line()]).client();
        client.connect(&server);
        let failure = client.finish(1).await.failure.unwrap();
        assert_eq!((failure.code, failure.status), (code, status), "{failure:?}");
    }
    let silent = Server::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        std::future::pending().await
    })
    .await;
    let mut setup = Setup::new(&[&silent.line()]);
    setup.limits.connect_within = Duration::from_millis(200);
    let mut client = setup.client();
    client.connect(&silent);
    assert_eq!(client.finish(1).await.code(), "timeout");
    let request = SocketRequest { url: "ws://10.0.0.1/".into(), ..SocketRequest::default() };
    client.connection.perform(Command::Connect { id: 1, request });
    assert_eq!(client.finish(1).await.code(), "not-allowed");
}

#[tokio::test]
async fn a_mute_server_is_pinged_and_given_up_and_a_live_one_is_not() {
    let mute = mute().await;
    let live =
        opening(|mut socket| async move { while socket.next().await.is_some_and(|received| received.is_ok()) {} })
            .await;
    let mut setup = Setup::new(&[&mute.line(), &live.line()]);
    setup.limits.ping_every = Duration::from_millis(200);
    let mut client = setup.client();
    client.connect(&mute);
    client.opened().await;
    let event = client.next().await;
    let NetworkEvent::Closed { code: 1_006, reason, .. } = &event else { panic!("{event:?}") };
    assert!(reason.contains("silent"), "{reason}");
    // As many pings later this one is still there.
    client.connect(&live);
    client.opened().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.connection.try_next(), None);
    client.connection.perform(Command::Close { id: 1, code: 0, reason: String::new() });
    assert_eq!(client.next().await, closed(1_000, ""));
    client.connect(&live);
    client.opened().await;
    client.connection.perform(Command::Close { id: 1, code: 1_005, reason: String::new() });
    assert_eq!(client.finish(1).await.code(), "invalid");
}

#[tokio::test]
async fn a_server_that_ignores_a_close_is_left() {
    let server = mute().await;
    let mut setup = Setup::new(&[&server.line()]);
    setup.limits.close_within = Duration::from_millis(100);
    let mut client = setup.client();
    client.connect(&server);
    client.opened().await;
    client.connection.perform(Command::Close { id: 1, code: 1_000, reason: "x".repeat(200) });
    let event = client.next().await;
    assert!(matches!(event, NetworkEvent::Closed { code: 1_006, .. }), "{event:?}");
}
