//! The peer connection of a room: ICE, DTLS, two data channels and lines for sound, without sockets.
//!
//! Rules of `str0m`: after each change the outputs are drained before the next one; a time-out in the past is handled at once; one
//! offer is open at a time, also where a link is lost before its answer comes. `str0m` panics on its own bugs: the task of the room contains it.
//!
//! Bounds: [`CANDIDATES_MAX`] addresses of the server, [`BUFFERED_BYTES_MAX`] that were written and are not acknowledged,
//! [`LATE_MAX`] overdue time-outs in one call, [`lines::LINES_MAX`] lines.

mod order;

pub(crate) mod lines;

mod output;

mod candidate;

mod sound;

mod event;

mod negotiation;

#[cfg(test)]
pub(crate) mod other_side;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use str0m::change::SdpPendingOffer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::{Candidate, Input, Rtc};
use tokio::time::Instant;

use crate::wire::{Channel, Description};
use candidate::Remote;
pub(crate) use lines::LineId;
use lines::Lines;
pub(crate) use order::SoundPacket;
pub(crate) use output::{Datagram, PeerOutput, Transport, Written};

/// Most addresses of the server that are tried, until the next restart of ICE.
const CANDIDATES_MAX: usize = 16;
/// Most bytes of both data channels that may wait for their acknowledgement.
pub(crate) const BUFFERED_BYTES_MAX: usize = 128 << 10;
/// Below this many bytes of a channel more are taken.
const BUFFERED_BYTES_LOW: usize = 32 << 10;
/// Time that UDP has for itself, before addresses of TCP are tried too.
const TCP_AFTER: Duration = Duration::from_millis(500);
/// Pause before the first check of a path is repeated; each pause doubles, up to 3 s. Servers miss the first check, because they tell
/// their addresses before they listen to it.
const CHECK_AGAIN_AFTER: Duration = Duration::from_millis(25);
/// Checks without an answer until a path is given up: about 9 s of silence, with the 3 s between checks of a path that works.
const CHECKS_MAX: usize = 8;
/// Pause between looks at the checks of a new path, for a second from its first address on. `str0m` has one of 50 ms, which would be
/// most of a join.
const SEARCH_EVERY: Duration = Duration::from_millis(5);
const SEARCH_OFTEN_FOR: Duration = Duration::from_secs(1);
/// Longest text of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Most overdue time-outs that one call handles.
const LATE_MAX: usize = 64;

/// The state of the path to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// None was found yet, or a restart looks for one.
    Searching {
        since: Instant,
    },
    Found,
    Lost,
    /// The peer is over.
    Closed,
}

/// One peer connection.
pub(crate) struct Peer {
    rtc: Rtc,
    path: Path,
    reliable: ChannelState,
    lossy: ChannelState,
    /// The newest offer, which the server reads again at a resume.
    offer: Description,
    /// What `str0m` wants back with the answer to it.
    pending: Option<SdpPendingOffer>,
    /// The newest answer.
    answer: Description,
    /// A search for paths from the beginning waits for the answer to the offer that is open.
    restarts: bool,
    /// The lines for sound.
    lines: Lines,
    /// Addresses of the server, so that they are bounded and those of TCP wait their time.
    remotes: Vec<Remote>,
    /// When `str0m` was called last, but for datagrams, and is to be called next.
    stepped_at: Instant,
    wake_at: Instant,
    outputs: VecDeque<PeerOutput>,
    /// The path of the newest datagram that is no check of ICE: the one in use.
    carrier: Option<Carrier>,
}

/// The path that carries what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carrier {
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
}

struct ChannelState {
    id: ChannelId,
    is_open: bool,
}

