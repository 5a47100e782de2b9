//! The loop of one room: inputs of its sockets and its handle go to the session, and the session's outputs to them.
//!
//! Bounds of one turn: [`COMMANDS_A_TURN`] and [`DATAGRAMS_A_TURN`], so that neither a flooded room nor a busy agent starves the
//! other sources. Events of the streams stay in the session while [`EVENTS_AHEAD_MAX`] or [`EVENT_BYTES_AHEAD_MAX`] wait to be taken.

mod size;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::Connect;
use super::link::{Link, LinkEvent};
use super::paths::{DATAGRAM_BYTES_MAX, PathEvent, Paths};
use super::queue::{Queue, Refused};
use crate::peer::Transport;
use crate::session::{Session, SessionOutput};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{CommandRefused, RoomNumbers, RoomStatistics};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::settings::RoomSettings;

const COMMANDS_A_TURN: usize = 64;
const DATAGRAMS_A_TURN: usize = 32;
const EVENTS_AHEAD_MAX: usize = 64;
const EVENT_BYTES_AHEAD_MAX: usize = 256 << 10;
/// How often a room whose events are not taken looks whether there is space again.
const SPACE_EVERY: Duration = Duration::from_millis(20);
/// Longest sleep. The clock of `str0m` has a distant time for "never".
const SLEEP_LONGEST: Duration = Duration::from_secs(3_600);

/// What the task of a room shares with its handle.
pub(super) struct Shared {
    pub(super) commands: Queue<Command>,
    pub(super) events: Queue<RoomEvent>,
    pub(super) state: Mutex<SharedState>,
}

/// What the task tells its handle.
#[derive(Debug, Default)]
pub(super) struct SharedState {
    statistics: RoomStatistics,
    /// Commands that were performed when everything that was sent had left the host.
    delivered: u64,
}

impl Shared {
    #[expect(clippy::result_large_err, reason = "the command goes back to its owner, and is not copied once more")]
    pub(super) fn try_perform(&self, command: Command) -> Result<(), CommandRefused> {
        let bytes = size::of_command(&command);
        self.commands.try_put(command, bytes).map_err(|refused| match refused {
            Refused::Full(command) => CommandRefused::Full(command),
            Refused::Closed(command) => CommandRefused::Over(command),
        })
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.lock().delivered == self.commands.put_count()
    }

    fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomNumbers for Shared {
    fn statistics(&self) -> RoomStatistics {
        self.lock().statistics
    }
}

/// One room.
pub(super) struct Task {
    session: Session,
    link: Link,
    paths: Paths,
    connector: Arc<dyn Connect>,
    shared: Arc<Shared>,
    /// Commands that were given to the session.
    performed: u64,
}

/// Closes the queues of a room, also where its task is dropped with the runtime.
struct Closes(Arc<Shared>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.commands.close();
        self.0.events.close();
    }
}

/// Why the loop ends.
enum Over {
    /// Nobody holds the room any more.
    Released,
    /// Nobody takes its events.
    Overrun,
}

impl Task {
    pub(super) fn new(settings: RoomSettings, connector: Arc<dyn Connect>, shared: Arc<Shared>) -> Self {
        let (seed, name): (u64, u64) = (rand::random(), rand::random());
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
        let session = Session::new(settings, format!("{name:016x}"), seed, Instant::now(), now_ms);
        Self { session, link: Link::default(), paths: Paths::default(), connector, shared, performed: 0 }
    }

    /// Run the room until nobody holds it, and free its seat.
    pub(super) async fn run(self, seat: OwnedSemaphorePermit) {
        let closes = Closes(self.shared.clone());
        if AssertUnwindSafe(self.turns()).catch_unwind().await.is_err() {
            let message = "a bug of the host ended the room".to_owned();
            closes.0.events.put_last(RoomEvent::Disconnected { reason: Reason::Fault, message });
        }
        drop((closes, seat));
    }

    async fn turns(mut self) {
        let over = loop {
            if let Err(over) = self.turn().await {
                break over;
            }
        };
        self.session.abandon(Instant::now());
        while let Some(output) = self.session.next_output(false) {
            match output {
                SessionOutput::Message(message) => self.link.send(message),
                SessionOutput::HangUp => self.link.hang_up(),
                SessionOutput::Transmit(datagram) => self.paths.send(&datagram),
                SessionOutput::Dial(_)
                | SessionOutput::Reach { .. }
                | SessionOutput::DropPaths
                | SessionOutput::Event(_) => {}
            }
        }
        if matches!(over, Over::Overrun) {
            let message = "the events of the room were not taken".to_owned();
            self.shared.events.put_last(RoomEvent::Disconnected { reason: Reason::Overrun, message });
        }
        self.link.closed().await;
    }

