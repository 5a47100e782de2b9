//! A hosted room: its participants, their signalling, their data and their sound. Pure: the task of the room has the sockets.
//!
//! Every participant has one link, and one peer, on which the client offers and the room answers. Where the client has two peer
//! connections, there is a second peer, on which the room offers and the client gets texts and sound. A participant whose link is lost
//! keeps its peers for [`RESUME_WITHIN`](super::limits::RESUME_WITHIN) and comes back with a new link.
//!
//! Bounds: [`MEMBERS_MAX`](super::limits::MEMBERS_MAX) participants, their facts by [`FACTS_BYTES_MAX`], what waits for one by its
//! `Outbox`, what is kept for resumptions by `History` and `Departures`; sound by its tracks, and by a rate of the room.

mod answers;

mod departures;

mod leaving;

mod hearing;

mod offers;

mod publishing;

mod facts;

mod happenings;

mod sound;

mod timers;

mod entry;

mod data;

mod signals;

pub mod bare;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_response::Message as Response;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;
use wasm_worker_core::event::HostedEvent;

use super::claims::is_dependent;
use super::history::History;
use super::limits::FACTS_BYTES_MAX;
use super::member::{LinkId, Member, MemberId, PeerId, Side};
use super::pace::Pace;
use super::peer::{Peer, PeerOutput, is_stun};
use super::ways::Question;
use crate::clock::Moment;
use crate::keys::Caller;
use departures::Departures;
pub(crate) use entry::{Entrant, Refusal};
pub(super) use facts::FactsError;
pub(super) use happenings::room_event;
pub(crate) use publishing::MuteError;

/// What a room asks for.
#[derive(Debug)]
pub(super) enum RoomOutput {
    /// Send a message on these links.
    Send { links: Vec<LinkId>, message: Box<proto::SignalResponse> },
    /// Send a new token for this caller on a link.
    Token { link: LinkId, caller: Box<Caller> },
    /// Close a link, after the messages before.
    Close { link: LinkId },
    /// Send a datagram.
    Transmit { destination: SocketAddr, bytes: Vec<u8> },
    /// Datagrams for this name are a peer's.
    Name { name: String, peer: PeerId },
    /// The answer to this check of the host is a peer's.
    Question { question: Question, peer: PeerId },
    /// Datagrams from this address are a peer's. A client that has not proved it may have forged the address.
    Address { address: SocketAddr, peer: PeerId, is_proven: bool },
    /// The answer to a check is no peer's any more.
    ForgetQuestion { question: Question, peer: PeerId },
    /// A name leads to this peer no longer.
    ForgetName { name: String, peer: PeerId },
    /// Tell the observers.
    Event(Box<HostedEvent>),
    /// An address leads to this peer no longer.
    ForgetAddress { address: SocketAddr, peer: PeerId },
}

/// One room.
pub(super) struct Room {
    /// The room as the dispatcher has it; the numbers of participants are added in answers.
    info: proto::Room,
    /// The port of the host's datagrams.
    port: u16,
    members: BTreeMap<MemberId, Member>,
    by_link: HashMap<LinkId, MemberId>,
    last_member: u64,
    last_track: u64,
    history: History,
    rng: StdRng,
    outputs: VecDeque<RoomOutput>,
    /// Participants whose peers may have something to say.
    touched: BTreeSet<MemberId>,
    departures: Departures,
    /// The number of participants that all know, but for those who came later.
    told_people: usize,
    /// When all are told of another number, once there may be one.
    people_due: Option<Instant>,
    /// When the levels of those who speak are due.
    levels_due: Option<Instant>,
    /// The packets with sound of all participants to all.
    sound_pace: Pace,
    /// Those whose clients may have to be asked for lines.
    to_ask: BTreeSet<MemberId>,
}