impl Peer {
    /// A peer with an offer that asks for the two data channels and nothing else.
    pub(crate) fn new(now: Instant) -> Self {
        let mut config = Rtc::builder()
            .clear_codecs()
            .enable_opus(true, false)
            .set_sctp_max_buffered_amount(BUFFERED_BYTES_MAX)
            // Packets come as they are: `order` has their order.
            .set_reordering_size_audio(0)
            .set_stats_interval(None);
        config.set_initial_stun_rto(CHECK_AGAIN_AFTER);
        config.set_max_stun_retransmits(CHECKS_MAX);
        let mut rtc = config.build(now.into_std());
        let mut changes = rtc.sdp_api();
        let reliable = changes.add_channel_with_config(channel_config(Channel::Reliable));
        let lossy = changes.add_channel_with_config(channel_config(Channel::Lossy));
        let (offer, pending) = changes.apply().map_or_else(Default::default, |(offer, pending)| {
            (Description { id: 1, sdp: offer.to_sdp_string() }, Some(pending))
        });
        let mut peer = Self {
            rtc,
            path: Path::Searching { since: now },
            reliable: ChannelState { id: reliable, is_open: false },
            lossy: ChannelState { id: lossy, is_open: false },
            offer,
            pending,
            answer: Description::default(),
            restarts: false,
            lines: Lines::default(),
            remotes: Vec::new(),
            stepped_at: now,
            wake_at: now,
            outputs: VecDeque::new(),
            carrier: None,
        };
        peer.drain();
        peer
    }

    /// The newest offer.
    pub(crate) const fn offer(&self) -> &Description {
        &self.offer
    }

    /// The newest answer. Its text is empty where none came yet.
    pub(crate) const fn answer(&self) -> &Description {
        &self.answer
    }

    /// Whether texts can flow.
    pub(crate) fn is_ready(&self) -> bool {
        self.path == Path::Found && self.reliable.is_open && self.lossy.is_open
    }

    /// Whether a path leads to the server, as far as is known.
    pub(crate) fn has_path(&self) -> bool {
        self.path == Path::Found
    }

    /// Take an address of the server, in the JSON of LiveKit's `TrickleRequest`. What is no usable address is ignored.
    pub(crate) fn take_candidate(&mut self, json: &str, now: Instant) {
        let Some((remote, candidate)) = Remote::parse(json) else { return };
        let known = |other: &Remote| (other.transport, other.address) == (remote.transport, remote.address);
        if self.remotes.len() >= CANDIDATES_MAX || self.remotes.iter().any(known) {
            return;
        }
        self.step(now);
        self.rtc.add_remote_candidate(candidate);
        self.drain();
        self.remotes.push(remote);
        self.reach(now);
    }

    /// An own address that leads to the server.
    pub(crate) fn take_local(&mut self, transport: Transport, local: SocketAddr, now: Instant) {
        self.step(now);
        let candidate = match transport {
            Transport::Udp => Candidate::builder().udp().host(local).build(),
            Transport::Tcp => Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build(),
        };
        if let Ok(candidate) = candidate {
            self.rtc.add_local_candidate(candidate);
        }
        self.drain();
    }

    /// The connection of TCP between these addresses is over; it had no own one where it never opened. Where the path goes over it, the
    /// peer is over too: LiveKit's server ends its side of the data channels at the first packet that it cannot write, and a restart of
    /// ICE does not bring them back.
    pub(crate) fn lose_tcp(&mut self, remote: SocketAddr, local: Option<SocketAddr>) {
        let lost = local.map(|local| Carrier { transport: Transport::Tcp, local, remote });
        if self.path == Path::Found && lost.is_some() && self.carrier == lost {
            self.rtc.disconnect();
            self.end("the connection of TCP to the server was lost");
        }
    }

    /// A datagram came.
    pub(crate) fn receive(&mut self, datagram: &Datagram<&[u8]>, now: Instant) {
        let protocol = protocol_of(datagram.transport);
        // What is none of the protocols of WebRTC is dropped.
        let Ok(receive) = Receive::new(protocol, datagram.source, datagram.destination, datagram.bytes) else { return };
        let received = self.rtc.handle_input(Input::Receive(now.into_std(), receive));
        self.check(received);
        self.drain();
    }

