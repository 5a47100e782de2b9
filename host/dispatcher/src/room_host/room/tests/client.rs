//! The client's side of a peer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use livekit_protocol as proto;
use prost::Message as _;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::crypto::from_feature_flags;
use str0m::ice::{StunMessage, TransId};
use str0m::media::{Direction, ExtensionValues, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::time::Instant;

/// The client's side of a peer.
pub(super) struct Client {
    pub(super) rtc: Rtc,
    pub(super) reliable: ChannelId,
    pub(super) lossy: ChannelId,
    pub(super) address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    /// The secret of the host's last answer.
    host_password: String,
    /// Datagrams for the host.
    pub(super) outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) received: Vec<proto::DataPacket>,
    pub(super) is_closed: bool,
    /// The lines on which it sends and receives sound.
    pub(super) sending: Vec<Mid>,
    pub(super) receiving: Vec<Mid>,
    /// The number of packets of sound that it has sent.
    spoken: u32,
    pub(super) heard: Vec<Heard>,
}

/// A packet of sound, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) mid: Mid,
    pub(super) source: u32,
    pub(super) sequence: u64,
    pub(super) time: u32,
    pub(super) level: Option<i8>,
    pub(super) payload: Vec<u8>,
}

impl Client {
    /// A client whose data channels have these labels: the reliable one, and the lossy one.
    pub(super) fn new(number: u8, labels: [&str; 2], now: Instant) -> (Self, String) {
        let builder = Rtc::builder().clear_codecs().enable_opus(true, false).set_rtp_mode(true);
        let mut rtc = builder.build(now.into_std());
        let address = SocketAddr::from(([10, 0, 0, number], 4_000));
        rtc.add_local_candidate(Candidate::builder().udp().host(address).build().unwrap());
        let mut changes = rtc.sdp_api();
        let reliable = changes.add_channel_with_config(ChannelConfig { label: labels[0].into(), ..Default::default() });
        let reliability = Reliability::MaxRetransmits { retransmits: 0 };
        let lossy = ChannelConfig { label: labels[1].into(), ordered: false, reliability, ..Default::default() };
        let lossy = changes.add_channel_with_config(lossy);
        let (offer, pending) = changes.apply().unwrap();
        let client = Self {
            rtc,
            reliable,
            lossy,
            address,
            pending: Some(pending),
            host_password: String::new(),
            outbox: VecDeque::new(),
            received: Vec::new(),
            is_closed: false,
            sending: Vec::new(),
            receiving: Vec::new(),
            spoken: 0,
            heard: Vec::new(),
        };
        (client, offer.to_sdp_string())
    }

    /// The side of a second peer, on which the host offers.
    pub(super) fn second(number: u8, now: Instant) -> Self {
        let (first, _) = Self::new(number, ["", ""], now);
        let mut rtc = Rtc::builder().clear_codecs().enable_opus(true, false).set_rtp_mode(true).build(now.into_std());
        let address = SocketAddr::from(([10, 0, 1, number], 4_000));
        rtc.add_local_candidate(Candidate::builder().udp().host(address).build().unwrap());
        Self { rtc, address, pending: None, ..first }
    }

