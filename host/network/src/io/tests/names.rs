//! Names that lead to own addresses, or to another one each time.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::Server;
use super::*;
use crate::settings::Resolving;

/// Gives its answers one after another, and the last one for ever.
struct Script {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Resolver for Script {
    fn resolve(&self, _: String) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { if answer.is_empty() { Err(std::io::Error::other("no such name")) } else { Ok(answer) } })
    }
}

fn script(answers: &[&[&str]]) -> Arc<Script> {
    let address = |text: &&str| text.parse().unwrap();
    let answers = answers.iter().map(|answer| answer.iter().map(address).collect()).collect();
    Arc::new(Script { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
}

#[tokio::test]
async fn the_address_that_was_checked_is_connected_to() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    let url = format!("http://rebind.test:{}/", server.port);
    let mut setup = Setup::new(&[&url[..url.len() - 1], &server.line()]);
    let resolver = script(&[&["127.0.0.1"], &["10.0.0.1"], &["127.0.0.1", "169.254.169.254"], &["127.0.0.1"]]);
    setup.resolver = resolver.clone();
    let mut client = setup.client();
    assert_eq!(client.get(&url).await.text(), "ok");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "one answer is checked and used");
    for says in ["leads to 10.0.0.1, a private address", "metadata"] {
        let failure = client.get(&url).await.failure.unwrap();
        assert!(failure.code == "not-allowed" && failure.message.contains(says), "{failure:?}");
        assert_eq!(server.accepted(), 1);
    }
    assert_eq!(client.get(&url).await.text(), "ok");
}

#[tokio::test]
async fn names_without_an_address_and_servers_off_the_list_are_not_reached() {
    let mut setup = Setup::new(&["nowhere.test"]);
    let resolver = script(&[&[]]);
    setup.resolver = resolver.clone();
    let mut client = setup.client();
    let failure = client.get("https://nowhere.test/").await.failure.unwrap();
    assert!(
        failure.code == "unavailable" && failure.message.contains("`nowhere.test` cannot be resolved"),
        "{failure:?}"
    );
    let asked = resolver.asked.load(Ordering::SeqCst);
    for url in
        ["https://other.test/", "http://nowhere.test/", "http://127.0.0.1/", "http://[::1]/", "http://0x7f000001/"]
    {
        assert_eq!(client.get(url).await.code(), "not-allowed", "{url}");
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), asked, "no name off the list is looked up");
}

#[tokio::test]
async fn a_resolver_that_hangs_has_a_limit() {
    struct Hangs;
    impl Resolver for Hangs {
        fn resolve(&self, _: String) -> Resolving {
            Box::pin(std::future::pending())
        }
    }
    let mut setup = Setup::new(&["late.test"]);
    (setup.resolver, setup.limits.connect_within) = (Arc::new(Hangs), Duration::from_millis(100));
    assert_eq!(setup.client().get("https://late.test/").await.code(), "timeout");
}

#[tokio::test]
async fn a_panic_ends_one_operation_only() {
    struct Panics;
    impl Resolver for Panics {
        fn resolve(&self, name: String) -> Resolving {
            assert_ne!(name, "panic.test", "a bug, as a test asks for it");
            Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })
        }
    }
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let url = format!("http://good.test:{}", server.port);
    let mut setup = Setup::new(&["panic.test", &url, &server.line()]);
    setup.resolver = Arc::new(Panics);
    let mut client = setup.client();
    assert_eq!(client.get("https://panic.test/").await.code(), "fault");
    assert_eq!(client.get(&url).await.text(), "ok");
}

#[tokio::test]
async fn an_agent_looks_up_some_names_at_once() {
    struct Counts(AtomicUsize);
    impl Resolver for Counts {
        fn resolve(&self, _: String) -> Resolving {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }
    }
    let mut setup = Setup::new(&["*.late.test"]);
    let resolver = Arc::new(Counts(AtomicUsize::new(0)));
    (setup.resolver, setup.limits.connect_within) = (resolver.clone(), Duration::from_millis(200));
    let mut client = setup.client();
    for id in 1..=30 {
        let request = request("GET", &format!("https://n{id}.late.test/"));
        client.connection.perform(Command::Send { id, request });
    }
    for _ in 1..=30 {
        let event = client.next().await;
        assert!(matches!(&event, NetworkEvent::Failed { failure, .. } if failure.code == "timeout"), "{event:?}");
    }
    assert_eq!(resolver.0.load(Ordering::SeqCst), 8);
}
