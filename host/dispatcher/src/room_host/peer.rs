//! The host's side of one peer connection: ICE-lite, DTLS and the two data channels, without sockets. Pure.
//!
//! The client makes every offer, so the host never does. Lines for sound and video are answered, because browsers cannot make
//! further offers otherwise; their packets are not used yet.
//!
//! Rules of `str0m`: after each change the outputs are drained before the next one; a time-out in the past is handled at once.
//! `str0m` panics on its own bugs: the task of the room contains it.
//!
//! Bounds: [`OFFER_BYTES_MAX`] and [`LINES_MAX`] of an offer, [`BUFFERED_BYTES_MAX`] that were written and are not acknowledged,
//! [`LATE_MAX`] overdue time-outs in one call.

use std::collections::VecDeque;
use std::net::SocketAddr;

use str0m::change::SdpOffer;
use str0m::channel::ChannelId;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcError};
use tokio::time::Instant;
use wasm_worker_core::text::with_causes;

use super::limits::PACKET_BYTES_MAX;

/// Longest offer, in bytes.
const OFFER_BYTES_MAX: usize = 256 << 10;
/// Most lines for media and data in an offer. Clients begin with seven, and `str0m` keeps a state for each.
const LINES_MAX: usize = 64;
/// Most bytes of both data channels that may wait for their acknowledgement.
const BUFFERED_BYTES_MAX: usize = 256 << 10;
/// Below this many bytes of a channel more are taken.
const BUFFERED_BYTES_LOW: usize = 64 << 10;
/// Most overdue time-outs that one call handles.
const LATE_MAX: usize = 64;

/// The two data channels of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// In order, without loss.
    Reliable,
    /// Without order, sent once.
    Lossy,
}

impl Channel {
    /// The channel that a client opens under this label. Clients may open others, which nothing uses.
    fn of_label(label: &str) -> Option<Self> {
        match label {
            "_reliable" => Some(Self::Reliable),
            "_lossy" => Some(Self::Lossy),
            _ => None,
        }
    }
}

/// What a peer asks for, or tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PeerOutput {
    /// Send this datagram. Its receiver has proved that it knows the secret of the answer.
    Transmit { destination: SocketAddr, bytes: Vec<u8> },
    /// A path is found.
    Found,
    /// No path leads to the client any more. A restart, or the client's return, finds one.
    Lost,
    /// Both channels are open.
    Ready,
    /// A message came.
    Message { channel: Channel, bytes: Vec<u8> },
    /// Little is left that waits for its acknowledgement.
    Writable,
    /// The peer is over.
    Closed { why: String },
}

/// Why an offer cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum OfferError {
    /// The text is longer than any offer.
    #[error("the offer has {bytes} bytes, or {lines} lines for media")]
    TooLong { bytes: usize, lines: usize },
    /// The text is no offer, or contradicts the one before it.
    #[error("the offer cannot be used: {0}")]
    Unusable(String),
}

/// Whether a message was taken to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is on its way.
    Taken,
    /// Too much waits. [`PeerOutput::Writable`] follows.
    Full,
    /// The channel is not open, or does not take such a message.
    Refused,
}

/// One peer connection.
pub(super) struct Peer {
    rtc: Rtc,
    /// The host's address, the one candidate of the answers.
    local: SocketAddr,
    reliable: Option<ChannelId>,
    lossy: Option<ChannelId>,
    is_over: bool,
    /// When `str0m` is to be called next.
    wake_at: Instant,
    outputs: VecDeque<PeerOutput>,
}

