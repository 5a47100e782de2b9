//! The server that a process gets its jobs from: the one in the settings, an embedded dispatcher, or the dispatcher of another
//! process of this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use wasm_worker_core::observer::Events;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::KeyPairs;
use wasm_worker_dispatcher::{DEVELOPMENT_PAIR, Dispatcher, EMBEDDED_PREFIX, MetricsText, reachable};

use super::error::AppError;
use super::proof::{self, Listener};
use crate::config::{Config, LiveKit};
use crate::discovery::make_token;
use crate::observers::EventLines;
use crate::observers::metrics::Metrics;
use crate::worker::link::Server;

/// The server, and how this process authenticates with it.
pub(super) struct Upstream {
    pub(super) url: String,
    pub(super) key: String,
    pub(super) secret: String,
    /// The embedded dispatcher; absent where the server is another process.
    pub(super) dispatcher: Option<Dispatcher>,
}

impl Upstream {
    /// The server in the settings, else an embedded dispatcher, else the dispatcher of wasm-worker that has its address already.
    pub(super) async fn find(
        config: &Config,
        events: Arc<Events>,
        metrics: MetricsText,
        control: &Handle,
    ) -> Result<Self, AppError> {
        config.check_server()?;
        if let Some(url) = config.livekit.url.clone() {
            return Self::named(config, url);
        }
        warn_of_missing_url(config);
        let pairs = key_pairs(config);
        let (key, secret) =
            pairs.first_key_value().map(|(key, secret)| (key.clone(), secret.0.clone())).unwrap_or_default();
        match Dispatcher::start(&config.dispatcher, &pairs, events, metrics, control).await {
            Ok(dispatcher) => Ok(Self { url: dispatcher.url(), key, secret, dispatcher: Some(dispatcher) }),
            Err(error) if error.is_taken() => {
                Self::join(config.dispatcher.listen, key, secret).await.ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The dispatcher of another process that has the address, if it has the secret too.
    async fn join(address: SocketAddr, key: String, secret: String) -> Option<Self> {
        let pair = (key.clone(), secret.clone());
        let asking = tokio::task::spawn_blocking(move || proof::ask(address, &pair.0, &pair.1));
        if asking.await.ok()? != Listener::Trusted {
            let why = "the program at the dispatcher's address does not prove that it has the secret of the API key; not joining it";
            tracing::warn!(target: "host", %address, key, "{why}");
            return None;
        }
        let url = format!("ws://{}", reachable(address));
        tracing::info!(target: "host", url, "another process runs a dispatcher; joining its pool");
        Some(Self { url, key, secret, dispatcher: None })
    }

    fn named(config: &Config, url: String) -> Result<Self, AppError> {
        let key = config.livekit.api_key.clone().ok_or(AppError::MissingKey { what: "key" })?;
        let secret = config.livekit.api_secret.clone().ok_or(AppError::MissingKey { what: "secret" })?;
        Ok(Self { url, key: key.0, secret: secret.0, dispatcher: None })
    }

    /// The same for the connection of a worker.
    pub(super) fn server(&self) -> Result<Server, AppError> {
        let server = Server::new(&self.url, self.key.clone(), self.secret.clone());
        server.map_err(|error| AppError::ServerUrl(error.to_string()))
    }

    /// A new name for this process at its dispatcher. The prefix says that the process has the dispatcher in it.
    pub(super) fn instance(&self) -> String {
        let prefix = if self.dispatcher.is_some() { EMBEDDED_PREFIX } else { "" };
        format!("{prefix}{}", make_token())
    }
}

/// The metrics page of a dispatcher.
pub(super) fn metrics_text(metrics: &Arc<Metrics>, lines: &Arc<EventLines>) -> MetricsText {
    let (metrics, lines) = (metrics.clone(), lines.clone());
    Arc::new(move |waiting, running| {
        metrics.read_dispatcher(waiting, running);
        metrics.text(&lines)
    })
}

/// The key pairs of a dispatcher: those in the settings, else the API key, else the development pair.
pub(super) fn key_pairs(config: &Config) -> KeyPairs {
    if let Some(keys) = &config.dispatcher.keys {
        return keys.clone();
    }
    match (&config.livekit.api_key, &config.livekit.api_secret) {
        (Some(key), Some(secret)) => KeyPairs::from([(key.0.clone(), secret.clone())]),
        _ => KeyPairs::from([(DEVELOPMENT_PAIR.0.into(), Secret(DEVELOPMENT_PAIR.1.into()))]),
    }
}

/// Warn of an API key without a URL: it is for a LiveKit server more often than for a dispatcher that only this machine reaches.
fn warn_of_missing_url(config: &Config) {
    let LiveKit { api_key: Some(_), api_secret: Some(_), .. } = &config.livekit else { return };
    // Either is for others to dispatch here.
    if config.dispatcher.keys.is_some() || !config.dispatcher.listen.ip().is_loopback() {
        return;
    }
    let state = if config.set_by.iter().any(|set| set.key == "url") { "is empty" } else { "is not set" };
    tracing::warn!(
        target: "host",
        "LIVEKIT_URL {state}: this worker serves an embedded dispatcher with the API key, and takes no jobs of a LiveKit server"
    );
}
