//! The host's side of one peer connection: ICE-lite, DTLS and the two data channels, without sockets. Pure.
//!
//! The client makes every offer, except on the second peer connection of a client that has two. Lines for video are answered, because
//! browsers cannot make further offers otherwise; nothing flows on them. Packets with sound pass as they are, with the numbers of the
//! line that they leave on.
//!
//! Rules of `str0m`: after each change the outputs are drained before the next one; a time-out in the past is handled at once.
//! `str0m` panics on its own bugs, which ends the peer.
//!
//! Bounds: [`texts::OFFER_BYTES_MAX`] and [`texts::LINES_MAX`] of an offer or an answer, [`BUFFERED_BYTES_MAX`] that were written and are
//! not acknowledged, [`CHANNELS_MAX`] channels, [`LATE_MAX`] overdue time-outs in one call, and the bounds of its addresses and of its
//! sound. `str0m` itself bounds the streams of SCTP that announce no channel, by the 65,536 numbers that they may have.

mod output;

mod paths;

mod sound;

mod texts;

mod offers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use str0m::change::SdpOffer;
use str0m::channel::ChannelId;
use str0m::net::{Protocol, Receive};
use str0m::rtp::Extension;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcError};
use tokio::time::Instant;
use wasm_worker_core::text::with_causes;

use super::limits::PACKET_BYTES_MAX;
use super::ways::Ways;
pub(super) use offers::{Offer, PendingOffer, Wish};
pub(super) use output::{Answer, Channel, OfferError, PeerOutput, Sound, Written};
#[cfg(test)]
pub(super) use paths::SOURCES_MAX;
pub(super) use paths::answered;
use paths::{Credentials, Paths};
use sound::SoundSources;

/// Most bytes of both data channels that may wait for their acknowledgement.
const BUFFERED_BYTES_MAX: usize = 256 << 10;
/// Below this many bytes of a channel more are taken.
const BUFFERED_BYTES_LOW: usize = 64 << 10;
/// Most channels that a client opens in all. The room uses two; `livekit-client` opens a third one.
const CHANNELS_MAX: usize = 16;
/// Packets with sound that `str0m` keeps for those who lost them. None is sent again.
const KEPT_PACKETS: usize = 1;
/// Most overdue time-outs that one call handles.
const LATE_MAX: usize = 64;

/// One peer connection.
pub(super) struct Peer {
    /// None once the peer is over.
    rtc: Option<Box<Rtc>>,
    /// The host's address, which is a candidate of the answers.
    local: SocketAddr,
    /// The address by which clients reach it through NAT, which is one too.
    public: Option<SocketAddr>,
    reliable: Option<ChannelId>,
    lossy: Option<ChannelId>,
    /// The number of channels that the client has opened.
    opened: usize,
    /// The name in the last description of the host that the client knows.
    name: String,
    /// What leads to it.
    pub(super) ways: Ways,
    /// What the client expects in the host's checks.
    credentials: Credentials,
    /// The addresses whose checks this name has answered.
    paths: Paths,
    /// The sources of sound, and their bounds.
    sound_sources: SoundSources,
    /// When `str0m` is to be called next.
    wake_at: Instant,
    outputs: VecDeque<PeerOutput>,
}

