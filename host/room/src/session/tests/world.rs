//! A session and a server that speaks as LiveKit's does, in virtual time.

mod server;

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use prost::Message as _;
use tokio::time::Instant;
use wasm_worker_core::secret::Secret;

use crate::audio::codec::opus;
use crate::peer::Datagram;
use crate::session::{Session, SessionOutput};
use crate::signal::{LinkError, LinkRequest};
use server::Place;
use wasm_worker_core::room::command::{Command, SendOptions};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};

pub(super) use server::{person, track};

const OWN: &str = "192.0.2.1:5000";
const SERVER: &str = "192.0.2.9:7882";
const LATENCY: Duration = Duration::from_millis(5);

/// What a server does with those who dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Nothing listens.
    Closed,
    /// An answer by HTTP.
    Refuses(u16),
    /// The link opens, and nothing is said.
    Silent,
}

/// What a server does with offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offers {
    Answered,
    Ignored,
}

/// What the agent does with its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agent {
    TakesEvents,
    IsBusy,
}

/// Something on its way.
enum Parcel {
    Dial(u32, LinkRequest),
    Opened,
    Failed(LinkError),
    /// A message, on the link of this number.
    Message(u32, Vec<u8>),
    Lost(u32),
    Datagram(Datagram<Box<[u8]>>),
}

