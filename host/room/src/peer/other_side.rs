//! The other side of a peer connection, for tests: it answers offers as a server does, keeps what it receives, and sends sound.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use str0m::change::SdpOffer;
use str0m::channel::ChannelId;
use str0m::media::{Frequency, MediaTime, Mid};
use str0m::net::Receive;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::time::Instant;

use super::{Datagram, Transport, protocol_of};
use crate::wire::Description;

/// A server's peer at one address.
pub(crate) struct OtherSide {
    rtc: Rtc,
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    channels: Vec<(ChannelId, String)>,
    /// Labels of channels, and messages.
    pub(crate) received: Vec<(String, Vec<u8>)>,
    pub(crate) outputs: VecDeque<Datagram<Box<[u8]>>>,
    pub(crate) wake_at: Instant,
    /// Sections of sound, in the order of the offers.
    mids: Vec<Mid>,
    /// What is sent on sections.
    pub(crate) tracks: HashMap<String, String>,
    /// The names that the newest offer has for the tracks of the other side, by the section.
    pub(crate) names: HashMap<String, String>,
    /// Packets of sound that came: when, the time of RTP, and Opus.
    pub(crate) sound: Vec<SoundSeen>,
}

/// A packet of sound that came.
#[derive(Debug)]
pub(crate) struct SoundSeen {
    pub(crate) at: Instant,
    pub(crate) time: u64,
    pub(crate) level: Option<i8>,
    pub(crate) payload: Vec<u8>,
}

impl OtherSide {
    pub(crate) fn new(transport: Transport, address: SocketAddr, now: Instant) -> Self {
        let mut rtc = Rtc::builder().clear_codecs().enable_opus(true, false).set_ice_lite(true).build(now.into_std());
        let candidate = match transport {
            Transport::Udp => Candidate::builder().udp().host(address).build(),
            Transport::Tcp => Candidate::builder().tcp().host(address).tcptype(str0m::net::TcpType::Passive).build(),
        };
        rtc.add_local_candidate(candidate.unwrap());
        let (channels, received, outputs) = (Vec::new(), Vec::new(), VecDeque::new());
        let (mids, tracks, names, sound) = Default::default();
        Self { rtc, transport, address, channels, received, outputs, wake_at: now, mids, tracks, names, sound }
    }

