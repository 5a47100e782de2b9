//! One room, whole but for its sockets: the signalling, the peer and the streams, connected. Pure; `now` is an argument.
//!
//! After each input the outputs are taken by [`Session::next_output`] until there is none. [`Session::wake_at`] says when
//! [`Session::advance`] is due.
//!
//! Bounds: [`COMMANDS_MAX`] commands that wait until the room is left; `leave_within` for what was sent to be delivered before;
//! `send_bytes_per_second` over the data channels.

mod pace;

mod carry;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;

use livekit_protocol as proto;
use prost::Message as _;
use tokio::time::Instant;

use crate::peer::{Datagram, Peer, Transport};
use crate::signal::{LinkError, LinkRequest, Signal, SignalFacts, Wish};
use crate::streams::Streams;
use pace::Pace;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::{Failure, RoomEvent};
use wasm_worker_core::room::settings::RoomSettings;

/// Most commands that wait until the room is left.
const COMMANDS_MAX: usize = 1_024;

/// What a session asks its sockets for, or tells.
#[derive(Debug)]
pub(crate) enum SessionOutput {
    /// Open a link, in the place of any other.
    Dial(LinkRequest),
    /// Send this message on the link.
    Message(Vec<u8>),
    /// Close the link, after what was sent.
    HangUp,
    /// Send this.
    Transmit(Datagram<Box<[u8]>>),
    /// Find the own address that leads to this one, connect to it where it is TCP, and tell the own address.
    Reach { transport: Transport, remote: SocketAddr },
    /// The paths of the peer are not needed any more.
    DropPaths,
    /// Tell this.
    Event(RoomEvent),
}

/// Numbers of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionFacts {
    pub(crate) signal: SignalFacts,
    /// Packets of the data channels.
    pub(crate) packets_received: u64,
    pub(crate) packets_sent: u64,
    /// Packets that nobody was told of, because they have no meaning or came again.
    pub(crate) packets_ignored: u64,
    /// Packets that were to be sent and were not.
    pub(crate) packets_dropped: u64,
    /// Bytes that wait, in both directions.
    pub(crate) bytes_waiting: usize,
}

/// One room.
pub(crate) struct Session {
    signal: Signal,
    peer: Option<Peer>,
    streams: Streams,
    /// The rate of what the streams send.
    pace: Pace,
    /// The room is being left: what was sent has until then.
    leave_by: Option<Instant>,
    /// Commands that came after the wish to leave.
    waiting: VecDeque<Command>,
    leave_within: std::time::Duration,
    /// What the peer last told of bytes without acknowledgement.
    unacknowledged: usize,
    facts: SessionFacts,
    outputs: VecDeque<SessionOutput>,
    /// Whether there was space for events of the streams when outputs were last taken.
    takes_streams: bool,
}

impl Session {
    /// A room that is not joined. `name` differs from that of every other session; `seed` spreads their attempts; `now_ms` is `now` in
    /// milliseconds since 1970.
    pub(crate) fn new(settings: RoomSettings, name: String, seed: u64, now: Instant, now_ms: u64) -> Self {
        Self {
            leave_within: settings.limits.leave_within,
            pace: Pace::new(settings.limits.send_bytes_per_second, now),
            signal: Signal::new(settings, seed, now),
            peer: None,
            streams: Streams::new(name, now, now_ms),
            leave_by: None,
            waiting: VecDeque::new(),
            unacknowledged: 0,
            facts: SessionFacts::default(),
            outputs: VecDeque::new(),
            takes_streams: false,
        }
    }

    /// Do what the agent asks for.
    pub(crate) fn perform(&mut self, command: Command, now: Instant) {
        self.take_command(command, now);
        self.run(now);
    }

    /// The link that was dialled is open.
    pub(crate) fn link_opened(&mut self, now: Instant) {
        self.signal.link_opened(now);
        self.run(now);
    }

    /// The link that was dialled does not open.
    pub(crate) fn link_failed(&mut self, error: LinkError, now: Instant) {
        self.signal.link_failed(error, now);
        self.run(now);
    }

    /// The link is lost.
    pub(crate) fn link_lost(&mut self, why: &str, now: Instant) {
        self.signal.link_lost(why, now);
        self.run(now);
    }

