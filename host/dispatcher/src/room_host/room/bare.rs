//! A hosted room without sockets, fed with bytes. The fuzz targets drive it; the program does not.
//!
//! Its clock stands still but for `pass`.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use proto::signal_request::Message as Request;
use tokio::time::Instant;

use super::{Entrant, Room, RoomOutput};
use crate::clock::Moment;
use crate::keys::{Caller, Person};
use crate::room_host::limits::{FACTS_BYTES_MAX, MEMBERS_MAX, RESUME_WITHIN, ROOM_TRACKS_MAX};
use crate::room_host::member::{LinkId, MemberId, PeerId, Side};
use crate::room_host::peer::{Channel, is_stun};

/// The port of the host.
const PORT: u16 = 7_882;
/// Most calls of `advance` at one moment.
const WAKES_MAX: usize = 1_000;
/// Most messages and datagrams that one input leads to.
const OUTPUTS_MAX: usize = 10_000;

/// A hosted room, whose clients are what a test says. None of them sees the checks of the host, so that none proves where it is. Numbers of
/// links and participants go round those that there are.
pub struct BareRoomHost {
    room: Room,
    now: Moment,
    last_link: u64,
    open: BTreeSet<LinkId>,
    /// What leads to the peers.
    ways: HashSet<(String, PeerId)>,
}

impl Default for BareRoomHost {
    fn default() -> Self {
        let info = proto::Room { name: "lobby".into(), sid: "RM_1".into(), ..Default::default() };
        let (room, now) = (Room::new(info, PORT, 7), Moment::now());
        Self { room, now, last_link: 0, open: BTreeSet::new(), ways: HashSet::new() }
    }
}

impl BareRoomHost {
    /// Somebody asks to enter with a new link, for the first time or again.
    pub fn enter(&mut self, identity: &str, grants: VideoGrants, has_second_peer: bool, request: proto::JoinRequest) {
        let person = Person { identity: identity.into(), ..Person::default() };
        let room_config = proto::RoomConfiguration::default();
        let caller = Caller { api_key: "key".into(), grants, person, room_config, expires_s: 0 };
        let (request, local) = (Box::new(request), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let entrant = Entrant { caller, request, local, public: None, has_second_peer };
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.open.insert(link);
        if self.room.enter(entrant, link, self.now).is_err() {
            self.open.remove(&link);
        }
        self.perform();
    }

    /// A link brings a message. What is none ends the link.
    pub fn receive(&mut self, link: usize, message: &[u8]) {
        match (self.link(link), proto::SignalRequest::decode(message)) {
            (Some(link), Ok(request)) => self.room.receive(link, request, self.now),
            (Some(_), Err(_)) => self.lose_link(link),
            (None, _) => {}
        }
        self.perform();
    }

    /// A link brings a request.
    pub fn request(&mut self, link: usize, request: Request) {
        self.receive(link, &proto::SignalRequest { message: Some(request) }.encode_to_vec());
    }

    /// A link ends without a word.
    pub fn lose_link(&mut self, link: usize) {
        if let Some(link) = self.link(link) {
            self.open.remove(&link);
            self.room.link_lost(link, self.now);
            self.perform();
        }
    }

    /// A participant sends a packet.
    pub fn packet(&mut self, participant: usize, is_reliable: bool, packet: &[u8]) {
        if let Some(member) = self.member(participant) {
            let channel = if is_reliable { Channel::Reliable } else { Channel::Lossy };
            self.room.forward(member, channel, packet, self.now);
            self.room.settle(self.now);
            self.perform();
        }
    }

    /// A datagram for a peer comes from this port.
    pub fn datagram(&mut self, participant: usize, is_second: bool, port: u16, bytes: &[u8]) {
        if let Some(member) = self.member(participant) {
            let peer = PeerId(member, if is_second { Side::Second } else { Side::First });
            self.room.datagram(peer, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), bytes, self.now);
            self.perform();
        }
    }

    /// A caller of the API puts a participant out.
    pub fn remove_participant(&mut self, identity: &str) {
        self.room.remove_participant(identity, self.now);
        self.perform();
    }

    /// A caller of the API changes a participant.
    pub fn update_participant(&mut self, request: &proto::UpdateParticipantRequest) {
        drop(self.room.update_participant(request, self.now));
        self.perform();
    }