    /// The answer to an offer of the host.
    pub(super) fn answer(&mut self, offer: &str) -> String {
        let answer = self.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer).unwrap()).unwrap();
        self.drain();
        answer.to_sdp_string()
    }

    /// An offer with further lines: one for each of these tracks, and so many on which it receives.
    pub(super) fn offer(&mut self, cids: &[&str], receives: usize) -> String {
        let mut changes = self.rtc.sdp_api();
        for mid in &self.receiving {
            // `str0m` offers nothing where nothing changes.
            changes.set_direction(*mid, Direction::Inactive);
            changes.set_direction(*mid, Direction::RecvOnly);
        }
        for cid in cids {
            let (stream, cid) = (Some("stream".to_owned()), Some((*cid).to_owned()));
            self.sending.push(changes.add_media(MediaKind::Audio, Direction::SendOnly, stream, cid, None));
        }
        for _ in 0..receives {
            self.receiving.push(changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None));
        }
        let (offer, pending) = changes.apply().unwrap();
        self.pending = Some(pending);
        self.drain();
        offer.to_sdp_string()
    }

    /// An offer in which a line sends no longer.
    pub(super) fn stop_sending(&mut self, mid: Mid) -> String {
        self.sending.retain(|one| *one != mid);
        let mut changes = self.rtc.sdp_api();
        changes.set_direction(mid, Direction::Inactive);
        let (offer, pending) = changes.apply().unwrap();
        self.pending = Some(pending);
        self.drain();
        offer.to_sdp_string()
    }

    /// Send packets of sound with these payloads on a line, of this level.
    pub(super) fn speak(&mut self, mid: Mid, payloads: &[Vec<u8>], level: i8, now: Instant) {
        for payload in payloads {
            self.spoken += 1;
            let payload_type = self.rtc.media(mid).unwrap().remote_pts()[0];
            let packet = RtpWrite::new(
                payload_type,
                u64::from(self.spoken).into(),
                self.spoken * 960,
                now.into_std(),
                payload.clone(),
            );
            let values = ExtensionValues { audio_level: Some(level), voice_activity: Some(true), ..Default::default() };
            self.rtc.direct_api().stream_tx_by_mid(mid, None).unwrap().write_rtp(packet.ext_vals(values));
            self.advance(now);
        }
    }

    /// Have its sound come from another source of RTP.
    pub(super) fn change_source(&mut self, mid: Mid, source: u32) {
        assert!(self.rtc.direct_api().reset_stream_tx(mid, None, source.into(), None).is_some());
    }

    pub(super) fn answered(&mut self, sdp: &str) {
        self.host_password = sdp.lines().find_map(|line| line.strip_prefix("a=ice-pwd:")).unwrap().to_owned();
        let answer = SdpAnswer::from_sdp_string(sdp).unwrap();
        self.rtc.sdp_api().accept_answer(self.pending.take().unwrap(), answer).unwrap();
        self.drain();
    }

    /// An offer that looks for a new path.
    pub(super) fn restart(&mut self) -> String {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().unwrap();
        self.pending = Some(pending);
        self.drain();
        offer.to_sdp_string()
    }

    /// A check with the name of this one, which asks the host to prefer the address that it comes from.
    pub(super) fn preferring(&self, check: &[u8]) -> Vec<u8> {
        let name = StunMessage::parse(check).unwrap().username().unwrap().to_owned();
        let check = StunMessage::binding_request(&name, TransId::new(), true, 1, u32::MAX >> 1, true);
        let mut bytes = vec![0; 512];
        let hmac = |key: &[u8], parts: &[&[u8]]| from_feature_flags().sha1_hmac_provider.sha1_hmac(key, parts);
        let length = check.to_bytes(Some(self.host_password.as_bytes()), &mut bytes, hmac).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// Open further channels, which nothing uses.
    pub(super) fn open_channels(&mut self, count: usize) {
        for _ in 0..count {
            let mut changes = self.rtc.sdp_api();
            changes.add_channel("other".into());
            assert!(changes.apply().is_none(), "a channel needs no offer");
        }
        self.drain();
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now.into_std())).unwrap();
        self.drain();
    }

    pub(super) fn receive(&mut self, source: SocketAddr, bytes: &[u8], now: Instant) {
        let receive = Receive::new(Protocol::Udp, source, self.address, bytes).unwrap();
        self.rtc.handle_input(Input::Receive(now.into_std(), receive)).unwrap();
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    self.outbox.push_back((transmit.destination, Vec::from(transmit.contents)));
                }
                Output::Event(Event::ChannelData(data)) => {
                    self.received.push(proto::DataPacket::decode(data.data.as_slice()).unwrap());
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    let mid = self.rtc.direct_api().stream_rx(&packet.header.ssrc).unwrap().mid();
                    self.heard.push(Heard {
                        mid,
                        source: *packet.header.ssrc,
                        sequence: *packet.seq_no,
                        time: packet.header.timestamp,
                        level: packet.header.ext_vals.audio_level,
                        payload: packet.payload.to_vec(),
                    });
                }
                Output::Event(Event::Closed) => self.is_closed = true,
                Output::Event(_) => {}
            }
        }
    }
}
