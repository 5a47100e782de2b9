//! The server that a process gets its jobs from: the one in the settings, an embedded dispatcher, or the dispatcher of another
//! process of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use tokio::runtime::Handle;
use wasm_worker_core::observer::Events;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::KeyPairs;
use wasm_worker_dispatcher::{DEVELOPMENT_PAIR, Dispatcher, EMBEDDED, MetricsText, SERVER_NAME, reachable};

use super::error::AppError;
use crate::config::Config;
use crate::discovery::make_token;
use crate::network::http_client::HttpClient;
use crate::observers::EventLines;
use crate::observers::metrics::Metrics;
use crate::worker::link::Server;

const PROBE_WITHIN: Duration = Duration::from_secs(2);
const PROBE_BYTES_MAX: usize = 64 << 10;

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
        let pairs = key_pairs(config);
        let (key, secret) =
            pairs.first_key_value().map(|(key, secret)| (key.clone(), secret.0.clone())).unwrap_or_default();
        match Dispatcher::start(&config.dispatcher, &pairs, events, metrics, control).await {
            Ok(dispatcher) => Ok(Self { url: dispatcher.url(), key, secret, dispatcher: Some(dispatcher) }),
            Err(error) if error.is_taken() && is_ours(config.dispatcher.listen).await => {
                let url = format!("ws://{}", reachable(config.dispatcher.listen));
                tracing::info!(target: "host", url, "another process runs a dispatcher; joining its pool");
                Ok(Self { url, key, secret, dispatcher: None })
            }
            Err(error) => Err(error.into()),
        }
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
        let prefix = if self.dispatcher.is_some() { EMBEDDED } else { "" };
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

/// Whether a dispatcher of wasm-worker answers at this address.
async fn is_ours(address: SocketAddr) -> bool {
    let client = HttpClient::new(PROBE_WITHIN, PROBE_BYTES_MAX);
    let Ok(request) = Request::get(format!("http://{}/", reachable(address))).body(Bytes::new()) else { return false };
    let answer = client.call(request).await;
    answer.is_ok_and(|answer| {
        answer.status.is_success() && answer.headers.get("server").is_some_and(|server| server == SERVER_NAME)
    })
}
