//! The rooms of jobs on LiveKit servers, by the crate `wasm-worker-room`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{CommandRefused, OpenError, RoomConnection, RoomOpener, RoomStatistics};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::settings::RoomSettings;
use wasm_worker_core::text::with_causes;
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};

use crate::network::connect::connect;

/// Time for a connection to a server. A room has less for all of its join.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Threads of the rooms.
const THREADS: usize = 1;

/// Opens rooms, by the program's own way to servers: names, proxies, TLS.
pub(crate) struct ServerRooms(Rooms);

impl ServerRooms {
    /// Start the runtime of the rooms.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(rooms_max: usize) -> std::io::Result<Self> {
        Rooms::start(RoomsSettings { threads: THREADS, rooms_max }, Arc::new(Network)).map(Self)
    }
}

impl RoomOpener for ServerRooms {
    fn open(&self, settings: RoomSettings) -> Result<Box<dyn RoomConnection>, OpenError> {
        let room = Arc::new(self.0.open(settings)?);
        Ok(Box::new(ServerRoom { room, next: Next::Unknown }))
    }
}

/// One room.
struct ServerRoom {
    room: Arc<Room>,
    next: Next,
}

type Awaited = Pin<Box<dyn Future<Output = Option<RoomEvent>> + Send>>;

/// What is known of the next event.
enum Next {
    /// Nothing: it is asked for.
    Unknown,
    /// It is waited for. Dropped, the wait loses nothing.
    Awaited(Awaited),
    /// It is there.
    Here(RoomEvent),
}

impl RoomConnection for ServerRoom {
    fn try_perform(&mut self, command: Command) -> Result<(), CommandRefused> {
        self.room.try_perform(command)
    }

    fn try_next(&mut self) -> Option<RoomEvent> {
        match std::mem::replace(&mut self.next, Next::Unknown) {
            Next::Here(event) => Some(event),
            Next::Unknown | Next::Awaited(_) => self.room.try_next(),
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut awaited: Awaited = match std::mem::replace(&mut self.next, Next::Unknown) {
            Next::Here(event) => {
                self.next = Next::Here(event);
                return Poll::Ready(());
            }
            Next::Awaited(awaited) => awaited,
            Next::Unknown => {
                let room = self.room.clone();
                Box::pin(async move { room.next().await })
            }
        };
        let polled = awaited.as_mut().poll(context);
        let Poll::Ready(event) = polled else {
            self.next = Next::Awaited(awaited);
            return Poll::Pending;
        };
        // Without one the rooms of the process are gone.
        let gone = || RoomEvent::Disconnected { reason: Reason::Fault, message: "the worker ends".into() };
        self.next = Next::Here(event.unwrap_or_else(gone));
        Poll::Ready(())
    }

    fn statistics(&self) -> RoomStatistics {
        self.room.statistics()
    }
}

/// The program's way to servers.
struct Network;

impl Connect for Network {
    fn connect(&self, url: &Uri) -> Connecting {
        let url = url.clone();
        Box::pin(async move {
            let stream = connect(&url, CONNECT_WITHIN).await.map_err(|error| with_causes(&error))?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}