impl Room {
    pub(super) fn new(info: proto::Room, port: u16, seed: u64) -> Self {
        Self {
            info,
            port,
            members: BTreeMap::new(),
            by_link: HashMap::new(),
            last_member: 0,
            last_track: 0,
            history: History::default(),
            rng: StdRng::seed_from_u64(seed),
            outputs: VecDeque::new(),
            touched: BTreeSet::new(),
            departures: Departures::default(),
            told_people: 0,
            people_due: None,
            levels_due: None,
            sound_pace: Pace::default(),
            to_ask: BTreeSet::new(),
        }
    }

    /// The next output.
    pub(super) fn next_output(&mut self) -> Option<RoomOutput> {
        self.outputs.pop_front()
    }

    /// The number of participants, but for those who serve the others. As in LiveKit's server, this is the number that is told and
    /// that has a limit, and a room without one of them ends.
    pub(super) fn people(&self) -> usize {
        self.members.values().filter(|member| !is_dependent(&member.caller)).count()
    }

    /// Whether somebody is there.
    pub(super) fn is_occupied(&self) -> bool {
        !self.members.is_empty()
    }

    /// The participants that others see.
    pub(super) fn participants(&self) -> Vec<proto::ParticipantInfo> {
        self.members.values().filter(|member| !member.permission.hidden).map(Member::info).collect()
    }

    /// A datagram for a peer came.
    pub(super) fn datagram(&mut self, id: PeerId, source: SocketAddr, bytes: &[u8], now: Moment) {
        if let Some(peer) = self.peer_mut(id) {
            peer.receive(source, bytes, now.at);
            self.touched.insert(id.0);
        }
        self.settle(now);
    }

    /// The room as clients see it.
    fn to_proto(&self) -> proto::Room {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let is_publisher = |member: &&Member| member.tracks.published().next().is_some();
        proto::Room {
            num_participants: count(self.people()),
            num_publishers: count(self.members.values().filter(is_publisher).count()),
            ..self.info.clone()
        }
    }

    /// The metadata and attributes of all participants, in bytes.
    fn facts_bytes(&self) -> usize {
        self.members.values().map(|member| member.caller.person.bytes()).sum()
    }

    /// Whether a participant may have this much in the place of what it has.
    fn has_space_for(&self, bytes: usize, former_bytes: usize) -> bool {
        self.facts_bytes() - former_bytes + bytes <= FACTS_BYTES_MAX
    }

    fn peer_mut(&mut self, PeerId(member, side): PeerId) -> Option<&mut Peer> {
        self.members.get_mut(&member)?.peer_mut(side)
    }

    fn member_of(&self, identity: &str) -> Option<MemberId> {
        self.members.iter().find(|(_, member)| member.identity() == identity).map(|(id, _)| *id)
    }

    /// Act on everything that the peers ask for, and ask the clients.
    fn settle(&mut self, now: Moment) {
        self.take_peer_outputs(now);
        self.ask_for_lines(now);
        // An offer has a peer act too.
        self.take_peer_outputs(now);
    }

    fn take_peer_outputs(&mut self, now: Moment) {
        while let Some(id) = self.touched.pop_first() {
            for peer in [Side::First, Side::Second].map(|side| PeerId(id, side)) {
                while let Some(output) = self.peer_mut(peer).and_then(Peer::next_output) {
                    self.on_peer_output(peer, output, now);
                }
            }
        }
    }

