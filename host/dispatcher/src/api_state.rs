//! The shared state of the HTTP handlers: the command queue of the coordinator, the reader of the store, the API keys, and the
//! limits of requests.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use livekit_protocol as proto;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, mpsc, oneshot};
use tokio::time::timeout;

use crate::answers::Answers;
use crate::command::{Command, CommandError, WorkerCommand};
use crate::connections::sockets_max;
use crate::keys::{Caller, Keys};
use crate::limits::{WAITS_MAX, WORKERS_MAX};
use crate::rates::Rates;
use crate::room_host::RoomHost;
use crate::scheduler::Id;
use crate::settings::DispatcherSettings;
use crate::store::{ReadError, Reader};
use crate::twirp::{Code, TwirpError};
use wasm_worker_core::api::dispatcher::Waiting;

/// Time limit for an answer of the coordinator, which waits for the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The error of a request during a shutdown.
pub(crate) const STOPPING: &str = "the dispatcher is shutting down";

/// Writes the text of the metrics, given the number of dispatches that wait and of those that a worker has.
pub type MetricsText = Arc<dyn Fn(usize, usize) -> String + Send + Sync>;

/// The content type of metrics: OpenMetrics.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The extractor by which a handler gets the state.
pub(crate) type SharedState = State<Arc<ApiState>>;

/// The state of the HTTP handlers.
pub(crate) struct ApiState {
    pub(crate) commands: mpsc::Sender<Command>,
    /// The queue of the commands of workers.
    pub(crate) worker_commands: mpsc::Sender<WorkerCommand>,
    pub(crate) reader: Reader,
    pub(crate) keys: Arc<Keys>,
    /// The ids of dispatches that changed.
    pub(crate) changes: broadcast::Sender<Id>,
    /// A permit for each connected worker.
    pub(crate) worker_slots: Arc<Semaphore>,
    /// A permit for each request that waits for a change.
    pub(crate) wait_slots: Semaphore,
    /// The memory of answers.
    pub(crate) answers: Answers,
    /// The permit of the request that sums bills, which takes seconds.
    sums_turn: Semaphore,
    rates: Arc<Rates>,
    pub(crate) queue_deadline: Duration,
    metadata_bytes_max: usize,
    metrics: MetricsText,
    /// The host of the rooms.
    pub(crate) room_host: Arc<RoomHost>,
    /// The address that the dispatcher listens on.
    pub(crate) address: SocketAddr,
    /// The address of the datagrams for participants, where it is another one.
    pub(crate) rtc_address: Option<IpAddr>,
}

impl ApiState {
    pub(crate) fn new(
        settings: &DispatcherSettings,
        (keys, rates, room_host): (Arc<Keys>, Arc<Rates>, Arc<RoomHost>),
        reader: Reader,
        (commands, worker_commands): (mpsc::Sender<Command>, mpsc::Sender<WorkerCommand>),
        changes: broadcast::Sender<Id>,
        metrics: MetricsText,
        address: SocketAddr,
    ) -> Self {
        Self {
            commands,
            worker_commands,
            reader,
            answers: Answers::new(),
            sums_turn: Semaphore::new(1),
            rates,
            keys,
            changes,
            worker_slots: Arc::new(Semaphore::new(sockets_max(WORKERS_MAX))),
            wait_slots: Semaphore::new(WAITS_MAX),
            queue_deadline: settings.queue_deadline,
            metadata_bytes_max: settings.metadata_bytes_max,
            metrics,
            room_host,
            address,
            rtc_address: settings.rtc_address,
        }
    }

