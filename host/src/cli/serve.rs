//! `wasm-worker serve`: the dispatcher alone; and how `run` comes to one where no server is named.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use wasm_worker_core::observer::Events;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::KeyPairs;
use wasm_worker_dispatcher::{DEVELOPMENT_PAIR, Dispatcher, DispatcherError, MetricsText, SERVER_NAME, reachable};
use wasm_worker_sandbox::runtimes::Runtimes;

use super::settings::SettingFlags;
use super::{Exit, Failure, logging, print};
use crate::config::Config;
use crate::observers::metrics::Metrics;
use crate::observers::{EventLines, publisher};

const PROBE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

pub(crate) fn run(args: ServeArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    config.check_server()?;
    let log = logging::start(&config, LevelFilter::INFO);
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(serve(&config, runtimes.control()));
    runtimes.shut_down();
    drop(log);
    served.map(|()| Exit::Ok)
}

async fn serve(config: &Config, control: &Handle) -> Result<(), Failure> {
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let metrics = Arc::new(Metrics::new());
    let lines = EventLines::open_all(config)?;
    let events = publisher(&lines, Some(&metrics));
    let mut dispatcher =
        Dispatcher::start(&config.dispatcher, &pairs(config), events, metrics_text(&metrics, &lines), control).await?;
    // Whoever let the system choose a port learns it from here.
    print(&dispatcher.url())?;
    let served = tokio::select! {
        _ = interrupts.recv() => Ok(()),
        _ = terminations.recv() => Ok(()),
        () = dispatcher.over() => {
            let error = "the dispatcher has ended by itself; this is a bug of ours".into();
            Err(Failure { exit: Exit::Host, error, hint: Some("report it with the log".into()) })
        }
    };
    if served.is_ok() {
        dispatcher.stop().await;
    }
    tokio::task::block_in_place(|| lines.close());
    served
}

/// The metrics page of a dispatcher.
pub(crate) fn metrics_text(metrics: &Arc<Metrics>, lines: &Arc<EventLines>) -> MetricsText {
    let (metrics, lines) = (metrics.clone(), lines.clone());
    Arc::new(move |waiting, running| {
        metrics.read_dispatcher(waiting, running);
        metrics.text(&lines)
    })
}

/// Where workers of this process get their jobs from.
pub(crate) struct Home {
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    /// None where it is another process.
    pub(crate) dispatcher: Option<Dispatcher>,
}

impl Home {
    /// A server that is named, or else a dispatcher of our own, or that of another process of ours on this machine.
    pub(crate) async fn find(
        config: &Config,
        events: Arc<Events>,
        metrics: MetricsText,
        control: &Handle,
    ) -> Result<Self, Failure> {
        config.check_server()?;
        if let Some(url) = config.livekit.url.clone() {
            return Self::named(config, url);
        }
        let pairs = pairs(config);
        let (key, secret) =
            pairs.first_key_value().map(|(key, secret)| (key.clone(), secret.0.clone())).unwrap_or_default();
        match Dispatcher::start(&config.dispatcher, &pairs, events, metrics, control).await {
            Ok(dispatcher) => Ok(Self { url: dispatcher.url(), key, secret, dispatcher: Some(dispatcher) }),
            Err(error) if error.is_taken() && is_ours(config.dispatcher.listen).await => {
                let url = format!("ws://{}", reachable(config.dispatcher.listen));
                tracing::info!(target: "host", url, "a dispatcher is there already; its pool is joined");
                Ok(Self { url, key, secret, dispatcher: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn named(config: &Config, url: String) -> Result<Self, Failure> {
        let missing = |what: &str| {
            Failure::usage(format!("{what} is missing")).with_hint(
                "set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or leave LIVEKIT_URL out to have a dispatcher of your own",
            )
        };
        let key = config.livekit.api_key.clone().ok_or_else(|| missing("the API key (`--api-key`)"))?;
        let secret = config.livekit.api_secret.clone().ok_or_else(|| missing("the API secret (`--api-secret`)"))?;
        Ok(Self { url, key: key.0, secret: secret.0, dispatcher: None })
    }
}

/// The keys that are named, else the one of the API, else that for development.
fn pairs(config: &Config) -> KeyPairs {
    if let Some(keys) = &config.dispatcher.keys {
        return keys.clone();
    }
    match (&config.livekit.api_key, &config.livekit.api_secret) {
        (Some(key), Some(secret)) => KeyPairs::from([(key.0.clone(), secret.clone())]),
        _ => KeyPairs::from([(DEVELOPMENT_PAIR.0.into(), Secret(DEVELOPMENT_PAIR.1.into()))]),
    }
}

/// Whether a dispatcher of ours answers there.
async fn is_ours(address: SocketAddr) -> bool {
    let url = format!("http://{}/", reachable(address));
    let asking = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::config_builder().timeout_global(Some(PROBE_WITHIN)).build().new_agent();
        let answer = agent.get(url).call().ok()?;
        Some(answer.headers().get("server")? == SERVER_NAME)
    });
    asking.await.is_ok_and(|ours| ours == Some(true))
}

impl From<DispatcherError> for Failure {
    fn from(error: DispatcherError) -> Self {
        let hint = error.hint();
        Self { exit: Exit::Usage, error: error.into(), hint }
    }
}
