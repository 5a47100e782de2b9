//! The room host: the dispatcher serves the rooms of its directory to LiveKit's clients and to agents, on one machine.
//!
//! ```text
//! limits   the bounds that several modules share
//! pace     a rate that has a burst (pure)
//! sdp      the lines for media of offers and answers, as texts (pure)
//! ways     what leads to one peer (pure)
//! peer     one peer connection, by `str0m` (pure)
//! tracks   the tracks that a participant publishes (pure)
//! second   the second peer of a client that has two peer connections (pure)
//! lines    the lines on which a participant hears others (pure)
//! hearing  what a participant chooses to hear, and who may hear it (pure)
//! told     what others know of a participant (pure)
//! packets  the packets of the data channels (pure)
//! history  the packets that are kept for resumptions (pure)
//! outbox   the packets that wait for one participant (pure)
//! claims   what the token of a participant says (pure)
//! member   a participant (pure)
//! room     a room (pure)
//! input    what the task of a room receives
//! routes   which participant a datagram is for
//! task     the loop of one room
//! link     the WebSocket of a participant
//! ```
//!
//! Sound is forwarded as it comes, without a look into it. What is left out: video, relays (TURN), TCP and TLS for datagrams, and
//! the publishing of tracks without media.
//!
//! Rooms and their links have a runtime of their own. A room is a task there, which begins with the first participant and ends with
//! the room in the directory. One socket has the datagrams of all rooms.
//!
//! Bounds: [`ROOMS_MAX`] rooms with participants and [`LINKS_MAX`] links, and at most an eighth of the files of the process;
//! [`INPUTS_MAX`] requests and [`DATAGRAMS_MAX`] datagrams wait for a room.

mod limits;

mod pace;

mod sdp;

mod ways;

mod peer;

mod tracks;

mod second;

mod lines;

mod hearing;

mod told;

mod packets;

mod history;

mod outbox;

mod claims;

mod member;

mod room;

mod input;

mod routes;

mod task;

mod link;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use livekit_protocol as proto;
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Bytes;
use wasm_worker_core::observer::Events;

use crate::connections::sockets_max;
use crate::keys::Keys;
use input::Control;
pub(crate) use input::RoomInput;
use limits::DATAGRAM_BYTES_MAX;
use member::LinkId;
use room::Room;
pub use room::bare;
pub(crate) use room::{Entrant, MuteError, Refusal};
use routes::{RoomRoutes, Routes};
pub(crate) use task::Occupancy;
use task::{Shared, Shell, Task, Turn};

/// Most rooms that have, or had, participants.
pub(crate) const ROOMS_MAX: usize = 4_096;
/// Most links of all rooms.
const LINKS_MAX: usize = 8_192;
/// Most requests that wait for a room. A sender waits while the queue is full.
const INPUTS_MAX: usize = 64;
/// Most datagrams that wait for a room. Others are lost, as any datagram may be.
const DATAGRAMS_MAX: usize = 1_024;
/// Threads of the runtime of the rooms.
const THREADS: usize = 2;
/// Pause after an error of the socket.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Time for the last messages to participants when the dispatcher stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The host of the rooms.
pub(crate) struct RoomHost {
    runtime: RoomRuntime,
    shell: Arc<Shell>,
    routes: Arc<Routes>,
    /// The port of the datagrams.
    port: u16,
    /// A permit for each room.
    seats: Arc<Semaphore>,
    /// A permit for each link.
    links: Arc<Semaphore>,
    links_max: usize,
    /// The number of the last room.
    last_room: AtomicU64,
}

/// A room that is served, for the coordinator. Dropped, the room ends.
pub(crate) struct HostedRoom {
    inputs: mpsc::Sender<RoomInput>,
    control: watch::Sender<Control>,
    occupancy: Arc<Mutex<Occupancy>>,
}

/// A room that is served, for those who talk to it.
pub(crate) struct RoomHandle(mpsc::Sender<RoomInput>);

/// A participant whose request was accepted, and that has no link yet.
pub(crate) struct Entered {
    link: LinkId,
    frames: mpsc::Receiver<Bytes>,
    inputs: mpsc::Sender<RoomInput>,
}

/// The room ended in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoomOver;

impl RoomHost {
    /// Bind the socket for datagrams, and start the runtime.
    ///
    /// # Errors
    /// When the address cannot be bound, or the system refuses a thread.
    pub(crate) fn start(address: SocketAddr, keys: Arc<Keys>, events: Arc<Events>) -> io::Result<Self> {
        let socket = StdUdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("room-host").enable_all().build()?;
        let runtime = RoomRuntime { handle: runtime.handle().clone(), runtime: Some(runtime) };
        let socket = {
            let _context = runtime.handle.enter();
            UdpSocket::from_std(socket)?
        };
        let shell = Arc::new(Shell { socket, is_v6: address.is_ipv6(), keys, events });
        let routes = Arc::new(Routes::default());
        runtime.handle.spawn(receive(shell.clone(), routes.clone()));
        let links_max = (sockets_max(2 * LINKS_MAX) / 2).max(1);
        Ok(Self {
            runtime,
            shell,
            routes,
            port,
            seats: Arc::new(Semaphore::new(ROOMS_MAX)),
            links: Arc::new(Semaphore::new(links_max)),
            links_max,
            last_room: AtomicU64::new(0),
        })
    }

