//! The settings of the network of one agent.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::rules::Rules;
use crate::secrets::Secrets;

/// What the network of an agent is made of.
pub struct NetworkSettings {
    /// Which servers it may reach.
    pub rules: Rules,
    /// What is added to its requests.
    pub secrets: Secrets,
    /// Bounds.
    pub limits: NetworkLimits,
    /// Finds the addresses of names.
    pub resolver: Arc<dyn Resolver>,
    /// Which certificates are trusted.
    pub trust: Trust,
}

/// Bounds of the network of one agent. A response and a request may each be as large as all models and tools that we know need, and
/// small enough that a hostile server costs little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkLimits {
    /// Most operations of one job at once. An operation counts until its last event is taken.
    pub operations_max: usize,
    /// Most connections to one server at once, of all jobs of the agent: those of exchanges, which may share one by HTTP/2, those of
    /// sockets, and the warm ones, of which there are fewer. The next wait up to 30 s, and then fail as `limit`.
    pub per_server_max: usize,
    /// Connections that wait warm for the next exchange with their server.
    pub warm_per_server_max: usize,
    /// How long they wait. Many servers close theirs after 60 s.
    pub warm_for: Duration,
    /// Largest head of an answer, in bytes; at least 8,192.
    pub head_bytes_max: usize,
    /// Most headers of an answer.
    pub headers_max: usize,
    /// Largest body of a request, in bytes.
    pub request_bytes_max: u64,
    /// Largest body of an answer, in bytes, as it is on the way and decompressed.
    pub response_bytes_max: u64,
    /// Most bytes that one byte may be decompressed to, on average, after the first 1 MiB. Texts have about 10, and the format ends at
    /// 1,032.
    pub inflation_max: u64,
    /// Most redirects of one exchange. Fetch has 20.
    pub redirects_max: u32,
    /// Longest time for the connection to a server: its name, TCP, the proxy, TLS.
    pub connect_within: Duration,
    /// Longest time of an exchange where the agent gives none. Clients of models have 600 s.
    pub exchange_within: Duration,
    /// Longest time that an agent may give.
    pub exchange_longest: Duration,
    /// Longest silence of the server in an exchange, while it is its turn.
    pub idle: Duration,
    /// Largest message of a WebSocket from a server, in bytes.
    pub message_bytes_max: usize,
    /// How often a silent WebSocket is pinged. After three pings without anything it is lost.
    pub ping_every: Duration,
    /// Longest time from a close of a WebSocket to the server's.
    pub close_within: Duration,
    /// Most bytes a second of all connections of the agent, in both directions together and without TLS; a quarter of a second's at
    /// once. What is over waits. None for no limit.
    pub bytes_per_second: Option<u64>,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            operations_max: 64,
            per_server_max: 256,
            warm_per_server_max: 32,
            warm_for: Duration::from_secs(50),
            head_bytes_max: 64 << 10,
            headers_max: 128,
            request_bytes_max: 64 << 20,
            response_bytes_max: 64 << 20,
            inflation_max: 100,
            redirects_max: 20,
            connect_within: Duration::from_secs(10),
            exchange_within: Duration::from_secs(600),
            exchange_longest: Duration::from_secs(3_600),
            idle: Duration::from_secs(120),
            message_bytes_max: 1 << 20,
            ping_every: Duration::from_secs(20),
            close_within: Duration::from_secs(5),
            bytes_per_second: None,
        }
    }
}

/// Addresses that are being looked up.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Finds the addresses of names.
pub trait Resolver: Send + Sync {
    /// Look a name up. The caller has the time limit.
    fn resolve(&self, name: String) -> Resolving;
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: String) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Which certificates are trusted.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Those that the program trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else those of the system.
    #[default]
    OfProgram,
    /// Those of these settings.
    Only(Arc<ClientConfig>),
}
