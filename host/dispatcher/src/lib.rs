//! The embedded dispatcher: the server side of LiveKit's agent protocol for one machine, with a queue that is kept on disk.
//!
//! ```text
//! http       the routes; twirp: how calls are written; api, room_api: LiveKit's services; pages: what the commands read
//! socket     one worker's connection; session (pure): what its frames mean
//! owner      the one task that owns it all: what is written first, who is told what; order: what is asked of it
//! pool       every dispatch that is not over, and the workers (pure); queue and assign (pure): who is next, and where it goes
//! rooms      names that dispatches belong to (pure)
//! store      SQLite: one thread that writes in groups, others that read
//! keys       whose tokens are taken
//! ```
//!
//! Not here: media. Nobody joins these rooms; an agent that wants to join one needs a LiveKit server.

mod api;
mod assign;
pub mod connections;
mod http;
mod keys;
mod order;
mod owner;
mod pages;
mod pool;
mod queue;
mod room_api;
mod rooms;
pub mod settings;
mod socket;
mod store;
mod twirp;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use livekit_protocol as proto;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use wasm_worker_core::observer::Events;
use wasm_worker_protocol::worker_session::OUR_NODE;

pub use api::{DEADLINE, PRIORITY};
pub use connections::reachable;
pub use http::SERVER_NAME;
pub use keys::DEVELOPMENT_PAIR;
use keys::{Caller, Keys};
use order::Order;
use owner::{CHANGES, Owner, Parts, QUEUE};
pub use pool::EMBEDDED;
use pool::{Bounds, Id, Pool, Waiting};
use rooms::Room;
use settings::{DispatcherSettings, KeyPairs};
use store::{ReadError, Reader, Store, StoreError};
use twirp::{Code, TwirpError};

/// Connections of workers.
const WORKERS_MAX: usize = 10_000;
/// Callers that hold a connection until something happens; the others are told at once, and ask again.
const WAITS_MAX: usize = 512;
/// For an answer of the owner, which waits for the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// For the store to take what is left.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Of LiveKit's server that this one is like.
const PROTOCOL: i32 = 17;
const AGENT_PROTOCOL: i32 = 1;

/// The dispatcher cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    #[error("nothing can be served at `{address}`")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("LiveKit's development key is for loopback, and `{address}` is not: everybody knows its secret")]
    DevelopmentKey { address: SocketAddr },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DispatcherError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { .. } => Some("choose another address with --listen".into()),
            Self::DevelopmentKey { .. } => Some("set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or LIVEKIT_KEYS".into()),
            Self::Store(error) => error.hint().map(str::to_owned),
        }
    }

    /// Something else has the address.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse)
    }
}

/// What answers callers: they ask the owner, or read the store.
pub(crate) struct Door {
    orders: mpsc::Sender<Order>,
    reader: Reader,
    keys: Arc<Keys>,
    changes: broadcast::Sender<Id>,
    places: Arc<Semaphore>,
    waits: Semaphore,
    rates: HashMap<String, DefaultDirectRateLimiter>,
    queue_deadline: Duration,
    metadata_bytes_max: usize,
    metrics: MetricsText,
}

/// Writes the metrics page, given the number of dispatches that wait and that run.
pub type MetricsText = Arc<dyn Fn(usize, usize) -> String + Send + Sync>;

/// The content type of a metrics page: OpenMetrics.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A dispatcher that serves.
pub struct Dispatcher {
    address: SocketAddr,
    orders: mpsc::Sender<Order>,
    owner: JoinHandle<()>,
    http: JoinHandle<Infallible>,
}

impl Dispatcher {
    /// Take the address and the store, and serve.
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
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| DispatcherError::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| DispatcherError::Bind { address, source })?;
        let (store, left) = Store::open(store_settings(settings), owner::now().wall_ns)?;
        let (orders, received) = mpsc::channel(QUEUE);
        let (changes, _) = broadcast::channel(CHANGES);
        let path = store.path().display().to_string();
        tracing::info!(target: "dispatcher", %address, store = path, open = left.open.len(), "dispatcher.listening");
        let door = Door {
            orders: orders.clone(),
            reader: store.reader(),
            keys: keys.clone(),
            changes: changes.clone(),
            places: Arc::new(Semaphore::new(WORKERS_MAX)),
            waits: Semaphore::new(WAITS_MAX),
            rates: rates(&keys, settings.rate),
            queue_deadline: settings.queue_deadline,
            metadata_bytes_max: settings.metadata_bytes_max,
            metrics,
        };
        let owner = Owner::new(Parts {
            pool: Pool::new(bounds(settings), rand::random()),
            store,
            left,
            keys,
            events,
            orders: received,
            sender: orders.downgrade(),
            changes,
            queue_deadline_ns: i64::try_from(settings.queue_deadline.as_nanos()).unwrap_or(i64::MAX),
        });
        let http = control.spawn(connections::serve(listener, http::router(Arc::new(door))));
        Ok(Self { address, orders, owner: control.spawn(owner.serve()), http })
    }

    /// Where workers and clients on this machine find it.
    pub fn url(&self) -> String {
        format!("ws://{}", reachable(self.address))
    }

    /// A worker process is known to be no more; its jobs need not wait for it.
    pub fn deaths(&self) -> Deaths {
        Deaths(self.orders.clone())
    }

    /// Until it ends by itself, which is a bug of ours.
    pub async fn over(&mut self) {
        drop((&mut self.owner).await);
    }

    /// Write what is left, and end. What waits is there at the next start.
    pub async fn stop(mut self) {
        let stopping = async {
            drop(self.orders.send(Order::Stop).await);
            (&mut self.owner).await
        };
        match timeout(STOP_WITHIN, stopping).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => tracing::error!(target: "dispatcher", %panic, "a bug of ours ended the dispatcher"),
            Err(_) => {
                tracing::error!(target: "dispatcher", "the store does not take what is left; what was not confirmed is lost");
                self.owner.abort();
            }
        }
        self.http.abort();
    }
}