pub(super) struct World {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) events: Vec<RoomEvent>,
    pub(super) agent: Agent,
    /// Commands that wait until the room is left.
    commands: VecDeque<Command>,
    pub(super) door: Door,
    /// Whether datagrams get through.
    pub(super) has_path: bool,
    pub(super) place: Option<Place>,
    pub(super) people: Vec<proto::ParticipantInfo>,
    /// How the server answers a change of the agent's own participant.
    pub(super) answers: proto::request_response::Reason,
    /// Why the server refuses tracks of the agent.
    pub(super) refuses_tracks: Option<proto::request_response::Reason>,
    pub(super) offers: Offers,
    /// Tracks of the agent that are muted while it is away.
    pub(super) muted_own: Vec<String>,
    /// Every so many datagrams one is lost, in each direction; 0: none.
    pub(super) loss: usize,
    datagrams: usize,
    /// The number of tracks that the agent announced.
    own_tracks: u32,
    /// The session is not woken more often, as on a busy machine.
    pub(super) tick: Duration,
    woken_at: Instant,
    /// What the server was asked, but for pings.
    pub(super) requests: Vec<Request>,
    pub(super) dialled: Vec<proto::JoinRequest>,
    /// How often the connections of TCP were to be closed.
    pub(super) tcp_drops: u32,
    /// The number of the link that the server speaks on, and of the last one that was dialled.
    link: Option<u32>,
    links: u32,
    places: u32,
    to_session: VecDeque<(Instant, Parcel)>,
    to_server: VecDeque<(Instant, Parcel)>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::within(RoomLimits::default())
    }

    /// A world whose session has these limits.
    pub(super) fn within(limits: RoomLimits) -> Self {
        let now = Instant::now();
        let settings = RoomSettings {
            url: "ws://192.0.2.9:7880".into(),
            token: Secret("jwt".into()),
            name: "bot".into(),
            metadata: String::new(),
            attributes: vec![("lk.agent.state".into(), "initializing".into())],
            limits,
        };
        Self {
            session: Session::new(settings, "test".into(), 7, (now, 1_800_000_000_000), opus, Instant::now),
            now,
            events: Vec::new(),
            agent: Agent::TakesEvents,
            commands: VecDeque::new(),
            door: Door::Open,
            has_path: true,
            place: None,
            people: vec![person("PA_ann", "ann")],
            answers: proto::request_response::Reason::Ok,
            refuses_tracks: None,
            offers: Offers::Answered,
            muted_own: Vec::new(),
            loss: 0,
            datagrams: 0,
            own_tracks: 0,
            tick: Duration::ZERO,
            woken_at: now,
            requests: Vec::new(),
            dialled: Vec::new(),
            tcp_drops: 0,
            link: None,
            links: 0,
            places: 0,
            to_session: VecDeque::new(),
            to_server: VecDeque::new(),
        }
    }

    /// A world whose session has joined.
    pub(super) fn joined() -> Self {
        Self::new().join()
    }

    /// The same world, once its session has joined.
    pub(super) fn join(self) -> Self {
        let mut world = self;
        world.perform(Command::Connect { id: 1 });
        world.until(Duration::from_secs(5), |world| world.has_told(|event| *event == RoomEvent::Done(1)));
        world
    }

    /// Have the session perform a command, once the room is left where it is being left.
    pub(super) fn perform(&mut self, command: Command) {
        self.commands.push_back(command);
        self.perform_waiting();
    }

    fn perform_waiting(&mut self) {
        while !self.session.is_leaving()
            && let Some(command) = self.commands.pop_front()
        {
            self.session.perform(command, self.now);
        }
    }

    pub(super) fn send_text(&mut self, id: u32, text: &str) {
        let (topic, text) = ("lk.chat".into(), text.into());
        self.perform(Command::SendText { id, topic, text, options: SendOptions::default() });
    }

    /// Let time pass until something holds. Whether it does.
    pub(super) fn holds_within(&mut self, most: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + most;
        let (mut turns, mut turns_of) = (0, self.now);
        loop {
            turns = if turns_of == self.now { turns + 1 } else { 0 };
            turns_of = self.now;
            assert!(turns < 10_000, "time stands still: {:?}", self.session.wake_times());
            self.move_outputs();
            if holds(self) {
                return true;
            }
            let parcels = [self.to_session.front(), self.to_server.front()].into_iter().flatten().map(|(at, _)| *at);
            let server = self.place.as_ref().map(|place| place.peer.wake_at);
            let wakes = self.session.wake_at().map(|at| at.max(self.woken_at + self.tick));
            let next = parcels.chain(wakes).chain(server).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            self.deliver();
        }
    }

    pub(super) fn until(&mut self, most: Duration, holds: impl FnMut(&mut Self) -> bool) {
        assert!(self.holds_within(most, holds), "not within {most:?}: {:#?}", self.events);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.holds_within(time, |_| false);
    }

    pub(super) fn has_told(&self, is_it: impl Fn(&RoomEvent) -> bool) -> bool {
        self.events.iter().any(is_it)
    }

    /// How often the agent was told that it is in the room.
    pub(super) fn connections(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, RoomEvent::Connected { .. })).count()
    }

    fn post(&mut self, parcel: Parcel) {
        self.to_session.push_back((self.now + LATENCY, parcel));
    }

    fn move_outputs(&mut self) {
        self.perform_waiting();
        while let Some(output) = self.session.next_output() {
            let arrival = self.now + LATENCY;
            match output {
                SessionOutput::Dial(request) => {
                    self.links += 1;
                    self.to_server.push_back((arrival, Parcel::Dial(self.links, request)));
                }
                SessionOutput::Message(message) => {
                    self.to_server.push_back((arrival, Parcel::Message(self.links, message)));
                }
                // What was sent before arrives before.
                SessionOutput::HangUp => self.to_server.push_back((arrival, Parcel::Lost(self.links))),
                SessionOutput::Transmit(datagram) => {
                    if self.gets_through() {
                        self.to_server.push_back((arrival, Parcel::Datagram(datagram)));
                    }
                }
                SessionOutput::Reach { transport, .. } => {
                    self.session.take_local(transport, OWN.parse().unwrap(), self.now);
                }
                SessionOutput::DropTcp => self.tcp_drops += 1,
                SessionOutput::DropPaths => {}
            }
        }
        if self.agent == Agent::TakesEvents {
            self.events.extend(std::iter::from_fn(|| self.session.next_event()));
        }
        self.move_datagrams();
    }

    fn gets_through(&mut self) -> bool {
        self.datagrams += 1;
        self.has_path && (self.loss == 0 || !self.datagrams.is_multiple_of(self.loss))
    }

    fn move_datagrams(&mut self) {
        let Some(place) = &mut self.place else { return };
        while let Some(datagram) = place.peer.outputs.pop_front() {
            self.datagrams += 1;
            if self.has_path && (self.loss == 0 || !self.datagrams.is_multiple_of(self.loss)) {
                self.to_session.push_back((self.now + LATENCY, Parcel::Datagram(datagram)));
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((_, parcel)) = self.to_server.pop_front_if(|(at, _)| *at <= self.now) {
            self.deliver_to_server(parcel);
        }
        while let Some((_, parcel)) = self.to_session.pop_front_if(|(at, _)| *at <= self.now) {
            self.deliver_to_session(parcel);
            self.move_outputs();
        }
        if self.session.wake_at().is_some_and(|at| at.max(self.woken_at + self.tick) <= self.now) {
            self.woken_at = self.now;
            self.session.advance(self.now);
        }
        if let Some(place) = &mut self.place {
            if place.peer.wake_at <= self.now {
                place.peer.advance(self.now);
            }
            place.read_texts();
        }
        // A server removes who ended its connection.
        self.place = self.place.take().filter(|place| place.peer.is_alive());
    }

    fn deliver_to_session(&mut self, parcel: Parcel) {
        // The sockets of a session forget a link that was given up.
        let is_open = |link| link == self.links;
        match parcel {
            Parcel::Opened => self.session.link_opened(self.now),
            Parcel::Failed(error) => self.session.link_failed(error, self.now),
            Parcel::Message(link, message) if is_open(link) => self.session.receive_message(&message, self.now),
            Parcel::Lost(link) if is_open(link) => self.session.link_lost("cut", self.now),
            Parcel::Dial(..) | Parcel::Message(..) | Parcel::Lost(_) => {}
            Parcel::Datagram(Datagram { transport, source, destination, bytes }) => {
                let datagram = Datagram { transport, source, destination, bytes: bytes.as_ref() };
                self.session.receive(&datagram, self.now);
            }
        }
    }

    fn deliver_to_server(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Message(link, message) if self.link == Some(link) => {
                let request = proto::SignalRequest::decode(message.as_slice()).unwrap();
                self.answer(request.message.unwrap());
            }
            Parcel::Lost(link) if self.link == Some(link) => self.link = None,
            Parcel::Datagram(datagram) => {
                if let Some(place) = &mut self.place {
                    place.peer.receive(&datagram, self.now);
                }
                self.move_datagrams();
            }
            Parcel::Dial(link, request) => self.dial(link, &request),
            Parcel::Opened | Parcel::Failed(_) | Parcel::Message(..) | Parcel::Lost(_) => {}
        }
    }
}
