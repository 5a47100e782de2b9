//! The loop of one room: inputs of its sockets and its handle go to the session, and the session's outputs to them.
//!
//! Bounds of one turn: [`COMMANDS_A_TURN`] and [`DATAGRAMS_A_TURN`], so that neither a flooded room nor a busy agent starves the
//! other sources. Events stay in the session while the queue of the handle is full: those of the streams within their bounds, and those
//! of the room within the ones of [`is_overrun`].

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
use crate::audio::codec::NewEncoder;
use crate::peer::Transport;
use crate::session::{Session, SessionOutput};
use crate::size;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{CommandRefused, RoomNumbers, RoomStatistics};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::settings::RoomSettings;

const COMMANDS_A_TURN: usize = 64;
const DATAGRAMS_A_TURN: usize = 32;
/// Most bytes of events of the room that stay in the session: those of a join that introduces 2,000 people with 50 tracks each, at 600
/// bytes for an event.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Most of them while nothing was taken for [`UNTAKEN_WITHIN`].
const HELD_BYTES_UNTAKEN_MAX: usize = 16 << 20;
/// Longest time for which an agent that takes nothing is taken for a busy one.
const UNTAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Longest sleep. The clock of `str0m` has a distant time for "never".
const SLEEP_LONGEST: Duration = Duration::from_secs(3_600);

/// What the task of a room shares with its handle.
pub(super) struct Shared {
    pub(super) commands: Queue<Command>,
    pub(super) events: Queue<RoomEvent>,
    /// The numbers, as the task last told them.
    pub(super) statistics: Mutex<RoomStatistics>,
}

impl Shared {
    #[expect(clippy::result_large_err, reason = "the command goes back to its owner, and is not copied once more")]
    pub(super) fn try_perform(&self, command: Command) -> Result<(), CommandRefused> {
        let bytes = command.bytes();
        self.commands.try_put(command, bytes).map_err(|refused| match refused {
            Refused::Full(command) => CommandRefused::Full(command),
            Refused::Closed(command) => CommandRefused::Over(command),
        })
    }

    fn lock(&self) -> MutexGuard<'_, RoomStatistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomNumbers for Shared {
    fn statistics(&self) -> RoomStatistics {
        *self.lock()
    }
}

/// One room.
pub(super) struct Task {
    session: Session,
    link: Link,
    paths: Paths,
    connector: Arc<dyn Connect>,
    shared: Arc<Shared>,
    /// The events that were taken when they were last counted, and the last time at which their number had changed or nothing waited.
    taken: u64,
    taken_at: Instant,
}

