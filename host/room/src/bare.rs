//! The state machines of a room without sockets, fed with bytes. The fuzz targets drive them; the program does not.
//!
//! Each has a clock of its own, which stands still but for `pass`.

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use tokio::time::Instant;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;

use crate::audio::codec::opus;
use crate::peer::{Datagram, Peer, PeerOutput, Transport};
use crate::session::{Session, SessionOutput};
use crate::signal::LinkError;
use crate::streams::Streams;
use crate::wire::{Channel, Description};

pub mod sound;

/// The present of a clock that begins with this, in milliseconds since 1970.
const NOW_MS: u64 = 1_800_000_000_000;
/// Most calls of `advance` at one moment.
const WAKES_MAX: usize = 1_000;

/// The clock of a state machine.
struct Clock {
    now: Instant,
    /// Calls of `advance` at this moment.
    wakes: usize,
}

impl Clock {
    fn new() -> Self {
        Self { now: Instant::now(), wakes: 0 }
    }

    /// Go to the time that is due, or to the end where that comes before it. Whether something is due.
    ///
    /// # Panics
    /// When something is due at one moment for ever.
    fn goes_to(&mut self, due: Option<Instant>, end: Instant) -> bool {
        let due = due.filter(|due| *due <= end);
        let next = due.unwrap_or(end).max(self.now);
        self.wakes = if next > self.now || due.is_none() { 0 } else { self.wakes + 1 };
        assert!(self.wakes < WAKES_MAX, "something wants to be woken for ever");
        self.now = next;
        due.is_some()
    }
}

/// What a room wanted of its sockets, and what it told.
#[derive(Debug, Default)]
pub struct BareOutputs {
    /// The number of links that it dialled.
    pub dialled: usize,
    /// The number of messages that it sent on the link.
    pub messages: usize,
    /// The number of addresses that it asked the way to.
    pub reached: usize,
    /// What it told.
    pub events: Vec<RoomEvent>,
}

/// A whole room, of which the link brings what a test says, and no path leads to a server.
pub struct BareRoom {
    session: Session,
    clock: Clock,
    /// Commands that wait until the room is left.
    commands: VecDeque<Command>,
    outputs: BareOutputs,
}

impl BareRoom {
    /// A room that is not joined, with this token.
    pub fn new(token: &str) -> Self {
        let settings = RoomSettings {
            url: "ws://192.0.2.9:7880".into(),
            token: Secret(token.into()),
            name: "bot".into(),
            metadata: String::new(),
            attributes: Vec::new(),
            limits: RoomLimits { participants_max: 100, ..RoomLimits::default() },
        };
        let clock = Clock::new();
        let session = Session::new(settings, "bare".into(), 1, (clock.now, NOW_MS), opus, Instant::now);
        Self { session, clock, commands: VecDeque::new(), outputs: BareOutputs::default() }
    }

    /// Do what the agent asks for, once the room is left where it is being left.
    pub fn perform(&mut self, command: Command) {
        self.commands.push_back(command);
        self.collect();
    }

    /// The link opens.
    pub fn link_opens(&mut self) {
        self.session.link_opened(self.clock.now);
        self.collect();
    }

    /// The link does not open: the server answers by HTTP, or with the status 0 not at all.
    pub fn link_fails(&mut self, status: u16) {
        let error = match status {
            0 => LinkError::Unreachable { why: "nothing listens".into() },
            status => LinkError::Status { status, body: "no".into() },
        };
        self.session.link_failed(error, self.clock.now);
        self.collect();
    }

    /// The link is lost.
    pub fn link_is_lost(&mut self) {
        self.session.link_lost("it is lost", self.clock.now);
        self.collect();
    }

    /// The link brings a message.
    pub fn receive(&mut self, message: &[u8]) {
        self.session.receive_message(message, self.clock.now);
        self.collect();
    }

    /// Time passes, and everything happens that is due.
    ///
    /// # Panics
    /// When the room wants to be woken at one moment for ever.
    pub fn pass(&mut self, time: Duration) {
        let end = self.clock.now + time;
        while self.clock.goes_to(self.session.wake_at(), end) {
            self.session.advance(self.clock.now);
            self.collect();
        }
    }

    /// What the room wanted and told since the last call.
    pub fn take_outputs(&mut self) -> BareOutputs {
        std::mem::take(&mut self.outputs)
    }

    fn collect(&mut self) {
        while !self.session.is_leaving()
            && let Some(command) = self.commands.pop_front()
        {
            self.session.perform(command, self.clock.now);
        }
        while let Some(output) = self.session.next_output() {
            match output {
                SessionOutput::Dial(_) => self.outputs.dialled += 1,
                SessionOutput::Message(_) => self.outputs.messages += 1,
                SessionOutput::Reach { .. } => self.outputs.reached += 1,
                SessionOutput::HangUp
                | SessionOutput::Transmit(_)
                | SessionOutput::DropTcp
                | SessionOutput::DropPaths => {}
            }
        }
        self.outputs.events.extend(std::iter::from_fn(|| self.session.next_event()));
    }
}

/// The data channels of a room that is joined.
pub struct BareStreams {
    streams: Streams,
    clock: Clock,
}