    /// Send a message.
    pub(crate) fn write(&mut self, channel: Channel, message: &[u8], now: Instant) -> Written {
        self.step(now);
        let id = self.state_of(channel).id;
        let Some(mut open) = self.rtc.channel(id) else { return Written::Closed };
        let written = open.write(true, message);
        self.drain();
        match written {
            Ok(true) => Written::Taken,
            Ok(false) => Written::Full,
            Err(_) => Written::Closed,
        }
    }

    /// Bytes of the reliable channel that the server has not acknowledged; none where it is not open.
    pub(crate) fn unacknowledged(&mut self) -> Option<usize> {
        let id = self.reliable.id;
        self.rtc.channel(id).map(|mut channel| channel.buffered_amount())
    }

    /// End the peer. What it still has to send follows as outputs.
    pub(crate) fn close(&mut self, now: Instant) {
        self.step(now);
        let closed = self.rtc.close();
        self.path = Path::Closed;
        self.check(closed);
        self.drain();
    }

    /// When `advance` is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let tcp = self.tcp_due().filter(|_| self.has_untried());
        let own = self.rtc.is_alive().then_some(self.wake_at);
        [own, tcp, self.search_due(), self.lines.wake_at()].into_iter().flatten().min()
    }

    /// Have everything happen that is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        for _ in 0..LATE_MAX {
            if self.wake_at > now || !self.rtc.is_alive() {
                break;
            }
            self.step(now);
        }
        if self.search_due().is_some_and(|due| due <= now) {
            self.step(now);
        }
        self.reach(now);
        self.tell_sound(now);
    }

    /// The next output.
    pub(crate) fn next_output(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }

    /// Whether [`Self::next_output`] has one.
    pub(crate) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Ask for the way to each address whose time has come.
    fn reach(&mut self, now: Instant) {
        let tcp_too = self.tcp_due().is_some_and(|due| due <= now);
        for remote in &mut self.remotes {
            if !remote.is_tried && (tcp_too || remote.transport == Transport::Udp) {
                remote.is_tried = true;
                self.outputs.push_back(PeerOutput::Reach { transport: remote.transport, remote: remote.address });
            }
        }
    }

    /// When addresses of TCP are tried too.
    fn tcp_due(&self) -> Option<Instant> {
        match self.path {
            Path::Searching { since } => Some(since + TCP_AFTER),
            Path::Found | Path::Lost | Path::Closed => None,
        }
    }

    /// When the checks of a new path are looked at.
    fn search_due(&self) -> Option<Instant> {
        match self.path {
            Path::Searching { since } if !self.remotes.is_empty() && self.stepped_at < since + SEARCH_OFTEN_FOR => {
                Some(self.stepped_at + SEARCH_EVERY)
            }
            Path::Searching { .. } | Path::Found | Path::Lost | Path::Closed => None,
        }
    }

    fn has_untried(&self) -> bool {
        self.remotes.iter().any(|remote| !remote.is_tried)
    }

    /// Let `str0m` know the time.
    fn step(&mut self, now: Instant) {
        self.stepped_at = self.stepped_at.max(now);
        let stepped = self.rtc.handle_input(Input::Timeout(now.into_std()));
        self.check(stepped);
        self.drain();
    }

    const fn state_of(&self, channel: Channel) -> &ChannelState {
        match channel {
            Channel::Reliable => &self.reliable,
            Channel::Lossy => &self.lossy,
        }
    }

    fn channel_of(&self, id: ChannelId) -> Option<Channel> {
        [Channel::Reliable, Channel::Lossy].into_iter().find(|channel| self.state_of(*channel).id == id)
    }
}

fn channel_config(channel: Channel) -> ChannelConfig {
    let (ordered, reliability) = match channel {
        Channel::Reliable => (true, Reliability::Reliable),
        Channel::Lossy => (false, Reliability::MaxRetransmits { retransmits: 0 }),
    };
    ChannelConfig { label: channel.label().to_owned(), ordered, reliability, ..ChannelConfig::default() }
}

const fn protocol_of(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    }
}