    /// Send a command to the coordinator, and wait for its answer.
    pub(crate) async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Result<T, TwirpError> {
        let stopping = || TwirpError::new(Code::Unavailable, STOPPING);
        let asking = async {
            self.commands.send(command).await.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())
        };
        timeout(ANSWER_WITHIN, asking).await.unwrap_or_else(|_| {
            Err(TwirpError::new(Code::Unavailable, format!("the dispatcher did not answer within {ANSWER_WITHIN:?}")))
        })
    }

    /// The positions and reasons of those dispatches that wait.
    pub(crate) async fn waiting(&self, dispatches: Vec<String>) -> Result<HashMap<String, Waiting>, TwirpError> {
        let (reply, waiting) = oneshot::channel();
        self.ask(Command::Waiting { dispatches, reply }, waiting).await
    }

    /// The rooms with these names; all rooms for no names.
    pub(crate) async fn rooms(&self, names: Vec<String>) -> Result<Vec<proto::Room>, TwirpError> {
        let (reply, rooms) = oneshot::channel();
        Ok(self.ask(Command::Rooms { names, reply }, rooms).await??)
    }

    /// Wait for the turn to make a list.
    pub(crate) async fn list_turn(&self) -> Result<SemaphorePermit<'_>, TwirpError> {
        let turn = timeout(ANSWER_WITHIN, self.answers.list_turn()).await.ok().flatten();
        turn.ok_or_else(|| TwirpError::new(Code::Unavailable, "other callers ask for long lists").retry_after(1))
    }

    /// Wait for the turn to sum bills.
    pub(crate) async fn sums_turn(&self) -> Result<SemaphorePermit<'_>, TwirpError> {
        let turn = timeout(ANSWER_WITHIN, self.sums_turn.acquire()).await.ok().and_then(Result::ok);
        turn.ok_or_else(|| TwirpError::new(Code::Unavailable, "another caller asks for sums").retry_after(1))
    }

    /// The room with this name, or LiveKit's error.
    pub(crate) async fn room(&self, name: &str) -> Result<proto::Room, TwirpError> {
        self.rooms(vec![name.to_owned()]).await?.pop().ok_or_else(no_such_room)
    }

    /// Count a new dispatch against the rate limit of its API key.
    pub(crate) fn check_rate(&self, caller: &Caller) -> Result<(), TwirpError> {
        if self.rates.allows(&caller.api_key) {
            return Ok(());
        }
        let message = "the API key exceeds its dispatches a second (`dispatch-rate`)";
        Err(TwirpError::new(Code::ResourceExhausted, message).retry_after(1))
    }

    /// Check the size of the metadata of a dispatch or a room.
    pub(crate) fn check_metadata(&self, metadata: &str) -> Result<(), TwirpError> {
        let (bytes, max) = (metadata.len(), self.metadata_bytes_max);
        if bytes <= max {
            return Ok(());
        }
        Err(TwirpError::invalid(format!(
            "the metadata has {bytes} bytes, at most {max} are allowed (`metadata-limit`)"
        )))
    }

    /// The answer to a request for the metrics.
    pub(crate) async fn metrics(&self) -> Response {
        let (reply, counts) = oneshot::channel();
        match self.ask(Command::Counts { reply }, counts).await {
            Ok((waiting, running)) => {
                ([(CONTENT_TYPE, METRICS_TYPE)], (self.metrics)(waiting, running)).into_response()
            }
            Err(error) => error.into_response(),
        }
    }
}

/// The error for a room that does not exist, as in LiveKit's server.
pub(crate) fn no_such_room() -> TwirpError {
    TwirpError::new(Code::NotFound, "requested room does not exist")
}

impl From<CommandError> for TwirpError {
    fn from(error: CommandError) -> Self {
        let refused = |code| Self::new(code, error.to_string());
        match &error {
            CommandError::Full(_)
            | CommandError::TooManyRooms
            | CommandError::TooManyHosted
            | CommandError::StoreFull => refused(Code::ResourceExhausted).retry_after(1),
            CommandError::StoreBusy => refused(Code::Unavailable).retry_after(1),
            CommandError::StoreStuck(_) => refused(Code::Unavailable).retry_after(5),
            CommandError::OtherRequest | CommandError::TooLong(_) => refused(Code::InvalidArgument),
            CommandError::AnswerTooLong(_) => refused(Code::ResourceExhausted),
        }
    }
}

impl From<ReadError> for TwirpError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy => Self::new(Code::Unavailable, error.to_string()).retry_after(1),
            ReadError::Sqlite(_) | ReadError::Panic(_) => Self::new(Code::Internal, error.to_string()),
        }
    }
}
