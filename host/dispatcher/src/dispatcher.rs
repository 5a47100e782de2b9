//! The life of a dispatcher: start, serve, stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api_state::{ApiState, MetricsText};
use crate::clock::Moment;
use crate::command::{Command, WorkerCommand};
use crate::connections::{self, reachable};
use crate::coordinator::{Coordinator, CoordinatorParts};
use crate::http;
use crate::keys::Keys;
use crate::limits::{CHANGES_MAX, COMMANDS_MAX};
use crate::rates::Rates;
use crate::room_host::RoomHost;
use crate::scheduler::{Bounds, Scheduler};
use crate::settings::{DispatcherSettings, KeyPairs};
use crate::store::{self, Recovered, Store, StoreError};
use crate::tls::{Tls, TlsError};
use wasm_worker_core::duration::LONGEST;
use wasm_worker_core::observer::Events;

/// Time limit for storing the last changes.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The dispatcher cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// The address cannot be bound.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The address for the datagrams of rooms cannot be bound, or the system refuses a thread for them.
    #[error("cannot serve rooms at `{address}` (UDP)")]
    Rooms {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The development key is used on an address that others can reach.
    #[error("the development key is for loopback only, because its secret is public; `{address}` is not loopback")]
    DevelopmentKey {
        /// The address.
        address: SocketAddr,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate and its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl DispatcherError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { .. } => Some("choose another address with --listen".into()),
            Self::Rooms { .. } => Some("choose another port with --rtc-port".into()),
            Self::DevelopmentKey { .. } => Some("set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or LIVEKIT_KEYS".into()),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Tls(error) => Some(error.hint().to_owned()),
        }
    }

    /// Whether another process has the address.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse)
    }
}

/// A dispatcher that serves.
pub struct Dispatcher {
    address: SocketAddr,
    has_tls: bool,
    commands: mpsc::Sender<Command>,
    worker_commands: mpsc::Sender<WorkerCommand>,
    coordinator: JoinHandle<()>,
    http: JoinHandle<Infallible>,
}

impl Dispatcher {
    /// Bind the address, open the store, and serve.
    ///
    /// # Errors
    /// When the address or the store cannot be used, or the development key would be used on a public address.
    pub async fn start(
        settings: &DispatcherSettings,
        pairs: &KeyPairs,
        events: Arc<Events>,
        metrics: MetricsText,
        control: &Handle,
    ) -> Result<Self, DispatcherError> {
        let keys = Arc::new(Keys::new(pairs));
        let address = settings.listen;
        if keys.is_development() && !address.ip().is_loopback() {
            return Err(DispatcherError::DevelopmentKey { address });
        }
        if !address.ip().is_loopback() {
            keys.weak().for_each(|key| {
                let message =
                    "the secret of an API key can be guessed, and others can reach the address; use 32 bytes or more";
                tracing::warn!(target: "dispatcher", %address, key, message);
            });
        }
        let tls = settings.tls().map(|files| Tls::start(&files, address.ip(), control)).transpose()?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| DispatcherError::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| DispatcherError::Bind { address, source })?;
        let datagrams = SocketAddr::new(settings.listen.ip(), settings.rtc_port);
        let room_host = RoomHost::start(datagrams, keys.clone(), events.clone());
        let room_host = room_host.map_err(|source| DispatcherError::Rooms { address: datagrams, source })?;
        let (store, recovered) = Store::open(store_settings(settings), Moment::now().wall_ns)?;
        let (path, open) = (store.path().display().to_string(), recovered.dispatches.len());
        tracing::info!(target: "dispatcher", %address, store = path, open, "dispatcher.listening");
        let (state, coordinator) = assemble(settings, (keys, room_host), (store, recovered), events, metrics, address);
        let (commands, worker_commands) = (state.commands.clone(), state.worker_commands.clone());
        let has_tls = tls.is_some();
        let http = control.spawn(connections::serve_by(tls, listener, http::router(state)));
        Ok(Self { address, has_tls, commands, worker_commands, coordinator: control.spawn(coordinator.serve()), http })
    }

    /// The URL at which workers and clients of this machine reach the dispatcher. These need no TLS.
    pub fn url(&self) -> String {
        format!("ws://{}", reachable(self.address))
    }

    /// The URL for people: with TLS where there is one.
    pub fn public_url(&self) -> String {
        let scheme = if self.has_tls { "wss" } else { "ws" };
        format!("{scheme}://{}", reachable(self.address))
    }

    /// A handle to report worker processes that died, so that their jobs do not wait for them.
    pub fn death_notifier(&self) -> DeathNotifier {
        DeathNotifier(self.worker_commands.clone())
    }

    /// A handle that asks whether the dispatcher is alive.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.commands.clone())
    }

    /// Wait until the dispatcher ends by itself, which is a bug.
    pub async fn over(&mut self) {
        drop((&mut self.coordinator).await);
    }

    /// Store the last changes, and end. The next dispatcher takes the open dispatches over.
    pub async fn stop(mut self) {
        let stopping = async {
            drop(self.commands.send(Command::Stop).await);
            (&mut self.coordinator).await
        };
        match timeout(STOP_WITHIN, stopping).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                tracing::error!(target: "dispatcher", %panic, "the dispatcher ended by a panic, which is a bug");
            }
            Err(_) => {
                let message = "the store did not write the last changes in time; unconfirmed changes are lost";
                tracing::error!(target: "dispatcher", message);
                self.coordinator.abort();
            }
        }
        self.http.abort();
    }
}

