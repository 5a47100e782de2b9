//! People in rooms by our own room crate, in the process of the test. They come back to a room as agents do, and cost little, so that a
//! test can have many.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::http::Uri;
use wasm_worker_core::room::command::{Command, SendOptions};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::people::{Participant, ParticipantKind, ParticipantState};
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};

use super::harness::eventually;
use super::rooms::token;

const ROOMS_MAX: usize = 1_000;
const TOPIC: &str = "lk.chat";
/// The operations of a person.
const JOIN: u32 = 1;
const SAY: u32 = 2;

/// The threads of all people of a test. They leave without a farewell with this value.
pub(crate) struct OwnPeople {
    rooms: Rooms,
    /// Reads what happens to them.
    runtime: Runtime,
}

/// Somebody in a room.
pub(crate) struct OwnPerson {
    pub(crate) room_name: String,
    room: Arc<Room>,
    seen: Arc<Mutex<Seen>>,
}

/// Everything that a person knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) is_in: bool,
    /// How often the connection to the room was lost.
    pub(crate) losses: usize,
    /// The identities of the agents that texts reach.
    pub(crate) agents: BTreeSet<String>,
    pub(crate) texts: Vec<String>,
    /// Failures, and the end of the stay.
    pub(crate) faults: Vec<String>,
}

/// Connects without names, proxies and TLS.
struct Plain;

impl Connect for Plain {
    fn connect(&self, url: &Uri) -> Connecting {
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

impl OwnPeople {
    pub(crate) fn start() -> Self {
        let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: ROOMS_MAX }, Arc::new(Plain)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { rooms, runtime }
    }

    /// Have somebody of this identity join a room. The join is not waited for.
    pub(crate) fn join(&self, url: &str, room_name: &str, identity: &str) -> OwnPerson {
        let settings = RoomSettings {
            url: url.into(),
            token: Secret(token(room_name, identity)),
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
            limits: RoomLimits::default(),
        };
        let room = Arc::new(self.rooms.open(settings).unwrap());
        room.try_perform(Command::Connect { id: JOIN }).unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let (events, keeps) = (room.clone(), seen.clone());
        self.runtime.spawn(async move {
            while let Some(event) = events.next().await {
                keeps.lock().unwrap_or_else(PoisonError::into_inner).keep(event);
            }
        });
        OwnPerson { room_name: room_name.into(), room, seen }
    }
}

impl Seen {
    fn keep(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Connected { .. } => self.is_in = true,
            RoomEvent::Reconnecting => {
                self.is_in = false;
                self.losses += 1;
            }
            RoomEvent::Disconnected { reason, message } => {
                self.is_in = false;
                self.faults.push(format!("disconnected: {}: {message}", reason.as_str()));
            }
            RoomEvent::Failed(failure) => self.faults.push(format!("{}: {}", failure.code, failure.message)),
            RoomEvent::ParticipantJoined(who) | RoomEvent::ParticipantChanged { participant: who, .. }
                if is_active_agent(&who) =>
            {
                self.agents.insert(who.identity);
            }
            RoomEvent::ParticipantLeft { participant, .. } => {
                self.agents.remove(&participant.identity);
            }
            RoomEvent::Text { text, .. } => self.texts.push(text),
            _ => {}
        }
    }

    /// The agent, while the person is in the room with exactly one.
    pub(crate) fn agent(&self) -> Option<&str> {
        let agent = self.agents.first().filter(|_| self.is_in && self.agents.len() == 1)?;
        Some(agent)
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.texts.iter().filter(|heard| *heard == text).count()
    }
}

fn is_active_agent(who: &Participant) -> bool {
    who.kind == ParticipantKind::Agent && who.state == ParticipantState::Active
}

impl OwnPerson {
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wait until what it knows is so, and return that.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, is_so: impl Fn(&Seen) -> Option<T>) -> T {
        eventually(&format!("{what} in `{}`", self.room_name), || {
            let seen = self.seen();
            assert!(seen.faults.is_empty(), "`{}`: {seen:?}", self.room_name);
            is_so(&seen)
        })
    }

    /// Say a text, and wait until it is answered by this text.
    #[track_caller]
    pub(crate) fn asks(&self, text: &str, answer: &str) {
        let options = SendOptions::default();
        let say = Command::SendText { id: SAY, topic: TOPIC.into(), text: text.into(), options };
        self.room.try_perform(say).unwrap();
        self.until(answer, |seen| (seen.count(answer) > 0).then_some(()));
    }
}