    /// A message came on the link.
    pub(crate) fn receive_message(&mut self, message: &[u8], now: Instant) {
        match proto::SignalResponse::decode(message) {
            Ok(message) => self.signal.receive(message, now),
            Err(error) => self.signal.link_lost(&format!("the server sent what is no message: {error}"), now),
        }
        self.run(now);
    }

    /// A datagram came.
    pub(crate) fn receive(&mut self, datagram: &Datagram<&[u8]>, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.receive(datagram, now);
        }
        self.run(now);
    }

    /// An own address that leads to an address of [`SessionOutput::Reach`].
    pub(crate) fn take_local(&mut self, transport: Transport, local: SocketAddr, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.take_local(transport, local, now);
        }
        self.run(now);
    }

    /// The connection of TCP to an address of [`SessionOutput::Reach`] is over.
    pub(crate) fn lose_tcp(&mut self, remote: SocketAddr, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.lose_tcp(remote);
        }
        self.run(now);
    }

    /// Leave the room at once, as far as it is joined.
    pub(crate) fn abandon(&mut self, now: Instant) {
        self.leave_by = None;
        self.signal.leave();
        self.run(now);
    }

    /// When `advance` is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.wake_times().into_iter().flatten().min()
    }

    /// When something happens by itself: in the peer, the signalling and the streams, when more may be sent, and when the
    /// room is left at the latest.
    fn wake_times(&self) -> [Option<Instant>; 5] {
        let peer = self.peer.as_ref().and_then(Peer::wake_at);
        [peer, self.signal.wake_at(), self.streams.wake_at(), self.pace.wake_at(), self.leave_by]
    }

    /// Have everything happen that is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.advance(now);
        }
        self.signal.advance(now);
        self.streams.advance(now);
        self.run(now);
    }

    /// The next output. What the streams tell stays there, within their bounds, unless `takes_streams`.
    pub(crate) fn next_output(&mut self, takes_streams: bool) -> Option<SessionOutput> {
        self.takes_streams = takes_streams;
        if self.outputs.is_empty() && takes_streams && !self.signal.is_entering() {
            return self.streams.next_event().map(SessionOutput::Event);
        }
        self.outputs.pop_front()
    }

    /// Whether everything that was sent has left the host.
    pub(crate) fn is_delivered(&self) -> bool {
        self.streams.is_delivered()
    }

    /// The numbers so far.
    pub(crate) fn facts(&self) -> SessionFacts {
        let counts = self.streams.counts();
        SessionFacts {
            signal: self.signal.facts(),
            packets_ignored: self.facts.packets_ignored + counts.repeats + counts.ignored,
            packets_dropped: self.facts.packets_dropped + counts.lossy_dropped + counts.replies_dropped,
            bytes_waiting: self.streams.bytes(),
            ..self.facts
        }
    }

    fn take_command(&mut self, command: Command, now: Instant) {
        if self.leave_by.is_some() {
            if self.waiting.len() < COMMANDS_MAX {
                self.waiting.push_back(command);
            } else if let Some(id) = command.new_id() {
                let message = "too many calls wait until the room is left".to_owned();
                self.tell(RoomEvent::Failed(Failure { id, code: "limit", message }));
            }
            return;
        }
        match command {
            Command::Connect { id } => self.signal.connect(id, now),
            Command::Disconnect if self.signal.is_in() => self.leave_by = Some(now + self.leave_within),
            Command::Disconnect => self.signal.leave(),
            Command::SetAttributes { id, attributes } => {
                self.signal.wish(id, Wish { attributes, ..Wish::default() }, now);
            }
            Command::SetMetadata { id, metadata } => {
                self.signal.wish(id, Wish { metadata: Some(metadata), ..Wish::default() }, now);
            }
            Command::SetName { id, name } => self.signal.wish(id, Wish { name: Some(name), ..Wish::default() }, now),
            Command::SetAgentState { state } => self.signal.set_state(state, now),
            Command::Cancel { id } => {
                self.signal.cancel(id);
                self.streams.perform(Command::Cancel { id }, now);
            }
            command => {
                // The join that was asked for in the same step is already under way.
                self.take_signal_outputs(now);
                self.streams.perform(command, now);
            }
        }
    }

    fn tell_streams(&mut self) {
        while let Some(event) = self.streams.next_event() {
            self.tell(event);
        }
    }

    fn tell(&mut self, event: RoomEvent) {
        self.outputs.push_back(SessionOutput::Event(event));
    }
}