/// A handle to report worker processes that died.
#[derive(Clone)]
pub struct DeathNotifier(mpsc::Sender<WorkerCommand>);

impl DeathNotifier {
    /// Report the death of a process, by its instance id. This never waits: a dispatcher whose command queue is full notices
    /// the lost connections of the process later.
    pub fn notify(&self, instance: String) {
        drop(self.0.try_send(WorkerCommand::ProcessDied { instance }));
    }
}

/// A handle that asks whether the dispatcher is alive.
#[derive(Clone)]
pub struct Pulse(mpsc::Sender<Command>);

impl Pulse {
    /// Ask the coordinator a question. Returns whether it answers, or waits for as long as it does not.
    pub async fn beats(&self) -> bool {
        let (reply, counts) = oneshot::channel();
        self.0.send(Command::Counts { reply }).await.is_ok() && counts.await.is_ok()
    }
}

/// The state of the handlers and the coordinator, connected with each other.
fn assemble(
    settings: &DispatcherSettings,
    (keys, room_host): (Arc<Keys>, RoomHost),
    (store, recovered): (Store, Recovered),
    events: Arc<Events>,
    metrics: MetricsText,
    address: SocketAddr,
) -> (Arc<ApiState>, Coordinator) {
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let (worker_commands, received_of_workers) = mpsc::channel(COMMANDS_MAX);
    let (changes, _) = broadcast::channel(CHANGES_MAX);
    let rates = Arc::new(Rates::new(&keys, settings.rate));
    let sender = worker_commands.downgrade();
    let (senders, reader) = ((commands, worker_commands), store.reader());
    let room_host = Arc::new(room_host);
    let shared = (keys.clone(), rates.clone(), room_host.clone());
    let state = ApiState::new(settings, shared, reader, senders, changes.clone(), metrics, address);
    let coordinator = Coordinator::new(CoordinatorParts {
        scheduler: Scheduler::new(bounds(settings), rand::random()),
        store,
        recovered,
        keys,
        rates,
        events,
        commands: received,
        worker_commands: received_of_workers,
        sender,
        changes,
        queue_deadline: settings.queue_deadline,
        room_host,
    });
    (Arc::new(state), coordinator)
}

fn bounds(settings: &DispatcherSettings) -> Bounds {
    Bounds {
        queue: settings.queue,
        queue_limit: settings.queue_limit,
        // The store has the open dispatches too, and needs space for their ends.
        memory_bytes: settings.queue_memory_bytes.min(settings.store_bytes_max / 2),
        attempts_max: settings.attempts_max,
        lost_after: settings.lost_after.min(LONGEST),
    }
}

fn store_settings(settings: &DispatcherSettings) -> store::Settings {
    store::Settings {
        path: settings.store.clone(),
        sync: settings.store_sync,
        bytes_max: settings.store_bytes_max,
        retention: settings.retention,
    }
}

#[cfg(test)]
mod tests;