    fn on_peer_output(&mut self, peer: PeerId, output: PeerOutput, now: Moment) {
        let PeerId(id, side) = peer;
        let gets = |room: &Self| room.members.get(&id).is_some_and(|member| member.getting_side() == side);
        match output {
            PeerOutput::Transmit { destination, bytes } => self.transmit(peer, destination, bytes),
            PeerOutput::Asked { question } => self.asked(peer, question),
            PeerOutput::Proved { address } => self.claim(peer, address, true),
            PeerOutput::Closed { why } => self.peer_over(id, &why, now),
            PeerOutput::Found if gets(self) => self.path_found(id),
            PeerOutput::Lost if gets(self) => self.path_lost(id, now),
            PeerOutput::Ready if gets(self) => self.ready(id, now),
            PeerOutput::Writable if gets(self) => self.pump(id, now),
            // The client of two looks by itself for a new path of what it sends.
            PeerOutput::Lost => self.doubt(peer),
            PeerOutput::Message { channel, bytes } if side == Side::First => self.forward(id, channel, &bytes, now),
            PeerOutput::Sound(sound) if side == Side::First => self.forward_sound(id, &sound, now),
            PeerOutput::Found
            | PeerOutput::Ready
            | PeerOutput::Writable
            | PeerOutput::Message { .. }
            | PeerOutput::Sound(_) => {}
        }
    }

    /// Send a datagram. After the answer to a check, datagrams from there find the peer: who sent the check knows the secret of the
    /// answer. Every check says so again, because another participant may have claimed the address in between.
    fn transmit(&mut self, peer: PeerId, destination: SocketAddr, bytes: Vec<u8>) {
        if is_stun(&bytes) {
            self.claim(peer, destination, false);
        }
        self.outputs.push_back(RoomOutput::Transmit { destination, bytes });
    }

    /// A participant is said to be at an address, or has proved it.
    fn claim(&mut self, peer: PeerId, address: SocketAddr, is_proven: bool) {
        let Some(found) = self.peer_mut(peer) else { return };
        let forgotten = found.ways.add_address(address, is_proven);
        self.outputs.extend(forgotten.map(|address| RoomOutput::ForgetAddress { address, peer }));
        self.outputs.push_back(RoomOutput::Address { address, peer, is_proven });
    }

    /// The host has told the client of a peer this name.
    fn told_name(&mut self, peer: PeerId, name: String) {
        let Some(found) = self.peer_mut(peer) else { return };
        let (is_new, forgotten) = found.ways.add_name(&name);
        self.outputs.extend(forgotten.map(|name| RoomOutput::ForgetName { name, peer }));
        if is_new {
            self.outputs.push_back(RoomOutput::Name { name, peer });
        }
    }

    /// The host asks a participant for the proof that it is at an address.
    fn asked(&mut self, peer: PeerId, question: Question) {
        let Some(found) = self.peer_mut(peer) else { return };
        let (is_new, forgotten) = found.ways.add_question(question);
        self.outputs.extend(forgotten.map(|question| RoomOutput::ForgetQuestion { question, peer }));
        if is_new {
            self.outputs.push_back(RoomOutput::Question { question, peer });
        }
    }

    /// Send a message on one link.
    fn send(&mut self, link: LinkId, message: Response) {
        let message = Box::new(proto::SignalResponse { message: Some(message) });
        self.outputs.push_back(RoomOutput::Send { links: vec![link], message });
    }

    /// Send a message to a participant, if its link is open.
    fn tell(&mut self, id: MemberId, message: Response) {
        if let Some(link) = self.members.get(&id).and_then(Member::open_link) {
            self.send(link, message);
        }
    }

    /// Send a message to every participant but one.
    fn tell_others(&mut self, but: Option<MemberId>, message: Response) {
        let others = self.members.iter().filter(|(id, _)| Some(**id) != but);
        let links: Vec<LinkId> = others.filter_map(|(_, member)| member.open_link()).collect();
        if !links.is_empty() {
            let message = Box::new(proto::SignalResponse { message: Some(message) });
            self.outputs.push_back(RoomOutput::Send { links, message });
        }
    }

    /// Tell everybody who may see it about a participant, now or soon.
    fn tell_changed(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let info = member.info();
        if !member.told.tells_facts(info.encoded_len(), now.at) {
            return;
        }
        let update = Response::Update(proto::ParticipantUpdate { participants: vec![info] });
        if member.permission.hidden {
            self.tell(id, update);
        } else {
            self.tell_others(None, update);
        }
    }
}