impl Peer {
    /// A peer that waits for its first offer. Clients reach it at `local`, and by NAT at `public`.
    pub(super) fn new(local: SocketAddr, public: Option<SocketAddr>, now: Instant) -> Self {
        let config = Rtc::builder()
            .set_ice_lite(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_rtp_mode(true)
            .set_send_buffer_audio(KEPT_PACKETS)
            .set_send_buffer_video(KEPT_PACKETS)
            // Without further ones: they would cost packets, and a state for each layer that a client makes up.
            .clear_extension_map()
            .set_extension(1, Extension::AudioLevel)
            .set_extension(4, Extension::RtpMid)
            .set_sctp_max_buffered_amount(BUFFERED_BYTES_MAX)
            .set_sctp_max_message_size(PACKET_BYTES_MAX)
            .set_stats_interval(None);
        let mut rtc = config.build(now.into_std());
        // An address that is no candidate, such as port 0, leaves the peer without a path, and its time ends.
        for address in public.into_iter().chain([local]) {
            if let Ok(candidate) = Candidate::builder().udp().host(address).build() {
                rtc.add_local_candidate(candidate);
            }
        }
        let mut peer = Self {
            rtc: Some(Box::new(rtc)),
            local,
            public: public.filter(|public| *public != local),
            reliable: None,
            lossy: None,
            opened: 0,
            name: String::new(),
            ways: Ways::default(),
            credentials: Credentials::default(),
            paths: Paths::default(),
            sound_sources: SoundSources::default(),
            wake_at: now,
            outputs: VecDeque::new(),
        };
        peer.with(|_| Ok(()));
        peer
    }

    /// The host's addresses as LiveKit's `TrickleRequest` has them.
    pub(super) fn candidates(&self) -> Vec<String> {
        texts::candidates(self.public.into_iter().chain([self.local]))
    }

    /// The answer to an offer.
    pub(super) fn answer(&mut self, offer: &str, now: Instant) -> Result<Answer, OfferError> {
        texts::check_size(offer)?;
        let offer = texts::without_states(offer);
        self.step(now);
        let answered = self.with(|rtc| {
            let answered = SdpOffer::from_sdp_string(&offer).map_err(|error| with_causes(&error)).and_then(|offer| {
                let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| with_causes(&error))?;
                Ok(Answer { sdp: answer.to_sdp_string(), name: rtc.direct_api().local_ice_credentials().ufrag })
            });
            Ok(answered)
        });
        let answer = answered.ok_or(OfferError::Over)?.map_err(OfferError::Unusable)?;
        self.declare(texts::sources(&offer).collect());
        self.negotiated(&offer, &answer.name, now);
        Ok(answer)
    }

    /// The client has made this description, and knows the host's name.
    fn negotiated(&mut self, description: &str, name: &str, now: Instant) {
        self.credentials = Credentials::of(description, name);
        if self.name != name {
            name.clone_into(&mut self.name);
            self.paths.restart(now);
        }
    }

    /// A datagram came. What is none of the protocols of WebRTC is dropped, and a check before the first answer: clients repeat it.
    pub(super) fn receive(&mut self, source: SocketAddr, bytes: &[u8], now: Instant) {
        if answered(bytes).is_some() {
            return self.take_answer(source, bytes, now);
        }
        let source_of_sound = sound::source_of(bytes);
        let is_admitted = match source_of_sound {
            Some(source) => self.sound_sources.admits(source, now),
            None => !is_stun(bytes) || !self.name.is_empty() && self.paths.admits(source),
        };
        if !is_admitted {
            return;
        }
        self.paths.pass_time(now);
        let (before, local) = (self.outputs.len(), self.local);
        self.with(|rtc| match Receive::new(Protocol::Udp, source, local, bytes) {
            Ok(receive) => rtc.handle_input(Input::Receive(now.into_std(), receive)),
            Err(_) => Ok(()),
        });
        if is_stun(bytes) {
            self.ask(source, bytes.len(), before, now);
        }
        if let Some(source) = source_of_sound {
            self.forget_forged(source);
        }
    }

    /// Send a message.
    pub(super) fn write(&mut self, channel: Channel, message: &[u8], now: Instant) -> Written {
        let id = match channel {
            Channel::Reliable => self.reliable,
            Channel::Lossy => self.lossy,
        };
        self.step(now);
        let written = self.with(|rtc| Ok(id.and_then(|id| rtc.channel(id)).map(|mut open| open.write(true, message))));
        match written.flatten() {
            Some(Ok(true)) => Written::Taken,
            Some(Ok(false)) => Written::Full,
            Some(Err(_)) | None => Written::Refused,
        }
    }

    /// Whether both channels are open.
    pub(super) const fn is_ready(&self) -> bool {
        self.reliable.is_some() && self.lossy.is_some() && self.rtc.is_some()
    }

    /// End the peer. What it still has to send follows as outputs.
    pub(super) fn close(&mut self, now: Instant) {
        self.step(now);
        self.with(Rtc::close);
        self.rtc = None;
    }