    /// Begin to serve a room. `None`: there are too many.
    pub(crate) fn open(&self, info: proto::Room) -> Option<HostedRoom> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        let number = self.last_room.fetch_add(1, Ordering::Relaxed) + 1;
        let (inputs, of_inputs) = mpsc::channel(INPUTS_MAX);
        let (datagrams, of_datagrams) = mpsc::channel(DATAGRAMS_MAX);
        let (control, of_control) = watch::channel(Control { info: info.clone(), close: None });
        let occupancy = Arc::new(Mutex::new(Occupancy::default()));
        let task = Task {
            room: Room::new(info, self.port, rand::random()),
            inputs: of_inputs,
            datagrams: of_datagrams,
            control: of_control,
            routes: RoomRoutes::new(self.routes.clone(), number, datagrams),
            shell: self.shell.clone(),
            shared: Shared(occupancy.clone()),
            links: HashMap::new(),
            last_link: 0,
            turn: Turn::default(),
            has_started: false,
        };
        self.runtime.handle.spawn(task.run(seat));
        Some(HostedRoom { inputs, control, occupancy })
    }

    /// Serve the link of a participant once its connection is a WebSocket.
    pub(crate) fn serve(&self, entered: Entered, upgrade: OnUpgrade, permit: OwnedSemaphorePermit) {
        let Entered { link, frames, inputs } = entered;
        self.runtime.handle.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => link::serve(upgraded, link, frames, inputs).await,
                Err(_) => drop(inputs.send(RoomInput::LinkLost { link }).await),
            }
            drop(permit);
        });
    }

    /// A permit for one more link; none where there are too many.
    pub(crate) fn link_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.links.clone().try_acquire_owned().ok()
    }

    /// Wait until all rooms have ended and their participants have the last message, or for [`STOP_WITHIN`].
    pub(crate) async fn closed(&self) {
        let count = |permits: usize| u32::try_from(permits).unwrap_or(u32::MAX);
        let closing = async {
            drop(self.seats.acquire_many(count(ROOMS_MAX)).await);
            drop(self.links.acquire_many(count(self.links_max)).await);
        };
        if timeout(STOP_WITHIN, closing).await.is_err() {
            tracing::debug!(target: "dispatcher", "some participants did not take their last message in time");
        }
    }
}

/// The runtime of the rooms. Dropped, it ends without a wait, because a task of another runtime drops it.
struct RoomRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Drop for RoomRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl HostedRoom {
    /// A handle for those who talk to the room.
    pub(crate) fn handle(&self) -> RoomHandle {
        RoomHandle(self.inputs.clone())
    }

    /// Whether this is the room with this id in the directory, and still served: another room may have its name by now, and a bug
    /// of the host may have ended it.
    pub(crate) fn is_open(&self, sid: &str) -> bool {
        self.control.borrow().info.sid == sid && !self.inputs.is_closed()
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        *self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Give the room its changed facts.
    pub(crate) fn set_info(&self, info: proto::Room) {
        self.control.send_modify(|control| control.info = info);
    }

    /// End the room, with this reason for its participants.
    pub(crate) fn close(self, reason: proto::DisconnectReason) {
        self.control.send_modify(|control| control.close = Some(reason));
    }
}

impl RoomHandle {
    /// Ask to enter the room.
    pub(crate) async fn enter(&self, entrant: Entrant) -> Result<Result<Entered, Refusal>, RoomOver> {
        let (frames, of_frames) = mpsc::channel(link::FRAMES_MAX);
        let entrant = Box::new(entrant);
        let entered = self.ask(|reply| RoomInput::Enter { entrant, frames, reply }).await?;
        Ok(entered.map(|link| Entered { link, frames: of_frames, inputs: self.0.clone() }))
    }

    /// Send a request to the room, and wait for its answer.
    pub(crate) async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> RoomInput) -> Result<T, RoomOver> {
        let (reply, answer) = oneshot::channel();
        self.0.send(input(reply)).await.map_err(|_| RoomOver)?;
        answer.await.map_err(|_| RoomOver)
    }
}

/// Give every datagram to its room.
async fn receive(shell: Arc<Shell>, routes: Arc<Routes>) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        match shell.socket.recv_from(&mut buffer).await {
            Ok((length, source)) => {
                let source = SocketAddr::new(source.ip().to_canonical(), source.port());
                if let Some(bytes) = buffer.get(..length) {
                    routes.deliver(source, bytes);
                }
            }
            Err(error) => {
                tracing::debug!(target: "dispatcher", %error, "cannot receive a datagram");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}
