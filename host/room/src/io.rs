//! The sockets of rooms: a runtime of their own, one task a room, and the handle by which others reach it.
//!
//! ```text
//! queue  a bounded queue between the task of a room and its handle
//! link   the WebSocket to the server
//! paths  UDP and TCP to the server
//! task   the loop of one room
//! ```
//!
//! A thousand rooms do not delay other timers of the program, because they have threads of their own. A panic in one room, as
//! `str0m` has it by design on its own bugs, ends that room alone, with [`Reason::Fault`](crate::data::event::Reason::Fault).
//!
//! Bounds: `rooms_max` rooms; each has those of [`queue`], [`link`] and [`paths`].

mod link;
mod paths;
mod queue;

mod task;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::http::Uri;

use crate::data::command::Command;
use crate::data::event::RoomEvent;
use crate::data::settings::RoomSettings;
use queue::Queue;
use task::{Shared, Task};

/// Most commands that wait for the task of a room: those of one step of an agent.
const COMMANDS_MAX: usize = 4_096;
const COMMAND_BYTES_MAX: usize = 8 << 20;
/// Most events that wait for the taker. The room of one that takes none is left.
const EVENTS_MAX: usize = 8_192;
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Both directions of a connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that is being made, or why it cannot be.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn Io>, String>> + Send>>;

/// The program's way to its servers: names, proxies, TLS.
pub trait Connect: Send + Sync + 'static {
    /// Connect to the server of a URL with the scheme `ws` or `wss`. The caller has the time limit.
    fn connect(&self, url: &Uri) -> Connecting;
}

/// How many rooms there may be, and on how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomsSettings {
    /// Threads of the runtime; at least one is started.
    pub threads: usize,
    /// Most rooms at once.
    pub rooms_max: usize,
}

/// Why a room cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There are as many as there may be.
    #[error("{rooms_max} rooms are open, which is the most")]
    TooMany {
        /// The most.
        rooms_max: usize,
    },
}

/// Why a command is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// Too many wait.
    #[error("too many commands wait for the room")]
    Full,
    /// The room is over.
    #[error("the room is over")]
    Over,
}

/// All rooms of the process, and their runtime. Dropped, every room ends.
pub struct Rooms {
    runtime: Option<Runtime>,
    connector: Arc<dyn Connect>,
    settings: RoomsSettings,
    open: Arc<AtomicUsize>,
}

impl Rooms {
    /// Start the runtime.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(settings: RoomsSettings, connector: Arc<dyn Connect>) -> std::io::Result<Self> {
        let threads = settings.threads.max(1);
        let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name("room").enable_all().build()?;
        Ok(Self { runtime: Some(runtime), connector, settings, open: Arc::default() })
    }

    /// Open a room. It is joined by [`Command::Connect`].
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, settings: RoomSettings) -> Result<Room, OpenError> {
        let rooms_max = self.settings.rooms_max;
        let seat = Seat::take(&self.open, rooms_max).ok_or(OpenError::TooMany { rooms_max })?;
        let shared = Arc::new(Shared {
            commands: Queue::new(COMMANDS_MAX, COMMAND_BYTES_MAX),
            events: Queue::new(EVENTS_MAX, EVENT_BYTES_MAX),
            state: std::sync::Mutex::default(),
        });
        if let Some(runtime) = &self.runtime {
            let task = Task::new(settings, self.connector.clone(), shared.clone());
            runtime.spawn(task.run(seat));
        }
        Ok(Room { shared })
    }

    /// The number of rooms that are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The right to one room, given back by dropping it.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |count: usize| (count < most).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(open.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Numbers of one room, from its opening on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomStatistics {
    /// Datagrams of the peer connection, and frames where it goes over TCP.
    pub datagrams_received: u64,
    /// The same, sent.
    pub datagrams_sent: u64,
    /// Bytes of all sockets.
    pub bytes_received: u64,
    /// Bytes of all sockets.
    pub bytes_sent: u64,
    /// Packets of the data channels.
    pub packets_received: u64,
    /// Packets of the data channels.
    pub packets_sent: u64,
    /// Packets that came again, or mean nothing to an agent.
    pub packets_ignored: u64,
    /// Packets that were to be sent, and were not.
    pub packets_dropped: u64,
    /// Time from the request to join to the open data channels; absent before the first join.
    pub joined_in: Option<Duration>,
    /// Losses after which the agent kept its place.
    pub resumes: u32,
    /// Losses after which it got a new one.
    pub rejoins: u32,
    /// Attempts of any kind that failed.
    pub failed_attempts: u32,
    /// Bytes of texts, files and data that wait, in both directions.
    pub bytes_waiting: usize,
}

/// One room. Dropped, it is left.
pub struct Room {
    shared: Arc<Shared>,
}

impl Room {
    /// Ask for something.
    ///
    /// # Errors
    /// When too many commands wait, or the room is over.
    pub fn try_perform(&self, command: Command) -> Result<(), CommandRefused> {
        self.shared.try_perform(command)
    }

    /// The next event, or none where the room is over: after [`Rooms`] was dropped, or after a fault.
    pub async fn next(&self) -> Option<RoomEvent> {
        self.shared.events.next().await
    }

    /// The next event, if there is one.
    pub fn try_next(&self) -> Option<RoomEvent> {
        self.shared.events.try_next()
    }

    /// Whether the server has everything that was sent.
    pub fn is_delivered(&self) -> bool {
        self.shared.is_delivered()
    }

    /// The numbers so far.
    pub fn statistics(&self) -> RoomStatistics {
        self.shared.statistics()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.commands.close();
        self.shared.events.close();
    }
}
