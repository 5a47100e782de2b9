//! One room, whole but for its sockets: the signalling, the peer, the streams and the sound, connected. Pure; `now` is an argument.
//!
//! After each input the outputs are taken by [`Session::next_output`] until there is none. [`Session::wake_at`] says when
//! [`Session::advance`] is due. Events wait for [`Session::next_event`]: those of the streams and the heard tracks within their bounds, and
//! those of the room as long as the shell goes on ([`Session::held_bytes`]). Sound that is due goes out with each input, also while texts are
//! sent.
//!
//! Bounds: `leave_within` for what was sent to be delivered before the room is left; `send_bytes_per_second` over the data channels.

mod pace;

pub(crate) mod sound;

mod carry;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;

use livekit_protocol as proto;
use prost::Message as _;
use tokio::time::Instant;

use crate::audio::codec::NewEncoder;
use crate::peer::{Datagram, Peer, Transport};
use crate::signal::{LinkError, LinkRequest, Signal, Wish};
use crate::size;
use crate::streams::Streams;
use pace::Pace;
use sound::Sound;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::RoomStatistics;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::settings::RoomSettings;

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
    /// Close the connections of TCP: no path goes over them any more, and the peer looks for another one.
    DropTcp,
    /// The paths of the peer are not needed any more.
    DropPaths,
}

/// Packets of the data channels.
#[derive(Clone, Copy, Debug, Default)]
struct Packets {
    received: u64,
    sent: u64,
    /// Those that were none.
    ignored: u64,
    /// Those that the peer had no space for.
    dropped: u64,
}

/// An event of the room that was not taken.
#[derive(Debug)]
struct Held {
    event: RoomEvent,
    bytes: usize,
    /// The newest event of the streams that comes before it, by its number.
    after: Option<u64>,
}

/// One room.
pub(crate) struct Session {
    signal: Signal,
    peer: Option<Peer>,
    streams: Streams,
    sound: Sound,
    /// The rate of what the streams send.
    pace: Pace,
    /// The room is being left: what was sent has until then.
    leave_by: Option<Instant>,
    leave_within: std::time::Duration,
    /// What the peer last told of bytes without acknowledgement.
    unacknowledged: usize,
    packets: Packets,
    outputs: VecDeque<SessionOutput>,
    /// Events of the room that were not taken, and their bytes.
    events: VecDeque<Held>,
    held_bytes: usize,
    /// The newest event of the streams that comes before all that is told from now on: what somebody sent comes before the news that
    /// it left, and what was before a join or an end before it.
    after: Option<u64>,
    /// The source that is asked for an event first, where no event of the room waits.
    turn: Turn,
}

/// The sources of events that wait within bounds of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Streams,
    Sound,
}

impl Session {
    /// A room that is not joined. `name` differs from that of every other session; `seed` spreads their attempts; `now_ms` is `now` in
    /// milliseconds since 1970; `encoder` makes the packets of what the agent says; `clock` only measures how busy the codec is.
    pub(crate) fn new(
        settings: RoomSettings,
        name: String,
        seed: u64,
        (now, now_ms): (Instant, u64),
        encoder: NewEncoder,
        clock: fn() -> Instant,
    ) -> Self {
        Self {
            leave_within: settings.limits.leave_within,
            pace: Pace::new(settings.limits.send_bytes_per_second, now),
            signal: Signal::new(settings, seed, now),
            peer: None,
            sound: Sound::new(format!("sound-{name}"), encoder, clock),
            streams: Streams::new(name, now, now_ms),
            leave_by: None,
            unacknowledged: 0,
            packets: Packets::default(),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            held_bytes: 0,
            after: None,
            turn: Turn::Streams,
        }
    }

    /// Whether the room is left as soon as what was sent is delivered. Until then no command is performed.
    pub(crate) const fn is_leaving(&self) -> bool {
        self.leave_by.is_some()
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

    /// The connection of TCP to an address of [`SessionOutput::Reach`] is over. `local`: its own address, where it was open.
    pub(crate) fn lose_tcp(&mut self, remote: SocketAddr, local: Option<SocketAddr>, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.lose_tcp(remote, local);
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

    /// When something happens by itself: in the peer, the signalling, the streams and the sound, when more may be sent, and when
    /// the room is left at the latest.
    fn wake_times(&self) -> [Option<Instant>; 6] {
        let peer = self.peer.as_ref().and_then(Peer::wake_at);
        let sound = self.sound.wake_at(self.peer.as_ref(), self.signal.is_served());
        [peer, self.signal.wake_at(), self.streams.wake_at(), sound, self.pace.wake_at(), self.leave_by]
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

    /// The next output.
    pub(crate) fn next_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    /// The next event.
    pub(crate) fn next_event(&mut self) -> Option<RoomEvent> {
        let after = self.events.front().map_or(self.after, |held| held.after);
        // What comes during the first join waits for its end.
        let is_streams_turn = self.events.is_empty() && !self.signal.is_entering();
        if after.is_some_and(|number| self.streams.has_event_until(number)) {
            return self.streams.next_event();
        }
        if is_streams_turn {
            return self.next_of_streams_and_sound();
        }
        let Held { event, bytes, .. } = self.events.pop_front()?;
        self.held_bytes -= bytes;
        if self.events.is_empty() {
            // A burst does not keep its memory.
            self.events.shrink_to_fit();
        }
        Some(event)
    }

    /// One after the other, so that neither much text nor much sound delays the other.
    fn next_of_streams_and_sound(&mut self) -> Option<RoomEvent> {
        let (streams, sound) = (&mut self.streams, &mut self.sound);
        match self.turn {
            Turn::Streams => {
                self.turn = Turn::Sound;
                streams.next_event().or_else(|| sound.next_heard())
            }
            Turn::Sound => {
                self.turn = Turn::Streams;
                sound.next_heard().or_else(|| streams.next_event())
            }
        }
    }

    /// Bytes of the events of the room that were not taken. Those of the streams and of heard tracks have bounds
    /// of their own.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The numbers so far, without those of the sockets.
    pub(crate) fn statistics(&self) -> RoomStatistics {
        let (counts, signal) = (self.streams.counts(), self.signal.facts());
        RoomStatistics {
            packets_received: self.packets.received,
            packets_sent: self.packets.sent,
            packets_ignored: self.packets.ignored + counts.repeats + counts.ignored,
            packets_dropped: self.packets.dropped + counts.lossy_dropped + counts.replies_dropped + counts.missing,
            joined_in: signal.joined_in,
            resumes: signal.resumes,
            rejoins: signal.rejoins,
            failed_attempts: signal.failed_attempts,
            bytes_waiting: self.streams.bytes(),
            audio: self.sound.statistics(),
            ..RoomStatistics::default()
        }
    }

    fn take_command(&mut self, command: Command, now: Instant) {
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
                self.sound.cancel(id);
                self.streams.perform(Command::Cancel { id }, now);
            }
            Command::Audio(command) => {
                // The join that was asked for in the same step is already under way.
                self.take_signal_outputs(now);
                let Self { sound, signal, streams, .. } = self;
                sound.perform(command, signal, &mut || streams.new_incoming(), now);
                // Another subscription may hear the same track already.
                self.take_lines(now);
            }
            command => {
                // The join that was asked for in the same step is already under way.
                self.take_signal_outputs(now);
                self.streams.perform(command, now);
            }
        }
    }

    fn tell(&mut self, event: RoomEvent) {
        let bytes = size::of_event(&event);
        self.held_bytes += bytes;
        self.events.push_back(Held { event, bytes, after: self.after });
    }
}
