//! Networks whose servers are scripts on loopback, most of them hostile.

mod server;

mod answers;
mod hostile;
mod multiplexed;
mod names;
mod proxied;
mod sockets;
mod streams;

use std::time::Duration;

use tokio::time::timeout;
use wasm_worker_core::network::code::FAILURE_CODES;
use wasm_worker_core::network::command::{Command, Headers, HttpRequest, OperationId};
use wasm_worker_core::network::event::{Failure, Head, NetworkEvent};

use super::*;
use crate::rules::Rules;
use crate::secrets::{SecretRule, Secrets};
use crate::settings::{NetworkLimits, Resolver, SystemResolver, Trust};

/// Longest time of a test. It only ends one that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of a test.
struct Setup {
    allowed: Vec<String>,
    secrets: Vec<SecretRule>,
    limits: NetworkLimits,
    resolver: Arc<dyn Resolver>,
    trust: Trust,
}

impl Setup {
    fn new(allowed: &[&str]) -> Self {
        let allowed = allowed.iter().map(|line| (*line).to_owned()).collect();
        let (limits, resolver) = (NetworkLimits::default(), Arc::new(SystemResolver));
        Self { allowed, secrets: Vec::new(), limits, resolver, trust: Trust::OfProgram }
    }

    fn client(self) -> Client {
        let networks = Networks::start(1).unwrap();
        let rules = self.allowed.iter().map(|line| line.parse().unwrap()).collect();
        let rules = Rules::new("helper".into(), rules);
        let secrets = Secrets::new(self.secrets).unwrap();
        let (limits, resolver, trust) = (self.limits, self.resolver, self.trust);
        let network = networks.network(NetworkSettings { rules, secrets, limits, resolver, trust });
        let connection = network.open();
        Client { networks: Some(networks), network, connection, takes: true }
    }
}

/// A job of an agent.
struct Client {
    networks: Option<Networks>,
    network: Network,
    connection: Box<dyn NetworkConnection>,
    /// Whether events are handed on at once.
    takes: bool,
}

/// An exchange to its last event.
#[derive(Debug, Default)]
struct Outcome {
    head: Option<Head>,
    body: Vec<u8>,
    failure: Option<Failure>,
}

impl Outcome {
    fn code(&self) -> &'static str {
        self.failure.as_ref().map_or("", |failure| failure.code)
    }

    fn text(&self) -> String {
        assert_eq!(self.failure, None);
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.as_ref()?.headers.iter();
        headers.find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    async fn next(&mut self) -> NetworkEvent {
        let ready = std::future::poll_fn(|context| self.connection.poll_ready(context));
        timeout(PATIENCE, ready).await.expect("an event within the patience of a test");
        let event = self.connection.try_next().unwrap();
        if let NetworkEvent::Failed { failure, .. } = &event {
            assert!(FAILURE_CODES.iter().any(|known| known.code == failure.code), "{failure:?} is explained");
        }
        if self.takes {
            self.connection.perform(Command::Taken { id: event.id(), charge: event.charge() });
        }
        event
    }

    async fn finish(&mut self, id: OperationId) -> Outcome {
        let outcome = self.finish_after_head(id).await;
        assert!(outcome.head.is_some() || outcome.failure.is_some());
        outcome
    }

    async fn finish_after_head(&mut self, id: OperationId) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            let event = self.next().await;
            assert_eq!(event.id(), id);
            let is_last = event.is_last();
            match event {
                NetworkEvent::Head { head, .. } => assert!(outcome.head.replace(head).is_none(), "one head"),
                NetworkEvent::Body { bytes, .. } => outcome.body.extend(bytes),
                NetworkEvent::Failed { failure, .. } => outcome.failure = Some(failure),
                NetworkEvent::Writable { .. } => {}
                other => panic!("{other:?}"),
            }
            if is_last {
                return outcome;
            }
        }
    }

    async fn get(&mut self, url: &str) -> Outcome {
        self.send(request("GET", url)).await
    }

    async fn send(&mut self, request: HttpRequest) -> Outcome {
        self.connection.perform(Command::Send { id: 7, request });
        self.finish(7).await
    }
}

fn request(method: &str, url: &str) -> HttpRequest {
    HttpRequest { method: method.into(), url: url.into(), ..HttpRequest::default() }
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
