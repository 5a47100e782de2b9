//! A room, its clients, and a network of virtual time between them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::data_packet::Value;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use tokio::time::Instant;
use wasm_worker_core::event::HostedEvent;

use super::client::Client;
use crate::clock::Moment;
use crate::keys::{Caller, Person};
use crate::room_host::member::{LinkId, MemberId, PeerId, Side};
use crate::room_host::room::{Entrant, Refusal, Room, RoomOutput};

/// The port of the host.
const PORT: u16 = 7_882;

/// A room, its clients, and the network between them.
pub(super) struct World {
    pub(super) room: Room,
    pub(super) now: Moment,
    clients: HashMap<&'static str, Client>,
    /// The clients' sides of second peers.
    pub(super) seconds: HashMap<&'static str, Client>,
    peers: HashMap<SocketAddr, PeerId>,
    /// Clients whose datagrams are lost in both directions.
    cut: HashSet<SocketAddr>,
    messages: HashMap<LinkId, Vec<Response>>,
    pub(super) closed: HashSet<LinkId>,
    last_link: u64,
    sequences: HashMap<&'static str, u32>,
    /// The addresses that members were said to have, and whether they had proved it.
    pub(super) claims: Vec<(SocketAddr, MemberId, bool)>,
    /// The last check of the path of each client.
    pub(super) checks: HashMap<SocketAddr, Vec<u8>>,
    /// What was sent to addresses where no client is.
    pub(super) stray: Vec<(SocketAddr, Vec<u8>)>,
    /// What observers were told.
    pub(super) events: Vec<HostedEvent>,
    /// The addresses that members have no longer.
    pub(super) forgotten: Vec<(SocketAddr, MemberId)>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(proto::Room { name: "lobby".into(), sid: "RM_1".into(), ..Default::default() })
    }

    pub(super) fn with(info: proto::Room) -> Self {
        Self {
            room: Room::new(info, PORT, 7),
            now: Moment { at: Instant::now(), wall_ns: 1_700_000_000_000_000_000 },
            clients: HashMap::new(),
            seconds: HashMap::new(),
            peers: HashMap::new(),
            cut: HashSet::new(),
            messages: HashMap::new(),
            closed: HashSet::new(),
            last_link: 0,
            sequences: HashMap::new(),
            claims: Vec::new(),
            checks: HashMap::new(),
            stray: Vec::new(),
            events: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// Join with a peer, and wait until the data channels are open.
    pub(super) fn joined(&mut self, identity: &'static str) -> LinkId {
        self.joined_as(caller(identity))
    }

    pub(super) fn joined_as(&mut self, caller: Caller) -> LinkId {
        self.joined_with(caller, ["_reliable", "_lossy"])
    }

    /// The same, with data channels of these labels.
    pub(super) fn joined_with(&mut self, caller: Caller, labels: [&str; 2]) -> LinkId {
        let identity: &'static str = caller.person.identity.clone().leak();
        let number = u8::try_from(self.last_link + 1).unwrap();
        let (client, sdp) = Client::new(number, labels, self.now.at);
        let offer = proto::SessionDescription { r#type: "offer".into(), sdp, id: 1, ..Default::default() };
        self.clients.insert(identity, client);
        self.sequences.remove(identity);
        let settings = proto::ConnectionSettings { auto_subscribe: true, ..Default::default() };
        let (publisher_offer, connection_settings) = (Some(offer), Some(settings));
        let request = proto::JoinRequest { publisher_offer, connection_settings, ..Default::default() };
        let link = self.enter(caller, request).unwrap();
        let answer = self.messages[&link].iter().find_map(|message| match message {
            Response::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        });
        self.answered(identity, &answer.expect("an answer"));
        self.run(Duration::from_secs(2));
        link
    }

    pub(super) fn enter(&mut self, caller: Caller, request: proto::JoinRequest) -> Result<LinkId, Refusal> {
        let identity = caller.person.identity.as_str();
        let address = self.clients.get(identity).map(|client| client.address);
        let has_second_peer = self.seconds.contains_key(identity);
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.messages.insert(link, Vec::new());
        let (request, local) = (Box::new(request), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let entrant = Entrant { caller, request, local, public: None, has_second_peer };
        let entered = self.room.enter(entrant, link, self.now);
        self.perform(address);
        entered.map(|()| link)
    }

    /// Come back with a new link.
    pub(super) fn resume(&mut self, identity: &'static str, sid: &str) -> LinkId {
        self.resume_as(caller(identity), sid)
    }

    pub(super) fn resume_as(&mut self, caller: Caller, sid: &str) -> LinkId {
        let participant_sid = sid.to_owned();
        let request = proto::JoinRequest { reconnect: true, participant_sid, ..Default::default() };
        self.enter(caller, request).unwrap()
    }

    /// The number of participants, agents and hidden ones too.
    pub(super) fn occupants(&self) -> usize {
        self.room.members.len()
    }

    pub(super) fn client(&mut self, identity: &str) -> &mut Client {
        self.clients.get_mut(identity).unwrap()
    }

    /// The client's side of the peer on which it gets texts and sound.
    pub(super) fn getting(&mut self, identity: &str) -> &mut Client {
        self.seconds.get_mut(identity).or_else(|| self.clients.get_mut(identity)).unwrap()
    }

    fn all_clients(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.values_mut().chain(self.seconds.values_mut())
    }

    pub(super) fn answered(&mut self, identity: &str, sdp: &str) {
        self.client(identity).answered(sdp);
    }

    /// Lose the datagrams of a client, or no longer.
    pub(super) fn cut(&mut self, identity: &str, is_cut: bool) {
        let address = self.client(identity).address;
        self.cut_address(address, is_cut);
    }

    pub(super) fn cut_address(&mut self, address: SocketAddr, is_cut: bool) {
        if is_cut {
            self.cut.insert(address)
        } else {
            self.cut.remove(&address)
        };
    }

    pub(super) fn signal(&mut self, link: LinkId, request: Request) {
        self.room.receive(link, proto::SignalRequest { message: Some(request) }, self.now);
        self.perform(None);
    }

    /// An offer of a client, whose answer belongs to its peer.
    pub(super) fn offer(&mut self, identity: &str, link: LinkId, sdp: String) {
        let address = Some(self.client(identity).address);
        let offer = proto::SessionDescription { r#type: "offer".into(), sdp, id: 2, ..Default::default() };
        let offer = proto::SignalRequest { message: Some(Request::Offer(offer)) };
        self.room.receive(link, offer, self.now);
        self.perform(address);
    }

    pub(super) fn lose_link(&mut self, link: LinkId) {
        self.closed.insert(link);
        self.room.link_lost(link, self.now);
        self.perform(None);
    }

    /// Send a packet with the next number.
    pub(super) fn send(&mut self, identity: &'static str, topic: &str, payload: Vec<u8>) {
        assert!(self.try_send(identity, topic, payload));
    }

    /// The same. Returns whether the client's own buffer had space.
    pub(super) fn try_send(&mut self, identity: &'static str, topic: &str, payload: Vec<u8>) -> bool {
        let sequence = self.sequences.get(identity).copied().unwrap_or_default() + 1;
        let is_sent = self.send_numbered(identity, sequence, topic, payload);
        if is_sent {
            self.sequences.insert(identity, sequence);
        }
        is_sent
    }

    pub(super) fn send_numbered(&mut self, identity: &str, sequence: u32, topic: &str, payload: Vec<u8>) -> bool {
        let user = proto::UserPacket { topic: Some(topic.into()), payload, ..Default::default() };
        let packet = proto::DataPacket { sequence, value: Some(Value::User(user)), ..Default::default() };
        let client = self.client(identity);
        let id = if topic == "lossy" { client.lossy } else { client.reliable };
        let is_sent = client.rtc.channel(id).unwrap().write(true, &packet.encode_to_vec()).unwrap();
        client.drain();
        is_sent
    }

    /// Let time pass, and what is sent arrive.
    pub(super) fn run(&mut self, time: Duration) {
        let (step, end) = (Duration::from_millis(10), self.now.at + time);
        while self.now.at < end {
            self.now = Moment { at: self.now.at + step, wall_ns: self.now.wall_ns_after(step) };
            let now = self.now.at;
            self.all_clients().for_each(|client| client.advance(now));
            self.deliver();
            if self.room.wake_at().is_some_and(|due| due <= self.now.at) {
                self.room.advance(self.now);
            }
            self.perform(None);
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        let mut datagrams = Vec::new();
        for client in self.all_clients() {
            datagrams.extend(client.outbox.drain(..).map(|(_, bytes)| (client.address, bytes)));
        }
        datagrams.retain(|(source, _)| !self.cut.contains(source));
        // In the order in which they joined.
        datagrams.sort_by_key(|(source, _)| *source);
        for (source, bytes) in datagrams {
            if bytes.starts_with(&[0, 1]) {
                self.checks.insert(source, bytes.clone());
            }
            if let Some(peer) = self.peers.get(&source) {
                self.room.datagram(*peer, source, &bytes, self.now);
                self.perform(None);
            }
        }
    }

    /// Do what the room asks for. A name of a peer leads to the client with this address.
    pub(super) fn perform(&mut self, address: Option<SocketAddr>) {
        while let Some(output) = self.room.next_output() {
            match output {
                RoomOutput::Send { links, message } => {
                    for link in links {
                        assert!(!self.closed.contains(&link), "a message on a closed link");
                        self.messages.get_mut(&link).unwrap().push(message.message.clone().unwrap());
                    }
                }
                RoomOutput::Token { link, caller } => {
                    let token = Response::RefreshToken(format!("{:?}", caller.person));
                    self.messages.get_mut(&link).unwrap().push(token);
                }
                RoomOutput::Close { link } => assert!(self.closed.insert(link), "a link is closed twice"),
                RoomOutput::Transmit { destination, bytes } => {
                    let (source, now) = (SocketAddr::from(([127, 0, 0, 1], PORT)), self.now.at);
                    if self.cut.contains(&destination) {
                        continue;
                    }
                    if let Some(client) = self.all_clients().find(|client| client.address == destination) {
                        client.receive(source, &bytes, now);
                    } else {
                        self.stray.push((destination, bytes));
                    }
                }
                RoomOutput::Name { peer, .. } => {
                    let address = match peer.1 {
                        Side::First => address,
                        Side::Second => self.address_of_second(peer.0),
                    };
                    self.peers.extend(address.map(|address| (address, peer)));
                }
                RoomOutput::Address { address, peer, is_proven } => self.claims.push((address, peer.0, is_proven)),
                RoomOutput::Event(event) => self.events.push(*event),
                RoomOutput::ForgetAddress { address, peer } => self.forgotten.push((address, peer.0)),
                RoomOutput::Question { .. } | RoomOutput::ForgetQuestion { .. } | RoomOutput::ForgetName { .. } => {}
            }
        }
    }

    fn address_of_second(&self, member: MemberId) -> Option<SocketAddr> {
        let member = self.room.members.get(&member)?;
        self.seconds.get(member.identity()).map(|client| client.address)
    }

    /// All links, the oldest first.
    pub(super) fn links(&self) -> Vec<LinkId> {
        (1..=self.last_link).map(LinkId).collect()
    }

    /// The messages on a link since the last call.
    pub(super) fn take(&mut self, link: LinkId) -> Vec<Response> {
        std::mem::take(self.messages.get_mut(&link).unwrap())
    }

    /// Have the next call return these messages too.
    pub(super) fn give_back(&mut self, link: LinkId, messages: Vec<Response>) {
        self.messages.get_mut(&link).unwrap().splice(..0, messages);
    }

    /// The texts that a client has received since the last call, each with its sender.
    pub(super) fn texts(&mut self, identity: &str) -> Vec<(String, String)> {
        let packets = std::mem::take(&mut self.getting(identity).received);
        let text = |packet: proto::DataPacket| {
            let Some(Value::User(user)) = packet.value else { panic!("another packet") };
            (packet.participant_identity, String::from_utf8_lossy(&user.payload).into_owned())
        };
        packets.into_iter().map(text).collect()
    }
}

/// The caller of a token with the usual grants.
pub(super) fn caller(identity: &str) -> Caller {
    let grants = livekit_token::VideoGrants {
        room_join: true,
        room: "lobby".into(),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    let person = Person { identity: identity.into(), ..Person::default() };
    Caller { api_key: "key".into(), grants, person, room_config: Default::default(), expires_s: 0 }
}