    /// A caller of the API mutes a track.
    pub fn mute_track(&mut self, request: &proto::MuteRoomTrackRequest) {
        drop(self.room.mute_track(request, self.now));
        self.perform();
    }

    /// A caller of the API chooses what a participant hears.
    pub fn subscribe(&mut self, request: proto::UpdateSubscriptionsRequest) {
        self.room.subscribe(request);
        self.perform();
    }

    /// A caller of the API sends data.
    pub fn send_data(&mut self, request: proto::SendDataRequest) {
        self.room.send_data(request, self.now).ok();
        self.perform();
    }

    /// The participants that others see.
    pub fn participants(&self) -> Vec<proto::ParticipantInfo> {
        self.room.participants()
    }

    /// Time passes, and everything happens that is due.
    ///
    /// # Panics
    /// When the room wants to be woken at one moment for ever.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        let mut wakes = 0;
        while let Some(due) = self.room.wake_at().filter(|due| *due <= end) {
            wakes = if due > self.now.at { 0 } else { wakes + 1 };
            assert!(wakes < WAKES_MAX, "the room wants to be woken for ever");
            self.go_to(due);
            self.room.advance(self.now);
            self.perform();
        }
        self.go_to(end);
    }

    /// Everybody loses the link and does not come back.
    ///
    /// # Panics
    /// When something is left of them.
    pub fn empty(mut self) {
        while !self.open.is_empty() {
            self.lose_link(0);
        }
        self.pass(RESUME_WITHIN * 4);
        assert!(!self.room.is_occupied(), "somebody is left");
        assert!(self.ways.is_empty(), "something leads to those who left: {:?}", self.ways);
        assert_eq!(self.room.wake_at(), None, "something is due in an empty room");
    }

    fn go_to(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.now.at);
        self.now = Moment { at: self.now.at + passed, wall_ns: self.now.wall_ns_after(passed) };
    }

    fn link(&self, number: usize) -> Option<LinkId> {
        self.open.iter().nth(number.checked_rem(self.open.len())?).copied()
    }

    fn member(&self, number: usize) -> Option<MemberId> {
        self.room.members.keys().nth(number.checked_rem(self.room.members.len())?).copied()
    }

    /// Do what the room asks for, and check it.
    fn perform(&mut self) {
        let mut count = 0;
        while let Some(output) = self.room.next_output() {
            count += 1;
            match output {
                RoomOutput::Send { links, .. } => {
                    assert!(links.iter().all(|link| self.open.contains(link)), "a message on a link that is closed");
                }
                RoomOutput::Token { link, .. } => {
                    assert!(self.open.contains(&link), "a token on a link that is closed");
                }
                RoomOutput::Close { link } => assert!(self.open.remove(&link), "a link is closed twice"),
                RoomOutput::Transmit { destination, bytes } => {
                    assert!(is_stun(&bytes), "more than a check goes to {destination}, and nobody proved to be there");
                }
                RoomOutput::Name { name, peer } => {
                    self.ways.insert((name, peer));
                }
                RoomOutput::Question { question, peer } => {
                    self.ways.insert((format!("{question:?}"), peer));
                }
                RoomOutput::Address { address, peer, is_proven } => {
                    assert!(!is_proven, "{address} is taken for proven without an answer to a check of the host");
                    self.ways.insert((address.to_string(), peer));
                }
                RoomOutput::ForgetName { name, peer } => {
                    self.ways.remove(&(name, peer));
                }
                RoomOutput::ForgetQuestion { question, peer } => {
                    self.ways.remove(&(format!("{question:?}"), peer));
                }
                RoomOutput::ForgetAddress { address, peer } => {
                    self.ways.remove(&(address.to_string(), peer));
                }
                RoomOutput::Event(_) => {}
            }
        }
        assert!(count <= OUTPUTS_MAX, "{count} outputs of one input");
        let tracks: usize = self.room.members.values().map(|member| member.tracks.published().count()).sum();
        let (members, facts) = (self.room.members.len(), self.room.facts_bytes());
        assert!(members <= MEMBERS_MAX && tracks <= ROOM_TRACKS_MAX && facts <= FACTS_BYTES_MAX);
    }
}
