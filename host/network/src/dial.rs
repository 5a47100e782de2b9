//! A connection to a server of an agent, by the program's way to servers (proxies, certificates) and the rules of the agent.
//!
//! A name is resolved here, every address is checked, and one of those that were checked is connected to. A proxy resolves names
//! itself: what this machine can resolve is checked all the same, and beyond that the rules of the proxy hold.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Uri;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutStream;
use wasm_worker_core::network::event::Failure;

use crate::connect::{self, Secured, Stream};
use crate::failure::{failure, invalid};
use crate::fault::{ConnectionError, Role};
use crate::proxies::Proxies;
use crate::rate::{Metered, Rate};
use crate::rules::Rules;
use crate::rules::name::Name;
use crate::rules::target::Target;
use crate::seats::Seats;
use crate::settings::{NetworkLimits, Resolver, Trust};
use crate::trust;

/// Certificates are read again after this time, so that a renewed file needs no restart.
const TRUST_FOR: Duration = Duration::from_secs(10);

/// Names of an agent that are looked up at once.
const LOOKUPS_MAX: usize = 8;
/// What requests are spoken by, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Requests by HTTP.
    Requests,
    /// A WebSocket, which speaks HTTP/1.1 first.
    Socket,
}

/// Makes the connections of one agent.
pub(crate) struct Dialer {
    rules: Rules,
    resolver: Arc<dyn Resolver>,
    trust: Trust,
    within: Duration,
    /// Longest time that a server may leave what is sent unread.
    idle: Duration,
    seats: Seats,
    /// None for an agent whose bytes a second are not limited.
    rate: Option<Arc<Rate>>,
    /// One for each name that may be looked up at once, so that an agent leaves threads for others.
    lookups: Arc<Semaphore>,
    /// The certificates that were read last, and when.
    known: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

/// A connection to a server.
pub(crate) struct Dialled {
    pub(crate) stream: Metered<Pin<Box<TimeoutStream<Stream>>>>,
    /// The place among the connections to the server, which is free with the connection.
    pub(crate) seat: OwnedSemaphorePermit,
    pub(crate) spoken: Spoken,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// HTTP/1.1, with a proxy that reads the requests and forwards them.
    Http1ForProxy,
}

/// The way to a server, as it is made.
struct Way {
    stream: Stream,
    spoken: Spoken,
}

impl Dialer {
    pub(crate) fn new(rules: Rules, resolver: Arc<dyn Resolver>, trust: Trust, limits: &NetworkLimits) -> Self {
        let (within, idle, seats) = (limits.connect_within, limits.idle, Seats::new(limits.per_server_max));
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let rate = limits.bytes_per_second.map(|bytes| Arc::new(Rate::new(bytes)));
        Self { rules, resolver, trust, within, idle, seats, rate, lookups, known: Mutex::default() }
    }

    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Connect to a server that the rules allow.
    pub(crate) async fn dial(&self, target: &Target, purpose: Purpose) -> Result<Dialled, Failure> {
        let within = self.within;
        let late = || {
            let shown = target.shown();
            failure(
                "timeout",
                format!("no connection to `{shown}` within {within:?}; check the host, the port and the firewalls"),
            )
        };
        let seat = self.seats.take(target).await?;
        let way = timeout(within, self.connect(target, purpose)).await.unwrap_or_else(|_| Err(late()))?;
        let mut stream = TimeoutStream::new(way.stream);
        stream.set_write_timeout(Some(self.idle));
        // Outside of the time limit: while the agent waits for its rate, the server is not late.
        let stream = Metered::new(Box::pin(stream), self.rate.clone());
        Ok(Dialled { stream, seat, spoken: way.spoken })
    }

