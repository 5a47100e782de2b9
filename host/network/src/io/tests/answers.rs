//! Exchanges that succeed: requests as servers get them, answers as agents get them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::AsyncWriteExt as _;
use wasm_worker_core::secret::Secret;

use super::server::{Ca, Server, read_head};
use super::*;
use crate::secrets::{Place, Source};

/// A server that answers with the head of each request, on connections that stay.
async fn mirror() -> Server {
    Server::start(|mut stream, _| async move {
        loop {
            let head = read_head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-a: 1\r\n\r\n{head}", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

fn key(host: &str) -> SecretRule {
    let place = Place::Header { name: "authorization".into(), prefix: "Bearer ".into() };
    SecretRule { host: host.parse().unwrap(), place, source: Source::Value(Secret("sk-hidden-key".into())) }
}

#[tokio::test]
async fn connections_stay_warm_for_all_jobs_and_are_on_the_bill() {
    let server = mirror().await;
    let mut client = Setup::new(&[&server.line()]).client();
    let mut asked = request("post", &server.url());
    asked.headers =
        headers(&[("Host", "other.test"), ("X-A", "b"), ("Connection", "close"), ("Accept-Encoding", "br")]);
    let outcome = client.send(asked).await;
    let head = outcome.text();
    assert_eq!((outcome.head.as_ref().unwrap().status, outcome.header("x-a")), (200, Some("1")));
    let wanted = format!("host: {}\r\n", server.line());
    assert!(head.starts_with("POST / HTTP/1.1\r\n") && head.contains(&wanted) && head.contains("x-a: b\r\n"), "{head}");
    assert!(head.contains("accept-encoding: gzip, deflate\r\n") && head.contains("content-length: 0\r\n"), "{head}");
    assert!(head.contains("user-agent: wasm-worker/") && !head.contains("other.test"), "{head}");
    assert!(!head.contains("close"), "{head}");
    // Another job of the agent takes the same connection.
    let numbers = client.connection.numbers();
    client.connection = client.network.open();
    assert!(client.get(&server.url()).await.text().starts_with("GET / HTTP/1.1"));
    assert_eq!(server.accepted(), 1);
    let used = numbers.traffic();
    assert_eq!((used.all.requests, used.all.failures, used.by_host.len()), (1, 0, 1));
    assert!(used.by_host["127.0.0.1"].bytes_received > head.len() as u64 && used.all.bytes_sent > 50, "{used:?}");
}

#[tokio::test]
async fn compressed_answers_arrive_clear_and_other_heads_as_they_are() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&b"many words ".repeat(20_000)).unwrap();
    let body = encoder.finish().unwrap();
    let head = format!("HTTP/1.1 404 Not Found\r\ncontent-encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let server = Server::answering([head.as_bytes(), &body].concat()).await;
    let mut client = Setup::new(&[&server.line()]).client();
    let outcome = client.get(&server.url()).await;
    assert_eq!(outcome.text(), "many words ".repeat(20_000));
    assert_eq!((outcome.head.as_ref().unwrap().status, outcome.header("content-encoding")), (404, None));
    assert!(client.connection.numbers().traffic().all.bytes_received < 5_000, "the bill has compressed bytes");
    // A head alone is not decompressed.
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 99\r\n\r\n").await;
    let mut client = Setup::new(&[&server.line()]).client();
    let outcome = client.send(request("HEAD", &server.url())).await;
    assert_eq!((outcome.text().as_str(), outcome.header("content-length")), ("", Some("99")));
}

#[tokio::test]
async fn heads_before_the_answer_are_passed_over() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let server = Server::answering(format!("{early}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let mut asked = request("POST", &server.url());
    asked.headers = headers(&[("expect", "100-continue")]);
    assert_eq!(Setup::new(&[&server.line()]).client().send(asked).await.text(), "ok");
}

#[tokio::test]
async fn redirects_are_followed_on_request_and_secrets_stay_with_their_host() {
    let end = mirror().await;
    let location = format!("http://localhost:{}/end?key=sk-hidden-key#part", end.port);
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let start = Server::answering(answer).await;
    let mut setup = Setup::new(&[&start.line(), &format!("localhost:{}", end.port)]);
    setup.secrets = vec![key(&start.line())];
    let mut client = setup.client();
    let mut asked = request("POST", &start.url());
    (asked.follow_redirects, asked.body) = (true, b"body".to_vec());
    let outcome = client.send(asked.clone()).await;
    let head = outcome.text();
    // The first server repeated the secret for the second one.
    assert!(head.starts_with("GET /end?key=************* HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("authorization") && !head.contains("content-length"), "{head}");
    let url = format!("http://localhost:{}/end?key=*************", end.port);
    assert_eq!(outcome.head.unwrap().url, url);
    assert_eq!(client.connection.numbers().traffic().all.requests, 2);
    asked.follow_redirects = false;
    let outcome = client.send(asked).await;
    assert_eq!(outcome.head.as_ref().unwrap().status, 302);
    assert!(!outcome.header("location").unwrap().contains("hidden"));
}

#[tokio::test]
async fn secrets_are_added_and_blanked_wherever_a_server_repeats_them() {
    let mirrored = mirror().await;
    let mut setup = Setup::new(&[&mirrored.line()]);
    let query = SecretRule { place: Place::Query { name: "key".into() }, ..key(&mirrored.line()) };
    let query = SecretRule { source: Source::Value(Secret("other hidden".into())), ..query };
    setup.secrets = vec![key(&mirrored.line()), query];
    let mut client = setup.client();
    let mut asked = request("GET", &format!("{}?key=own&a=b", mirrored.url()));
    asked.headers = headers(&[("Authorization", "Bearer placeholder")]);
    let outcome = client.send(asked).await;
    let head = outcome.text();
    assert!(head.starts_with("GET /?a=b&key=************ HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer *************\r\n") && !head.contains("placeholder"), "{head}");
    assert_eq!(outcome.head.unwrap().url, format!("{}?key=own&a=b", mirrored.url()));

    // In the head, and in the body across two chunks with a pause between them, plain and in base64.
    let server = Server::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nx-echo: Bearer sk-hidden-key\r\ntransfer-encoding: chunked\r\n\r\n";
        for part in ["data: x sk-hidde", "n-key, c2staG", "lkZGVuLWtleQ== end\n\n", ""] {
            let head = if part.starts_with("data") { head } else { "" };
            let chunk = format!("{head}{:x}\r\n{part}\r\n", part.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    let mut setup = Setup::new(&[&server.line()]);
    setup.secrets = vec![key(&server.line())];
    let outcome = setup.client().get(&server.url()).await;
    assert_eq!(outcome.header("x-echo"), Some("Bearer *************"));
    let text = outcome.text();
    assert!(text.starts_with("data: x *************, *****************") && text.ends_with("== end\n\n"), "{text}");
}

#[tokio::test]
async fn a_private_ca_is_trusted_and_its_servers_are_reached_with_tls() {
    let ca = Ca::new("private");
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server("localhost", &[b"http/1.1"]));
    let server = Server::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            assert!(read_head(&mut stream).await.contains("authorization: Bearer sk-hidden-key"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            stream.shutdown().await.ok();
        }
    })
    .await;
    let line = format!("https://localhost:{}", server.port);
    let mut setup = Setup::new(&[&line]);
    (setup.trust, setup.secrets) = (Trust::Only(ca.client()), vec![key(&line)]);
    assert_eq!(setup.client().get(&line).await.text(), "ok");
}
