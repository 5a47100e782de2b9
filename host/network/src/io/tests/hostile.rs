//! Servers that do not answer, or not by the rules.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::server::{Ca, Server, read_head};
use super::*;

/// The only server of a client.
fn only(server: &Server) -> Setup {
    Setup::new(&[&server.line()])
}

async fn never() {
    std::future::pending().await
}

#[tokio::test]
async fn silence_has_a_limit_at_every_stage() {
    for (sent, body) in [("", 0), ("HTTP/1.1 20", 0), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", 4)] {
        let server = Server::start(move |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            never().await;
        })
        .await;
        let mut setup = only(&server);
        setup.limits.idle = Duration::from_millis(200);
        let mut client = setup.client();
        let outcome = client.get(&server.url()).await;
        let failure = outcome.failure.unwrap();
        assert!(failure.code == "timeout" && failure.message.contains("sent nothing for 200ms"), "{sent}: {failure:?}");
        assert!(failure.message.contains(&server.line()) && outcome.body.len() == body, "{failure:?}");
        assert_eq!(client.connection.numbers().traffic().all.failures, 1);
        // The time of the whole exchange ends it as well.
        let mut setup = only(&server);
        setup.limits.exchange_longest = Duration::from_millis(200);
        let mut asked = request("GET", &server.url());
        asked.timeout = Duration::from_secs(3_600);
        let failure = setup.client().send(asked).await.failure.unwrap();
        assert!(failure.code == "timeout" && failure.message.contains("not over within 200ms"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_head_that_drips_is_ended_by_the_time_of_the_exchange() {
    let server = Server::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut asked = request("GET", &server.url());
    asked.timeout = Duration::from_millis(300);
    let mut setup = only(&server);
    setup.limits.headers_max = 100_000;
    assert_eq!(setup.client().send(asked).await.code(), "timeout");
}

#[tokio::test]
async fn answers_that_break_off_or_break_the_rules_are_named() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(500));
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    for (answer, code) in [
        (String::new(), "unavailable"),
        ("HTTP/1.1 200 OK\r\ncontent-le".into(), "unavailable"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".into(), "unavailable"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".into(), "malformed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab".into(), "malformed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".into(), "too-large"),
        (chunked("5\r\nab"), "unavailable"),
        (chunked("zz\r\nab\r\n0\r\n\r\n"), "malformed"),
        (chunked("fffffffffffffffff\r\nab"), "malformed"),
        (chunked(&format!("1;{}\r\n", "x".repeat(100_000))), "malformed"),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), "malformed"),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nhalf".into(), "malformed"),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 4\r\n\r\nhalf".into(), "not-supported"),
        (long, "too-large"),
        (many, "too-large"),
    ] {
        let server = Server::answering(answer.clone()).await;
        let failure = only(&server).client().get(&server.url()).await.failure;
        let answer = &answer[..answer.len().min(90)];
        let failure = failure.unwrap_or_else(|| panic!("{answer:?} is a failure"));
        assert!(failure.code == code && failure.message.contains(&server.line()), "{answer:?}: {failure:?}");
    }
}

#[tokio::test]
async fn what_a_server_may_send_has_bounds() {
    let endless = Server::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
        while stream.write_all(&[b'x'; 10_000]).await.is_ok() {}
    })
    .await;
    let mut setup = only(&endless);
    setup.limits.response_bytes_max = 1 << 20;
    let outcome = setup.client().get(&endless.url()).await;
    assert!(outcome.code() == "too-large" && outcome.body.len() <= 1 << 20, "{}", outcome.body.len());

    let many = Server::answering(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(11))).await;
    let mut setup = only(&many);
    setup.limits.headers_max = 10;
    assert_eq!(setup.client().get(&many.url()).await.code(), "too-large");

    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    let body = encoder.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    let bomb = Server::answering([head.as_bytes(), &body].concat()).await;
    let outcome = only(&bomb).client().get(&bomb.url()).await;
    let message = outcome.failure.unwrap().message;
    assert!(message.contains("bomb") && outcome.body.len() < 4 << 20, "{message} {}", outcome.body.len());
}