    async fn connect(&self, target: &Target, purpose: Purpose) -> Result<Way, Failure> {
        let scheme = if target.secure { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{}/", target.authority).parse().map_err(|_| told(&ConnectionError::Url))?;
        let server = connect::Target::new(&uri, Role::Server).map_err(|error| told(&error))?;
        let proxy = Proxies::of_process().proxy_of(&server.uri).map_err(|error| told(&error))?;
        let Some(proxy) = proxy else {
            let addresses = self.addresses(target).await?;
            let stream = server.open_at(addresses, self.within).await.map_err(|error| told(&error))?;
            return self.secured(&server, stream, purpose).await;
        };
        if let Err(failure) = self.addresses(target).await
            && failure.code == "not-allowed"
        {
            return Err(failure);
        }
        let gate = connect::Target::new(proxy.uri(), Role::Proxy).map_err(|error| told(&error))?;
        let stream = gate.open_by_name(self.within).await.map_err(|error| told(&error))?;
        if purpose == Purpose::Requests && !target.secure {
            return Ok(Way { stream, spoken: Spoken::Http1ForProxy });
        }
        let stream = connect::tunnel(stream, &server, &gate.peer, proxy.basic_auth()).await;
        self.secured(&server, stream.map_err(|error| told(&error))?, purpose).await
    }

    /// The addresses of a server, if all are allowed.
    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, Failure> {
        let addresses = match &target.name {
            Name::Address(address) => vec![*address],
            Name::Domain(name) => self.resolve(name).await.map_err(|error| {
                failure("unavailable", format!("the name `{name}` cannot be resolved: {error}; check the host"))
            })?,
        };
        if addresses.is_empty() {
            let name = &target.name;
            return Err(failure("unavailable", format!("the name `{name}` has no address; check the host")));
        }
        self.rules.check_addresses(target, &addresses)?;
        Ok(addresses)
    }

    /// Look a name up. A look-up goes on when nobody waits for it any more, because the system has no way to end it, and counts so long.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let resolving = self.resolver.resolve(name.to_owned());
        let task = Handle::current().spawn(async move {
            let found = resolving.await;
            drop(permit);
            found
        });
        task.await.map_err(io::Error::other)?
    }

    async fn secured(&self, server: &connect::Target, stream: Stream, purpose: Purpose) -> Result<Way, Failure> {
        if !server.peer.secure {
            return Ok(Way { stream, spoken: Spoken::Http1 });
        }
        let mut config = self.client_config().await.map_err(|error| told(&error))?;
        let settings = Arc::make_mut(&mut config);
        settings.alpn_protocols = match purpose {
            Purpose::Requests => PROTOCOLS.iter().map(|name| name.to_vec()).collect(),
            Purpose::Socket => vec![b"http/1.1".to_vec()],
        };
        let Secured { stream, is_http2 } = server.secured(stream, config).await.map_err(|error| told(&error))?;
        Ok(Way { stream, spoken: if is_http2 { Spoken::Http2 } else { Spoken::Http1 } })
    }

    async fn client_config(&self) -> Result<Arc<ClientConfig>, ConnectionError> {
        if let Trust::Only(config) = &self.trust {
            return Ok(config.clone());
        }
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read_at, config)) = known().as_ref()
            && read_at.elapsed() < TRUST_FOR
        {
            return Ok(config.clone());
        }
        let config = trust::client_config().await?;
        *known() = Some((Instant::now(), config.clone()));
        Ok(config)
    }
}

/// The failure for the agent.
pub(crate) fn told(error: &ConnectionError) -> Failure {
    let code = match error {
        ConnectionError::Url => return invalid(error.to_string()),
        ConnectionError::Refused { .. } => "refused",
        ConnectionError::Silent { .. } => "timeout",
        ConnectionError::NotTls { .. }
        | ConnectionError::UnknownIssuer { .. }
        | ConnectionError::OtherName { .. }
        | ConnectionError::NotValidNow { .. }
        | ConnectionError::Tls { .. }
        | ConnectionError::NoTrust { .. } => "tls",
        ConnectionError::NotHttp { .. } => "malformed",
        ConnectionError::LongHead { .. } | ConnectionError::TooLong { .. } => "too-large",
        ConnectionError::ProxySetting { .. }
        | ConnectionError::Unreachable { .. }
        | ConnectionError::ProxyPassword { .. }
        | ConnectionError::ProxyRefused { .. }
        | ConnectionError::NoAnswer { .. }
        | ConnectionError::Request { .. } => "unavailable",
        ConnectionError::NoThread => "fault",
    };
    failure(code, error.to_string())
}
