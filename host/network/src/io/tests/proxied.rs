//! Servers behind a proxy, with a private CA, both by the variables of the program. A process reads them once, so that a process of its
//! own has them.

use std::net::IpAddr;
use std::process::Command as Process;

use tokio::io::AsyncWriteExt as _;

use super::server::{Ca, Server, read_head};
use super::*;
use crate::settings::Resolving;

/// What runs in the other process.
const INNER: &str = "io::tests::proxied::servers_are_reached_through_the_proxy_of_the_environment";

/// Knows `inner.test`, which is private, and `far.test`.
struct Names;

impl Resolver for Names {
    fn resolve(&self, name: String) -> Resolving {
        let address: Option<IpAddr> = match name.as_str() {
            "inner.test" => "10.0.0.1".parse().ok(),
            "far.test" => "93.184.216.34".parse().ok(),
            _ => None,
        };
        Box::pin(
            async move { address.map(|address| vec![address]).ok_or_else(|| std::io::Error::other("no such name")) },
        )
    }
}

#[tokio::test]
async fn a_proxy_carries_what_the_rules_allow() {
    let ca = Ca::new("private");
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server("far.test", &[b"http/1.1"]));
    let proxy = Server::start(move |mut stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let head = read_head(&mut stream).await;
            assert!(head.contains("proxy-authorization: Basic bWU6d29yZA=="), "{head}");
            let first = head.lines().next().unwrap_or_default().to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{first}", first.len());
            if first.starts_with("GET") {
                return stream.write_all(answer.as_bytes()).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let head = read_head(&mut stream).await;
            assert!(head.starts_with("GET /x HTTP/1.1\r\n") && !head.contains("proxy-authorization"), "{head}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let mut process = Process::new(std::env::current_exe().unwrap());
    process.args(["--exact", INNER, "--ignored"]).env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
    for variable in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        process.env_remove(variable);
    }
    process.env("all_proxy", format!("http://me:word@127.0.0.1:{}", proxy.port));
    let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    assert_eq!(proxy.accepted(), 3);
}

#[tokio::test]
#[ignore = "runs in a process of its own, with variables"]
async fn servers_are_reached_through_the_proxy_of_the_environment() {
    let mut setup = Setup::new(&["far.test", "http://far.test", "inner.test", "http://unknown.test"]);
    setup.resolver = Arc::new(Names);
    let mut client = setup.client();
    assert_eq!(client.get("https://far.test/x").await.text(), "CONNECT far.test:443 HTTP/1.1");
    assert_eq!(client.get("http://far.test/x").await.text(), "GET http://far.test/x HTTP/1.1");
    // The proxy knows names that this machine does not.
    assert_eq!(client.get("http://unknown.test/").await.text(), "GET http://unknown.test/ HTTP/1.1");
    for url in ["https://inner.test/", "http://127.0.0.1/", "https://off.test/"] {
        assert_eq!(client.get(url).await.code(), "not-allowed", "{url}");
    }
}