#[tokio::test]
async fn redirects_lead_nowhere_else() {
    let inner = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
    let inner_url = inner.url();
    let server = Server::start(move |mut stream, _| {
        let inner_url = inner_url.clone();
        async move {
            let is_loop = read_head(&mut stream).await.starts_with("GET /loop");
            let location = if is_loop { "/loop" } else { inner_url.as_str() };
            let answer = format!(
                "HTTP/1.1 307 Temporary\r\nconnection: close\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mut client = only(&server).client();
    for (path, code) in [("", "not-allowed"), ("loop", "redirect")] {
        let mut asked = request("GET", &format!("{}{path}", server.url()));
        asked.follow_redirects = true;
        let failure = client.send(asked).await.failure.unwrap();
        assert_eq!(failure.code, code, "{failure:?}");
    }
    assert_eq!(inner.accepted(), 0);
    // One request to the first place, and 20 redirects of the loop after its first request.
    assert_eq!(client.connection.numbers().traffic().all.requests, 22);
}

#[tokio::test]
async fn a_warm_connection_that_is_closed_just_now_is_replaced_where_nothing_was_changed() {
    let server = Server::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        // The second request gets no answer.
        read_head(&mut stream).await;
    })
    .await;
    let mut client = only(&server).client();
    for (method, code, accepted) in [("GET", "", 1), ("GET", "", 2), ("POST", "unavailable", 2), ("POST", "", 3)] {
        let outcome = client.send(request(method, &server.url())).await;
        assert_eq!((outcome.code(), server.accepted()), (code, accepted), "{method}: {outcome:?}");
    }
}

#[tokio::test]
async fn connections_that_are_reset_or_refused_are_named() {
    let server = Server::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(only(&server).client().get(&server.url()).await.code(), "unavailable");
    // Nothing listens on a port that was free a moment ago.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let line = format!("127.0.0.1:{port}");
    let failure = Setup::new(&[&line]).client().get(&format!("http://{line}/")).await.failure.unwrap();
    assert!(failure.code == "refused" && failure.message.contains(&line), "{failure:?}");
}

#[tokio::test]
async fn connections_without_trust_are_not_used() {
    let (own, foreign) = (Ca::new("own"), Ca::new("foreign"));
    for (ca, name, says) in [(&own, "other.test", "is for another name"), (&foreign, "localhost", "no trusted CA")] {
        let acceptor = tokio_rustls::TlsAcceptor::from(ca.server(name, &[]));
        let server = Server::start(move |stream, _| {
            let acceptor = acceptor.clone();
            async move { assert!(acceptor.accept(stream).await.is_err(), "the client gives up") }
        })
        .await;
        let line = format!("https://localhost:{}", server.port);
        let mut setup = Setup::new(&[&line]);
        setup.trust = Trust::Only(own.client());
        let failure = setup.client().get(&line).await.failure.unwrap();
        assert!(failure.code == "tls" && failure.message.contains(says), "{failure:?}");
    }
    let plain = Server::start(|mut stream, _| async move {
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        never().await;
    })
    .await;
    let line = format!("https://localhost:{}", plain.port);
    let mut setup = Setup::new(&[&line]);
    setup.trust = Trust::Only(own.client());
    assert_eq!(setup.client().get(&line).await.code(), "tls");
    let mute = Server::start(|stream, _| async move {
        let _held = stream;
        never().await;
    })
    .await;
    let mut setup = only(&mute);
    (setup.limits.connect_within, setup.trust) = (Duration::from_millis(200), Trust::Only(own.client()));
    let failure = setup.client().get(&format!("https://{}/", mute.line())).await.failure.unwrap();
    assert_eq!(failure.code, "timeout", "{failure:?}");
}

#[tokio::test]
async fn a_server_that_does_not_read_is_given_up() {
    let server = Server::start(|mut stream, _| async move {
        drop(stream.read_u8().await);
        never().await;
    })
    .await;
    let mut setup = only(&server);
    setup.limits.idle = Duration::from_millis(300);
    let mut asked = request("POST", &server.url());
    asked.body = vec![0; 32 << 20];
    let outcome = setup.client().send(asked).await;
    assert!(matches!(outcome.code(), "timeout" | "unavailable"), "{outcome:?}");
}