/// Closes the queues of a room, also where its task is dropped with the runtime, be it before its first turn.
pub(super) struct Closes(pub(super) Arc<Shared>);

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
    pub(super) fn new(
        settings: RoomSettings,
        connector: Arc<dyn Connect>,
        encoder: NewEncoder,
        shared: Arc<Shared>,
    ) -> Self {
        let (seed, name): (u64, u64) = (rand::random(), rand::random());
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
        let now = Instant::now();
        let session = Session::new(settings, format!("{name:016x}"), seed, (now, now_ms), encoder, Instant::now);
        let (link, paths) = (Link::default(), Paths::default());
        Self { session, link, paths, connector, shared, taken: 0, taken_at: now }
    }

    /// Run the room until nobody holds it, and free its seat.
    pub(super) async fn run(self, closes: Closes, seat: OwnedSemaphorePermit) {
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
        while let Some(output) = self.session.next_output() {
            match output {
                SessionOutput::Message(message) => self.link.send(message),
                SessionOutput::HangUp => self.link.hang_up(),
                SessionOutput::Transmit(datagram) => self.paths.send(&datagram),
                SessionOutput::Dial(_)
                | SessionOutput::Reach { .. }
                | SessionOutput::DropTcp
                | SessionOutput::DropPaths => {}
            }
        }
        if matches!(over, Over::Overrun) {
            let message = "the events of the room were not taken".to_owned();
            self.shared.events.put_last(RoomEvent::Disconnected { reason: Reason::Overrun, message });
        }
        self.link.closed().await;
    }

    /// Wait for one input, and carry out what follows. The arms have no order: each source has its share of the turns. The session sends
    /// sound that is due with every input, so that none of them delays it beyond its own work.
    async fn turn(&mut self) -> Result<(), Over> {
        // Whoever is told an event finds the numbers that go with it.
        self.publish();
        self.carry_out();
        let now = Instant::now();
        let has_space = self.tell(now)?;
        let wake_at = self.session.wake_at().unwrap_or(now + SLEEP_LONGEST).min(now + SLEEP_LONGEST);
        tokio::select! {
            command = next_command(&self.shared.commands, self.session.is_leaving()) => {
                let Some(command) = command else { return Err(Over::Released) };
                self.perform(command);
            }
            () = self.shared.events.space(), if !has_space => {}
            () = sleep_until(wake_at) => self.session.advance(Instant::now()),
            happened = self.paths.ready() => match happened {
                PathEvent::Datagrams => self.receive(),
                PathEvent::Open(local) => self.session.take_local(Transport::Tcp, local, Instant::now()),
                PathEvent::Lost { remote, local } => self.session.lose_tcp(remote, local, Instant::now()),
            },
            event = self.link.next() => self.take_link(event),
        }
        Ok(())
    }

    fn perform(&mut self, first: Command) {
        let mut next = Some(first);
        let mut performed = 0;
        while let Some(command) = next {
            self.session.perform(command, Instant::now());
            performed += 1;
            // Until the room is left, further commands wait where they are.
            let goes_on = performed < COMMANDS_A_TURN && !self.session.is_leaving();
            next = if goes_on { self.shared.commands.try_next() } else { None };
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

    /// Carry out the outputs of the session.
    fn carry_out(&mut self) {
        while let Some(output) = self.session.next_output() {
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
                SessionOutput::DropTcp => self.paths.drop_tcp(),
                SessionOutput::DropPaths => self.paths.clear(),
            }
        }
    }

    /// Tell the handle what there is space for. Whether nothing is left to be told.
    fn tell(&mut self, now: Instant) -> Result<bool, Over> {
        let events = &self.shared.events;
        let is_all = loop {
            if !events.has_space() {
                break false;
            }
            let Some(event) = self.session.next_event() else { break true };
            let bytes = size::of_event(&event);
            // There is space, or nobody is there to be told.
            drop(events.try_put(event, bytes));
        };
        let taken = events.taken();
        if is_all || taken != self.taken {
            (self.taken, self.taken_at) = (taken, now);
        }
        if is_overrun(self.session.held_bytes(), now.saturating_duration_since(self.taken_at)) {
            return Err(Over::Overrun);
        }
        Ok(is_all)
    }

    /// Tell the handle how the room is.
    fn publish(&self) {
        let statistics = RoomStatistics {
            datagrams_received: self.paths.datagrams_received,
            datagrams_sent: self.paths.datagrams_sent,
            bytes_received: self.paths.bytes_received + self.link.bytes_received,
            bytes_sent: self.paths.bytes_sent + self.link.bytes_sent,
            ..self.session.statistics()
        };
        *self.shared.lock() = statistics;
    }
}

/// The next command; none where nobody holds the room any more. While the room is being left, commands wait where they are.
async fn next_command(commands: &Queue<Command>, is_leaving: bool) -> Option<Command> {
    if is_leaving {
        commands.closed().await;
        return None;
    }
    commands.next().await
}

/// Whether the room is given up, because so many bytes of its events are held and none was taken for so long.
fn is_overrun(held_bytes: usize, untaken_for: Duration) -> bool {
    let bytes_max = if untaken_for < UNTAKEN_WITHIN { HELD_BYTES_MAX } else { HELD_BYTES_UNTAKEN_MAX };
    held_bytes > bytes_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_agent_has_time_and_one_that_takes_nothing_has_none_left() {
        let (soon, late) = (UNTAKEN_WITHIN / 2, UNTAKEN_WITHIN);
        assert!(!is_overrun(HELD_BYTES_MAX, soon) && is_overrun(HELD_BYTES_MAX + 1, Duration::ZERO));
        assert!(!is_overrun(HELD_BYTES_UNTAKEN_MAX, late) && is_overrun(HELD_BYTES_UNTAKEN_MAX + 1, late));
    }

    #[tokio::test]
    async fn commands_wait_while_the_room_is_being_left() {
        let commands = Queue::new(9, 1_000_000);
        commands.try_put(Command::Disconnect, 1).unwrap();
        assert_eq!(next_command(&commands, true).now_or_never(), None);
        assert_eq!(next_command(&commands, false).await, Some(Command::Disconnect));
        commands.try_put(Command::Disconnect, 1).unwrap();
        commands.close();
        assert_eq!(next_command(&commands, true).await, None, "nobody holds the room any more");
    }
}