    /// The answer to an offer. LiveKit's has no addresses, so they are cut out.
    pub(crate) fn answer(&mut self, offer: &Description) -> Description {
        self.read_sections(&offer.sdp);
        let answer = self.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&offer.sdp).unwrap()).unwrap();
        self.drain();
        let sdp = answer.to_sdp_string();
        let lines = sdp.split_inclusive("\r\n").filter(|line| !line.starts_with("a=candidate"));
        Description { id: offer.id, sdp: lines.collect() }
    }

    /// Keep the sections of sound of an offer, and what it calls the tracks that it sends. Those that it does not send have no name.
    fn read_sections(&mut self, sdp: &str) {
        self.names.clear();
        for section in sdp.split("\r\nm=").filter(|section| section.starts_with("audio")) {
            let value = |name: &str| section.lines().find_map(|line| line.strip_prefix(name));
            let mid = value("a=mid:").unwrap().to_owned();
            match value("a=msid:") {
                Some(msid) => drop(self.names.insert(mid.clone(), msid.split(' ').nth(1).unwrap().to_owned())),
                None => assert!(!section.contains("a=ssrc"), "a track without a name: {section}"),
            }
            assert_eq!(value("a=msid:").is_some(), section.contains("a=sendonly") || section.contains("a=sendrecv"));
            if !self.mids.iter().any(|other| **other == *mid) {
                self.mids.push(Mid::from(mid.as_str()));
            }
        }
    }

    /// The number of sections of sound.
    pub(crate) fn sections(&self) -> usize {
        self.mids.len()
    }

    /// Sections on which sound may be sent, and none is.
    pub(crate) fn free_sections(&self) -> Vec<String> {
        let is_free = |mid: &&Mid| {
            let media = self.rtc.media(**mid);
            media.is_some_and(|media| media.direction().is_sending()) && !self.tracks.contains_key(&***mid)
        };
        self.mids.iter().filter(is_free).map(|mid| mid.to_string()).collect()
    }

    /// Send a packet of Opus of a track. Whether it has a section.
    pub(crate) fn send_sound(&mut self, track_sid: &str, time: u64, payload: &[u8], now: Instant) -> bool {
        let Some((mid, _)) = self.tracks.iter().find(|(_, sid)| *sid == track_sid) else { return false };
        let Some(writer) = self.rtc.writer(Mid::from(mid.as_str())) else { return false };
        let Some(pt) = writer.payload_params().next().map(|params| params.pt()) else { return false };
        writer.write(pt, now.into_std(), MediaTime::new(time, Frequency::FORTY_EIGHT_KHZ), payload).unwrap();
        self.advance(now);
        true
    }

    /// The address, as LiveKit's `TrickleRequest` has it.
    pub(crate) fn candidate(&self) -> String {
        let (protocol, end) = match self.transport {
            Transport::Udp => ("udp", ""),
            Transport::Tcp => ("tcp", " tcptype passive"),
        };
        let (ip, port) = (self.address.ip(), self.address.port());
        let candidate = format!("candidate:1 1 {protocol} 2130706431 {ip} {port} typ host{end}");
        serde_json::json!({ "candidate": candidate, "sdpMid": "0" }).to_string()
    }

    pub(crate) fn receive(&mut self, datagram: &Datagram<Box<[u8]>>, now: Instant) {
        let protocol = protocol_of(datagram.transport);
        let receive = Receive::new(protocol, datagram.source, datagram.destination, &datagram.bytes).unwrap();
        self.rtc.handle_input(Input::Receive(now.into_std(), receive)).unwrap();
        self.drain();
    }

    pub(crate) fn advance(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now.into_std())).unwrap();
        self.drain();
    }

    /// Whether both channels are open.
    pub(crate) fn has_channels(&mut self) -> bool {
        let open = self.channels.iter().filter(|(id, _)| self.rtc.channel(*id).is_some());
        open.count() == 2
    }

    /// Whether the connection was not ended.
    pub(crate) fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// Send on the channel of this label.
    pub(crate) fn write(&mut self, label: &str, message: &[u8]) {
        let (id, _) = self.channels.iter().find(|(_, other)| other == label).unwrap();
        assert!(self.rtc.channel(*id).unwrap().write(true, message).unwrap());
        self.drain();
    }

    /// End the connection as a server does that removes a participant.
    pub(crate) fn close(&mut self) {
        self.rtc.close().unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => {
                    let never = Instant::from_std(at) + std::time::Duration::from_secs(3_600);
                    self.wake_at = if self.rtc.is_alive() { Instant::from_std(at) } else { never };
                    return;
                }
                Output::Transmit(transmit) => self.outputs.push_back(Datagram {
                    transport: self.transport,
                    source: transmit.source,
                    destination: transmit.destination,
                    bytes: Vec::from(transmit.contents).into(),
                }),
                Output::Event(Event::ChannelOpen(id, label)) => self.channels.push((id, label)),
                Output::Event(Event::ChannelData(data)) => {
                    let label = self.channels.iter().find(|(id, _)| *id == data.id).map(|(_, label)| label.clone());
                    self.received.push((label.unwrap(), data.data));
                }
                Output::Event(Event::MediaData(data)) => self.sound.push(SoundSeen {
                    at: Instant::from_std(data.network_time),
                    time: data.time.numer(),
                    level: data.ext_vals.audio_level,
                    payload: data.data.to_vec(),
                }),
                Output::Event(_) => {}
            }
        }
    }
}