    /// Wait for one input, and carry out what follows. The arms have no order: each source has its share of the turns.
    async fn turn(&mut self) -> Result<(), Over> {
        // Whoever is told an event finds the numbers that go with it.
        self.publish();
        let has_space = self.carry_out()?;
        let now = Instant::now();
        let wake_at = self.session.wake_at().unwrap_or(now + SLEEP_LONGEST).min(now + SLEEP_LONGEST);
        let wake_at = if has_space { wake_at } else { wake_at.min(now + SPACE_EVERY) };
        tokio::select! {
            command = self.shared.commands.next() => {
                let Some(command) = command else { return Err(Over::Released) };
                self.perform(command);
            }
            () = sleep_until(wake_at) => self.session.advance(Instant::now()),
            happened = self.paths.ready() => match happened {
                PathEvent::Datagrams => self.receive(),
                PathEvent::Open(local) => self.session.take_local(Transport::Tcp, local, Instant::now()),
                PathEvent::Lost(remote) => self.session.lose_tcp(remote, Instant::now()),
            },
            event = self.link.next() => self.take_link(event),
        }
        Ok(())
    }

    fn perform(&mut self, first: Command) {
        let mut next = Some(first);
        for _ in 0..COMMANDS_A_TURN {
            let Some(command) = next else { return };
            self.performed += 1;
            self.session.perform(command, Instant::now());
            next = self.shared.commands.try_next();
        }
        if let Some(command) = next {
            self.performed += 1;
            self.session.perform(command, Instant::now());
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for _ in 0..DATAGRAMS_A_TURN {
            let Some(datagram) = self.paths.take(&mut buffer) else { return };
            self.session.receive(&datagram, Instant::now());
        }
    }

    fn take_link(&mut self, event: LinkEvent) {
        let now = Instant::now();
        match event {
            LinkEvent::Opened => self.session.link_opened(now),
            LinkEvent::Failed(error) => self.session.link_failed(error, now),
            LinkEvent::Message(message) => self.session.receive_message(&message, now),
            LinkEvent::Lost { why } => self.session.link_lost(&why, now),
        }
    }

    /// Carry out the outputs of the session. Whether there is space for more events of the streams.
    fn carry_out(&mut self) -> Result<bool, Over> {
        loop {
            let (events, bytes) = self.shared.events.waiting();
            let has_space = events < EVENTS_AHEAD_MAX && bytes < EVENT_BYTES_AHEAD_MAX;
            let Some(output) = self.session.next_output(has_space) else { return Ok(has_space) };
            match output {
                SessionOutput::Dial(request) => self.link.dial(request, self.connector.as_ref()),
                SessionOutput::Message(message) => self.link.send(message),
                SessionOutput::HangUp => self.link.hang_up(),
                SessionOutput::Transmit(datagram) => self.paths.send(&datagram),
                SessionOutput::Reach { transport, remote } => {
                    if let Some(local) = self.paths.reach(transport, remote) {
                        self.session.take_local(transport, local, Instant::now());
                    }
                }
                SessionOutput::DropPaths => self.paths.clear(),
                SessionOutput::Event(event) => {
                    if !tell(&self.shared, event) {
                        return Err(Over::Overrun);
                    }
                }
            }
        }
    }

    /// Tell the handle how the room is.
    fn publish(&self) {
        let facts = self.session.facts();
        let statistics = RoomStatistics {
            datagrams_received: self.paths.datagrams_received,
            datagrams_sent: self.paths.datagrams_sent,
            bytes_received: self.paths.bytes_received + self.link.bytes_received,
            bytes_sent: self.paths.bytes_sent + self.link.bytes_sent,
            packets_received: facts.packets_received,
            packets_sent: facts.packets_sent,
            packets_ignored: facts.packets_ignored,
            packets_dropped: facts.packets_dropped,
            joined_in: facts.signal.joined_in,
            resumes: facts.signal.resumes,
            rejoins: facts.signal.rejoins,
            failed_attempts: facts.signal.failed_attempts,
            bytes_waiting: facts.bytes_waiting,
        };
        let mut state = self.shared.lock();
        state.statistics = statistics;
        if self.session.is_delivered() {
            state.delivered = self.performed;
        }
    }
}

/// Whether there was space, or nobody is there to be told.
fn tell(shared: &Shared, event: RoomEvent) -> bool {
    let bytes = size::of_event(&event);
    !matches!(shared.events.try_put(event, bytes), Err(Refused::Full(_)))
}