/// Tells a dispatcher of worker processes that died.
#[derive(Clone)]
pub struct Deaths(mpsc::Sender<Order>);

impl Deaths {
    /// Never waits: a dispatcher that is that busy finds out by itself.
    pub fn tell(&self, instance: String) {
        drop(self.0.try_send(Order::Died { instance }));
    }
}

impl Door {
    /// Give the owner an order, and wait for its answer.
    async fn ask<T>(&self, order: Order, answer: oneshot::Receiver<T>) -> Result<T, TwirpError> {
        let late =
            || TwirpError::new(Code::Unavailable, format!("the dispatcher did not answer within {ANSWER_WITHIN:?}"));
        let gone = || TwirpError::new(Code::Unavailable, "the dispatcher is being stopped");
        let asking = async {
            self.orders.send(order).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        };
        timeout(ANSWER_WITHIN, asking).await.map_err(|_| late())?
    }

    async fn waiting(&self, dispatches: Vec<String>) -> Result<HashMap<String, Waiting>, TwirpError> {
        let (reply, waiting) = oneshot::channel();
        self.ask(Order::Waiting { dispatches, reply }, waiting).await
    }

    async fn rooms(&self, names: Vec<String>) -> Result<Vec<Room>, TwirpError> {
        let (reply, rooms) = oneshot::channel();
        self.ask(Order::Rooms { names, reply }, rooms).await
    }

    /// The room, or that there is none.
    async fn room(&self, name: &str) -> Result<Room, TwirpError> {
        self.rooms(vec![name.to_owned()]).await?.pop().ok_or_else(room_api::no_room)
    }

    /// Rows as clients read them; those that wait with their reason.
    async fn shown(&self, rows: Vec<store::DispatchRow>) -> Result<Vec<proto::AgentDispatch>, TwirpError> {
        let open = rows.iter().filter(|row| row.ended_ns.is_none()).map(|row| row.dispatch.clone()).collect();
        let waiting = self.waiting(open).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let waiting = waiting.get(&row.dispatch);
                api::to_proto(row, waiting)
            })
            .collect())
    }

    fn within_rate(&self, caller: &Caller) -> Result<(), TwirpError> {
        match self.rates.get(&caller.key).map(RateLimiter::check) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(_)) => {
                let message = "more dispatches a second than this key may make (`dispatch-rate`)";
                Err(TwirpError::new(Code::ResourceExhausted, message).retry_after(1))
            }
        }
    }

    fn check_metadata(&self, metadata: &str) -> Result<(), TwirpError> {
        let (bytes, max) = (metadata.len(), self.metadata_bytes_max);
        if bytes <= max {
            return Ok(());
        }
        Err(TwirpError::invalid(format!(
            "the metadata has {bytes} bytes, at most {max} are allowed (`metadata-limit`)"
        )))
    }

    async fn metrics_text(&self) -> Response {
        let (reply, counts) = oneshot::channel();
        match self.ask(Order::Counts { reply }, counts).await {
            Ok((waiting, running)) => {
                ([(CONTENT_TYPE, METRICS_TYPE)], (self.metrics)(waiting, running)).into_response()
            }
            Err(error) => error.into_response(),
        }
    }
}

impl From<ReadError> for TwirpError {
    fn from(error: ReadError) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

fn bounds(settings: &DispatcherSettings) -> Bounds {
    Bounds {
        queue: settings.queue,
        queue_limit: settings.queue_limit,
        // What is not over is in the store too, which needs room for how it ends.
        memory_bytes: settings.queue_memory_bytes.min(settings.store_bytes_max / 2),
        attempts_max: settings.attempts_max,
        lost_after: settings.lost_after,
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

fn rates(keys: &Keys, rate: Option<NonZeroU32>) -> HashMap<String, DefaultDirectRateLimiter> {
    let Some(rate) = rate else { return HashMap::new() };
    keys.names().map(|key| (key.clone(), RateLimiter::direct(Quota::per_second(rate)))).collect()
}

/// How this server introduces itself to workers.
fn server_info() -> proto::ServerInfo {
    proto::ServerInfo {
        version: format!("wasm-worker {}", env!("CARGO_PKG_VERSION")),
        protocol: PROTOCOL,
        agent_protocol: AGENT_PROTOCOL,
        node_id: OUR_NODE.into(),
        ..Default::default()
    }
}
