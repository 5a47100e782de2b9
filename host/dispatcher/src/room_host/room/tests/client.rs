//! The client's side of a peer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use livekit_protocol as proto;
use prost::Message as _;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::time::Instant;

/// The client's side of a peer.
pub(super) struct Client {
    pub(super) rtc: Rtc,
    pub(super) reliable: ChannelId,
    pub(super) lossy: ChannelId,
    pub(super) address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    /// Datagrams for the host.
    pub(super) outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) received: Vec<proto::DataPacket>,
    pub(super) is_closed: bool,
}

impl Client {
    /// A client whose data channels have these labels: the reliable one, and the lossy one.
    pub(super) fn new(number: u8, labels: [&str; 2], now: Instant) -> (Self, String) {
        let mut rtc = Rtc::builder().clear_codecs().enable_opus(true, false).build(now.into_std());
        let address = SocketAddr::from(([10, 0, 0, number], 4_000));
        rtc.add_local_candidate(Candidate::builder().udp().host(address).build().unwrap());
        let mut changes = rtc.sdp_api();
        let reliable = changes.add_channel_with_config(ChannelConfig { label: labels[0].into(), ..Default::default() });
        let reliability = Reliability::MaxRetransmits { retransmits: 0 };
        let lossy = ChannelConfig { label: labels[1].into(), ordered: false, reliability, ..Default::default() };
        let lossy = changes.add_channel_with_config(lossy);
        let (offer, pending) = changes.apply().unwrap();
        let (outbox, received) = Default::default();
        let pending = Some(pending);
        (Self { rtc, reliable, lossy, address, pending, outbox, received, is_closed: false }, offer.to_sdp_string())
    }

    pub(super) fn answered(&mut self, sdp: &str) {
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
                Output::Event(Event::Closed) => self.is_closed = true,
                Output::Event(_) => {}
            }
        }
    }
}
