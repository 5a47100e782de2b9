//! The sockets of rooms: a runtime of their own, one task a room, and the handle by which others reach it.
//!
//! ```text
//! queue  a bounded queue between the task of a room and its handle
//! link   the WebSocket to the server
//! paths  UDP and TCP to the server
//! threads
//!        the CPU time of the threads
//! task   the loop of one room
//! ```
//!
//! A thousand rooms do not delay other timers of the program, because they have threads of their own. A panic in one room, as
//! `str0m` has it by design on its own bugs, ends that room alone, with [`Reason::Fault`].
//!
//! Bounds: `rooms_max` rooms; each has those of `queue`, `link` and `paths`.

mod link;
mod paths;
mod queue;
mod threads;

mod task;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::http::Uri;

pub use crate::audio::codec::{CodecError, Encode, NewEncoder, opus};
use queue::Queue;
use task::{Closes, Shared, Task};
use threads::Threads;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{
    CommandRefused, OpenError, RoomConnection, RoomNumbers, RoomOpener, RoomStatistics,
};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::settings::RoomSettings;

/// Most commands that wait for the task of a room: those of one step of an agent.
const COMMANDS_MAX: usize = 4_096;
const COMMAND_BYTES_MAX: usize = 8 << 20;
/// Most events that wait for the taker. The others stay in the room.
const EVENTS_MAX: usize = 64;
const EVENT_BYTES_MAX: usize = 256 << 10;

/// Most rooms of a process, whatever its settings say.
const SEATS_MAX: u32 = 1 << 20;

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
    /// Threads of the runtime. At least one is started, and no more than there may be rooms.
    pub threads: usize,
    /// Most rooms at once.
    pub rooms_max: usize,
}

/// All rooms of the process, and their runtime. Dropped, every room ends.
pub struct Rooms {
    runtime: Option<Runtime>,
    threads: Arc<Threads>,
    connector: Arc<dyn Connect>,
    encoder: NewEncoder,
    /// One for each room that there may be.
    seats: Arc<Semaphore>,
    rooms_max: usize,
}

impl Rooms {
    /// Start the runtime.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(settings: RoomsSettings, connector: Arc<dyn Connect>) -> std::io::Result<Self> {
        let threads = settings.threads.min(settings.rooms_max).max(1);
        let (mut builder, measured) = (Builder::new_multi_thread(), Arc::<Threads>::default());
        let (starts, stops) = (measured.clone(), measured.clone());
        builder.on_thread_start(move || starts.add()).on_thread_stop(move || stops.remove());
        let runtime = builder.worker_threads(threads).thread_name("room").enable_all().build()?;
        let rooms_max = settings.rooms_max.min(SEATS_MAX as usize);
        Ok(Self {
            runtime: Some(runtime),
            threads: measured,
            connector,
            encoder: opus,
            seats: Arc::new(Semaphore::new(rooms_max)),
            rooms_max,
        })
    }

    /// Have this encoder make the packets of what agents say, in the rooms that are opened from now on.
    #[must_use]
    pub fn encode_with(mut self, encoder: NewEncoder) -> Self {
        self.encoder = encoder;
        self
    }

    /// Open a room. It is joined by [`Command::Connect`].
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, settings: RoomSettings) -> Result<Room, OpenError> {
        let rooms_max = self.rooms_max;
        let seat = self.seats.clone().try_acquire_owned().map_err(|_| OpenError::TooMany { rooms_max })?;
        let shared = Arc::new(Shared {
            commands: Queue::new(COMMANDS_MAX, COMMAND_BYTES_MAX),
            events: Queue::new(EVENTS_MAX, EVENT_BYTES_MAX),
            statistics: std::sync::Mutex::default(),
        });
        if let Some(runtime) = &self.runtime {
            let task = Task::new(settings, self.connector.clone(), self.encoder, shared.clone());
            runtime.spawn(task.run(Closes(shared.clone()), seat));
        }
        Ok(Room { shared, is_over: false })
    }

    /// CPU time that all rooms took so far; none where the system does not tell. Much of it is sound that is decoded and encoded.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.threads.cpu_time()
    }

    /// The number of rooms that are open.
    pub fn count(&self) -> usize {
        self.rooms_max - self.seats.available_permits()
    }

    /// Wait until every room is left, the farewells included. Rooms that are opened meanwhile have to wait.
    pub async fn left(&self) {
        let all = u32::try_from(self.rooms_max).unwrap_or(SEATS_MAX);
        // The seats are never closed.
        drop(self.seats.acquire_many(all).await);
    }
}

impl RoomOpener for Rooms {
    fn open(&self, settings: RoomSettings) -> Result<Box<dyn RoomConnection>, OpenError> {
        Ok(Box::new(self.open(settings)?))
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One room. Dropped, it is left.
pub struct Room {
    shared: Arc<Shared>,
    /// Whether the last event was taken by [`RoomConnection::try_next`].
    is_over: bool,
}

impl Room {
    /// Ask for something.
    ///
    /// # Errors
    /// When too many commands wait, or the room is over.
    #[expect(clippy::result_large_err, reason = "the command goes back to its owner, and is not copied once more")]
    pub fn try_perform(&self, command: Command) -> Result<(), CommandRefused> {
        self.shared.try_perform(command)
    }

    /// The next event, or none where the room is over: after [`Rooms`] was dropped, or after a fault.
    pub async fn next(&self) -> Option<RoomEvent> {
        self.shared.events.next().await
    }

    /// The numbers so far.
    pub fn statistics(&self) -> RoomStatistics {
        self.shared.statistics()
    }
}

impl RoomConnection for Room {
    fn try_perform(&mut self, command: Command) -> Result<(), CommandRefused> {
        self.shared.try_perform(command)
    }

    fn try_next(&mut self) -> Option<RoomEvent> {
        if self.is_over {
            return None;
        }
        let events = &self.shared.events;
        // Where all rooms of the process end, the task of this one had no time for a last event.
        let gone = || RoomEvent::Disconnected { reason: Reason::Fault, message: "the worker ends".into() };
        let event = events.try_next().or_else(|| events.is_over().then(gone));
        self.is_over = matches!(&event, Some(RoomEvent::Disconnected { reason, .. }) if reason.is_final());
        event
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_over { Poll::Pending } else { self.shared.events.poll_ready(context) }
    }

    fn numbers(&self) -> Arc<dyn RoomNumbers> {
        self.shared.clone()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.commands.close();
        self.shared.events.close();
    }
}