impl Peer {
    /// A peer that waits for its first offer. Clients reach it at `local`.
    pub(super) fn new(local: SocketAddr, now: Instant) -> Self {
        let config = Rtc::builder()
            .set_ice_lite(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_sctp_max_buffered_amount(BUFFERED_BYTES_MAX)
            .set_sctp_max_message_size(PACKET_BYTES_MAX)
            .set_stats_interval(None);
        let mut rtc = config.build(now.into_std());
        // An address that is no candidate, such as port 0, leaves the peer without a path, and its time ends.
        if let Ok(candidate) = Candidate::builder().udp().host(local).build() {
            rtc.add_local_candidate(candidate);
        }
        let outputs = VecDeque::new();
        let mut peer = Self { rtc, local, reliable: None, lossy: None, is_over: false, wake_at: now, outputs };
        peer.drain();
        peer
    }

    /// The name by which a client's first datagrams find this peer. Each restart of ICE has a new one.
    pub(super) fn name(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// The host's address as LiveKit's `TrickleRequest` has it. Some clients read it nowhere else, because LiveKit's answers lack it.
    pub(super) fn candidate(&self) -> String {
        let (ip, port) = (self.local.ip(), self.local.port());
        let candidate = format!("candidate:1 1 udp 2130706175 {ip} {port} typ host");
        serde_json::json!({ "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 }).to_string()
    }

    /// The answer to an offer.
    pub(super) fn answer(&mut self, offer: &str, now: Instant) -> Result<String, OfferError> {
        let (bytes, lines) = (offer.len(), offer.lines().filter(|line| line.starts_with("m=")).count());
        if bytes > OFFER_BYTES_MAX || lines > LINES_MAX {
            return Err(OfferError::TooLong { bytes, lines });
        }
        self.step(now);
        let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| OfferError::Unusable(with_causes(&error)))?;
        let answer = self.rtc.sdp_api().accept_offer(parsed);
        self.drain();
        answer.map(|answer| answer.to_sdp_string()).map_err(|error| OfferError::Unusable(with_causes(&error)))
    }

    /// A datagram came. What is none of the protocols of WebRTC is dropped.
    pub(super) fn receive(&mut self, source: SocketAddr, bytes: &[u8], now: Instant) {
        let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, bytes) else { return };
        let received = self.rtc.handle_input(Input::Receive(now.into_std(), receive));
        self.check(received);
        self.drain();
    }

    /// Send a message.
    pub(super) fn write(&mut self, channel: Channel, message: &[u8], now: Instant) -> Written {
        let id = match channel {
            Channel::Reliable => self.reliable,
            Channel::Lossy => self.lossy,
        };
        self.step(now);
        let Some(mut open) = id.and_then(|id| self.rtc.channel(id)) else { return Written::Refused };
        let written = open.write(true, message);
        self.drain();
        match written {
            Ok(true) => Written::Taken,
            Ok(false) => Written::Full,
            Err(_) => Written::Refused,
        }
    }

    /// Whether both channels are open.
    pub(super) const fn is_ready(&self) -> bool {
        self.reliable.is_some() && self.lossy.is_some() && !self.is_over
    }

    /// Whether the peer cannot be used any more.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// End the peer. What it still has to send follows as outputs.
    pub(super) fn close(&mut self, now: Instant) {
        self.step(now);
        let closed = self.rtc.close();
        self.is_over = true;
        self.check(closed);
        self.drain();
    }

    /// When [`Self::advance`] is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        (!self.is_over && self.rtc.is_alive()).then_some(self.wake_at)
    }

    /// Have everything happen that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        for _ in 0..LATE_MAX {
            if self.wake_at().is_none_or(|due| due > now) {
                return;
            }
            self.step(now);
        }
    }

    /// The next output.
    pub(super) fn next_output(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }

    /// Let `str0m` know the time.
    fn step(&mut self, now: Instant) {
        let stepped = self.rtc.handle_input(Input::Timeout(now.into_std()));
        self.check(stepped);
        self.drain();
    }

    /// Take all outputs of `str0m`.
    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.wake_at = Instant::from_std(at);
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    let (destination, bytes) = (transmit.destination, Vec::from(transmit.contents));
                    self.outputs.push_back(PeerOutput::Transmit { destination, bytes });
                }
                Ok(Output::Event(event)) => self.take_event(event),
                Err(error) => return self.check(Err(error)),
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.outputs.push_back(PeerOutput::Found);
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.outputs.push_back(PeerOutput::Lost);
            }
            Event::ChannelOpen(id, label) => self.opened(id, &label),
            Event::ChannelData(data) => {
                if let Some(channel) = self.channel_of(data.id).filter(|_| data.binary) {
                    self.outputs.push_back(PeerOutput::Message { channel, bytes: data.data });
                }
            }
            Event::ChannelBufferedAmountLow(_) => self.outputs.push_back(PeerOutput::Writable),
            Event::ChannelClose(id) if self.channel_of(id).is_some() => self.end("the client closed a data channel"),
            Event::Closed => self.end("the client closed the connection"),
            // Sound and video have their events here. The rest is for statistics.
            _ => {}
        }
    }

    fn opened(&mut self, id: ChannelId, label: &str) {
        let slot = match Channel::of_label(label) {
            Some(Channel::Reliable) => &mut self.reliable,
            Some(Channel::Lossy) => &mut self.lossy,
            None => return,
        };
        // A second channel of the same label changes nothing.
        if slot.is_some() {
            return;
        }
        *slot = Some(id);
        if let Some(mut open) = self.rtc.channel(id) {
            open.set_buffered_amount_low_threshold(BUFFERED_BYTES_LOW);
        }
        if self.is_ready() {
            self.outputs.push_back(PeerOutput::Ready);
        }
    }

    fn channel_of(&self, id: ChannelId) -> Option<Channel> {
        let is = |slot: Option<ChannelId>| slot == Some(id);
        match (is(self.reliable), is(self.lossy)) {
            (true, _) => Some(Channel::Reliable),
            (_, true) => Some(Channel::Lossy),
            _ => None,
        }
    }

    /// End the peer, if `str0m` reports an error.
    fn check(&mut self, done: Result<(), RtcError>) {
        if let Err(error) = done {
            self.rtc.disconnect();
            self.end(&with_causes(&error));
        }
    }

    fn end(&mut self, why: &str) {
        if !self.is_over {
            self.is_over = true;
            self.outputs.push_back(PeerOutput::Closed { why: why.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use str0m::media::{Direction, MediaKind};

    use super::*;

    /// An offer with this many lines for sound.
    fn offer(lines: usize) -> String {
        let mut rtc = Rtc::builder().build(Instant::now().into_std());
        let mut changes = rtc.sdp_api();
        for _ in 0..lines {
            changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        }
        changes.apply().unwrap().0.to_sdp_string()
    }

    #[test]
    fn offers_have_bounds() {
        let now = Instant::now();
        let answer = |offer: &str| Peer::new("127.0.0.1:7882".parse().unwrap(), now).answer(offer, now);
        let answered = answer(&offer(LINES_MAX)).unwrap();
        assert!(answered.contains("a=ice-lite") && answered.contains("127.0.0.1 7882 typ host"), "{answered}");
        assert!(matches!(answer(&offer(LINES_MAX + 1)), Err(OfferError::TooLong { .. })));
        let padding = format!("a=padding:{}\r\n", "x".repeat(1_000));
        let long = format!("{}{}", offer(1), padding.repeat(10));
        assert!(answer(&long).is_ok(), "an attribute that means nothing is ignored");
        let too_long = format!("{}{}", offer(1), padding.repeat(OFFER_BYTES_MAX / 1_000));
        assert!(matches!(answer(&too_long), Err(OfferError::TooLong { .. })));
    }

    #[test]
    fn sound_and_video_are_answered() {
        let mut rtc = Rtc::builder().build(Instant::now().into_std());
        let mut changes = rtc.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            changes.add_media(kind, Direction::SendRecv, None, None, None);
        }
        let offer = changes.apply().unwrap().0.to_sdp_string();
        let now = Instant::now();
        let answered = Peer::new("127.0.0.1:7882".parse().unwrap(), now).answer(&offer, now).unwrap();
        let ports: Vec<&str> = answered.lines().filter(|line| line.starts_with("m=")).collect();
        assert!(ports.len() == 2 && ports.iter().all(|line| !line.contains(" 0 ")), "a line is rejected: {ports:?}");
    }
}