impl Default for BareStreams {
    fn default() -> Self {
        let clock = Clock::new();
        let mut streams = Streams::new("bare".into(), clock.now, NOW_MS);
        streams.joined("me");
        Self { streams, clock }
    }
}

impl BareStreams {
    /// Do what the agent asks for.
    pub fn perform(&mut self, command: Command) {
        self.streams.perform(command, self.clock.now);
    }

    /// A channel brings a message. Whether it is a packet.
    pub fn receive(&mut self, message: &[u8], is_reliable: bool) -> bool {
        let packet = proto::DataPacket::decode(message);
        packet.map(|packet| self.streams.received(packet, is_reliable, self.clock.now)).is_ok()
    }

    /// The server has acknowledged all but so many bytes.
    pub fn drain(&mut self, unacknowledged: usize) {
        self.streams.drained(unacknowledged, self.clock.now);
    }

    /// The link is resumed by a server that has read the packets up to this sequence.
    pub fn resume(&mut self, last_sequence: u32) {
        self.streams.resumed(last_sequence, self.clock.now);
    }

    /// The room is joined anew.
    pub fn rejoin(&mut self) {
        self.streams.rejoined(self.clock.now);
        self.streams.joined("me");
    }

    /// The room is left.
    pub fn leave(&mut self) {
        self.streams.left(self.clock.now);
    }

    /// A participant leaves.
    pub fn participant_leaves(&mut self, sid: &str, identity: &str) {
        self.streams.participant_left(sid, identity, self.clock.now);
    }

    /// Time passes, and everything happens that is due.
    ///
    /// # Panics
    /// When the channels want to be woken at one moment for ever.
    pub fn pass(&mut self, time: Duration) {
        let end = self.clock.now + time;
        while self.clock.goes_to(self.streams.wake_at(), end) {
            self.streams.advance(self.clock.now);
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<RoomEvent> {
        self.streams.next_event()
    }

    /// The next packet, and whether it is for the reliable channel.
    pub fn next_packet(&mut self) -> Option<(bool, Vec<u8>)> {
        let (channel, packet) = self.streams.next_packet()?;
        Some((channel == Channel::Reliable, packet.encode_to_vec()))
    }

    /// Bytes that wait, in both directions.
    pub fn bytes(&self) -> usize {
        self.streams.bytes()
    }
}

/// A peer connection that has made its offer.
pub struct BarePeer {
    peer: Peer,
    clock: Clock,
    /// The number of addresses that it asked the way to.
    reached: usize,
}

impl Default for BarePeer {
    fn default() -> Self {
        let clock = Clock::new();
        Self { peer: Peer::new(clock.now), clock, reached: 0 }
    }
}

impl BarePeer {
    /// The number and the text of the offer.
    pub fn offer(&self) -> (u32, &str) {
        (self.peer.offer().id, &self.peer.offer().sdp)
    }

    /// The server answers, and sends these tracks on these sections.
    ///
    /// # Errors
    /// The reason why the answer is not taken.
    pub fn answer(&mut self, id: u32, sdp: &str, tracks: &[(&str, &str)]) -> Result<(), String> {
        let tracks = tracks.iter().map(|(mid, sid)| ((*mid).to_owned(), (*sid).to_owned())).collect();
        let answer = Description { id, sdp: sdp.into() };
        let taken = self.peer.take_answer(answer, &tracks, self.clock.now).map_err(|error| error.to_string());
        self.collect();
        taken
    }

    /// The server tells an address.
    pub fn candidate(&mut self, json: &str) {
        self.peer.take_candidate(json, self.clock.now);
        self.collect();
    }

    /// An own address is found.
    pub fn local(&mut self, port: u16) {
        self.peer.take_local(Transport::Udp, ([192, 0, 2, 1], port).into(), self.clock.now);
        self.collect();
    }

    /// A datagram comes.
    pub fn datagram(&mut self, bytes: &[u8]) {
        let (source, destination) = (([192, 0, 2, 9], 7_882).into(), ([192, 0, 2, 1], 5_000).into());
        self.peer.receive(&Datagram { transport: Transport::Udp, source, destination, bytes }, self.clock.now);
        self.collect();
    }

    /// The server wants so many lines more for sound.
    pub fn want_lines(&mut self, count: u32) {
        self.peer.want_lines(count);
        self.peer.next_offer(self.clock.now);
        self.collect();
    }

    /// Look for paths from the beginning.
    pub fn restart(&mut self) {
        self.peer.restart();
        self.peer.next_offer(self.clock.now);
        self.collect();
    }

    /// Time passes, and everything happens that is due.
    ///
    /// # Panics
    /// When the peer wants to be woken at one moment for ever.
    pub fn pass(&mut self, time: Duration) {
        let end = self.clock.now + time;
        while self.clock.goes_to(self.peer.wake_at(), end) {
            self.peer.advance(self.clock.now);
            self.collect();
        }
    }

    /// The addresses that the peer asked the way to since the last call.
    pub fn take_reached(&mut self) -> usize {
        std::mem::take(&mut self.reached)
    }

    fn collect(&mut self) {
        while let Some(output) = self.peer.next_output() {
            self.reached += usize::from(matches!(output, PeerOutput::Reach { .. }));
        }
    }
}