    /// When [`Self::advance`] is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.rtc.as_ref().filter(|rtc| rtc.is_alive()).map(|_| self.wake_at)
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
        self.paths.pass_time(now);
        self.with(|rtc| rtc.handle_input(Input::Timeout(now.into_std())));
    }

    /// Have `str0m` do something, and take its outputs. `None`: the peer is over, maybe by this.
    fn with<T>(&mut self, act: impl FnOnce(&mut Rtc) -> Result<T, RtcError>) -> Option<T> {
        let mut rtc = self.rtc.take()?;
        // A panic leaves a state of `str0m` that nobody uses again.
        let done = catch_unwind(AssertUnwindSafe(|| {
            let done = act(&mut rtc).map_err(|error| with_causes(&error))?;
            self.drain(&mut rtc).map(|()| done)
        }));
        let why = match done {
            Ok(Ok(done)) => {
                self.rtc = Some(rtc);
                return Some(done);
            }
            Ok(Err(why)) => {
                // The client hears of the end, if it still listens. What fails now has no effect.
                let goodbye = || rtc.close().map_err(|error| with_causes(&error)).and_then(|()| self.drain(&mut rtc));
                drop(catch_unwind(AssertUnwindSafe(goodbye)));
                why
            }
            Err(_) => {
                tracing::error!(target: "dispatcher", "a bug of `str0m` ended a peer");
                "a bug of `str0m`".to_owned()
            }
        };
        self.outputs.push_back(PeerOutput::Closed { why });
        None
    }

    /// Take all outputs of `str0m`, or the reason why the peer is over.
    fn drain(&mut self, rtc: &mut Rtc) -> Result<(), String> {
        loop {
            match rtc.poll_output().map_err(|error| with_causes(&error))? {
                Output::Timeout(at) => {
                    self.wake_at = Instant::from_std(at);
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    let destination = transmit.destination;
                    let passed = self.paths.pass(destination, transmit.contents.into());
                    self.outputs.extend(passed.map(|bytes| PeerOutput::Transmit { destination, bytes }));
                }
                Output::Event(event) => self.take_event(rtc, event)?,
            }
        }
    }

    fn take_event(&mut self, rtc: &mut Rtc, event: Event) -> Result<(), String> {
        match event {
            Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.outputs.push_back(PeerOutput::Found);
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.outputs.push_back(PeerOutput::Lost);
            }
            Event::ChannelOpen(id, label) => return self.opened(rtc, id, &label),
            Event::ChannelData(data) => {
                if let Some(channel) = self.channel_of(data.id).filter(|_| data.binary) {
                    self.outputs.push_back(PeerOutput::Message { channel, bytes: data.data });
                }
            }
            Event::ChannelBufferedAmountLow(_) => self.outputs.push_back(PeerOutput::Writable),
            Event::ChannelClose(id) if self.channel_of(id).is_some() => {
                return Err("the client closed a data channel".into());
            }
            Event::Closed => return Err("the client closed the connection".into()),
            Event::RtpPacket(packet) => self.take_sound(rtc, packet),
            // The rest is for video and for statistics.
            _ => {}
        }
        Ok(())
    }

    fn opened(&mut self, rtc: &mut Rtc, id: ChannelId, label: &str) -> Result<(), String> {
        self.opened += 1;
        if self.opened > CHANNELS_MAX {
            return Err(format!("the client opened more than {CHANNELS_MAX} channels"));
        }
        let slot = match Channel::of_label(label) {
            Some(Channel::Reliable) => &mut self.reliable,
            Some(Channel::Lossy) => &mut self.lossy,
            None => return Ok(()),
        };
        // A second channel of the same label changes nothing.
        if slot.is_some() {
            return Ok(());
        }
        *slot = Some(id);
        if let Some(mut open) = rtc.channel(id) {
            open.set_buffered_amount_low_threshold(BUFFERED_BYTES_LOW);
        }
        if self.reliable.is_some() && self.lossy.is_some() {
            self.outputs.push_back(PeerOutput::Ready);
        }
        Ok(())
    }

    fn channel_of(&self, id: ChannelId) -> Option<Channel> {
        let is = |slot: Option<ChannelId>| slot == Some(id);
        match (is(self.reliable), is(self.lossy)) {
            (true, _) => Some(Channel::Reliable),
            (_, true) => Some(Channel::Lossy),
            _ => None,
        }
    }
}

/// Whether a datagram is a message of STUN: its first byte says so (RFC 7983).
pub(super) fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 4)
}

#[cfg(test)]
mod tests {
    use str0m::media::{Direction, MediaKind};

    use super::texts::{LINES_MAX, OFFER_BYTES_MAX};
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
        let answer = |offer: &str| Peer::new("127.0.0.1:7882".parse().unwrap(), None, now).answer(offer, now);
        let answered = answer(&offer(LINES_MAX)).unwrap().sdp;
        assert!(answered.contains("a=ice-lite") && answered.contains("127.0.0.1 7882 typ host"), "{answered}");
        assert!(matches!(answer(&offer(LINES_MAX + 1)), Err(OfferError::TooLong { .. })));
        let padding = format!("a=padding:{}\r\n", "x".repeat(1_000));
        let long = format!("{}{}", offer(1), padding.repeat(10));
        assert!(answer(&long).is_ok(), "an attribute that means nothing is ignored");
        let too_long = format!("{}{}", offer(1), padding.repeat(OFFER_BYTES_MAX / 1_000));
        assert!(matches!(answer(&too_long), Err(OfferError::TooLong { .. })));
    }

    #[test]
    fn sources_that_former_offers_declared_leave_str0m() {
        let now = Instant::now();
        let mut peer = Peer::new("127.0.0.1:7882".parse().unwrap(), None, now);
        let lines = offer(1).replace("a=recvonly", "a=sendonly");
        let is_kept = |line: &&str| !line.contains("sdes:mid") && !line.starts_with("a=ssrc:");
        let nameless: String = lines.split_inclusive('\n').filter(is_kept).collect();
        for source in 1..=20 {
            peer.answer(&format!("{nameless}a=ssrc:{source} cname:x\r\n"), now).unwrap();
        }
        assert_eq!((1..=20).filter(|source| peer.has_source(*source)).collect::<Vec<u32>>(), [20]);
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
        let answered = Peer::new("127.0.0.1:7882".parse().unwrap(), None, now).answer(&offer, now).unwrap().sdp;
        let ports: Vec<&str> = answered.lines().filter(|line| line.starts_with("m=")).collect();
        assert!(ports.len() == 2 && ports.iter().all(|line| !line.contains(" 0 ")), "a line is rejected: {ports:?}");
    }

    #[test]
    fn address_behind_nat_is_a_candidate_too() {
        let now = Instant::now();
        let public = Some("203.0.113.5:7882".parse().unwrap());
        let mut peer = Peer::new("10.0.0.1:7882".parse().unwrap(), public, now);
        let answered = peer.answer(&offer(1), now).unwrap().sdp;
        assert!(
            answered.contains(" 203.0.113.5 7882 typ host") && answered.contains(" 10.0.0.1 7882 typ host"),
            "{answered}"
        );
        let told = peer.candidates();
        assert!(
            told.len() == 2 && told[0].contains(" 203.0.113.5 7882 ") && told[1].contains(" 10.0.0.1 7882 "),
            "{told:?}"
        );
    }

    #[test]
    fn panic_of_str0m_ends_its_peer_alone() {
        let now = Instant::now();
        let mut peer = Peer::new("127.0.0.1:7882".parse().unwrap(), None, now);
        assert!(peer.wake_at().is_some());
        assert_eq!(peer.with(|_| -> Result<(), RtcError> { panic!("a bug") }), None);
        assert_eq!(peer.next_output(), Some(PeerOutput::Closed { why: "a bug of `str0m`".into() }));
        assert!(matches!(peer.answer(&offer(1), now), Err(OfferError::Over)));
        peer.receive("192.0.2.1:5".parse().unwrap(), &[22; 100], now);
        assert_eq!(peer.write(Channel::Reliable, &[1], now), Written::Refused);
        peer.advance(now);
        peer.close(now);
        assert_eq!((peer.next_output(), peer.wake_at()), (None, None));
    }
}
