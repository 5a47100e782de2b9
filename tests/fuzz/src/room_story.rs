//! What must hold for the events of a room, whatever its server and its participants send.

use std::collections::{BTreeMap, BTreeSet};

use wasm_worker_core::room::audio::{AudioEvent, HeardId};
use wasm_worker_core::room::command::IncomingId;
use wasm_worker_core::room::event::RoomEvent;

/// The token of every room.
pub(crate) const TOKEN: &str = "the-token-of-the-job";
/// Largest text or file that is delivered whole, as the contract says.
const WHOLE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Out,
    In,
    Reconnecting,
}

/// What began outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stream,
    Request,
}

/// What an agent knows from the events.
#[derive(Default)]
pub(crate) struct Story {
    place: Place,
    /// Whether the place of the agent is told: streams alone tell none.
    has_place: bool,
    /// Identities, by sid.
    people: BTreeMap<String, String>,
    /// Operations that have not ended.
    open: BTreeSet<u32>,
    incoming: BTreeMap<IncomingId, Kind>,
    /// Tracks that are heard.
    heard: BTreeSet<HeardId>,
}

impl Story {
    /// The story of a whole room, which is not joined.
    pub(crate) fn of_room() -> Self {
        Self { has_place: true, ..Self::default() }
    }

    /// An operation begins.
    pub(crate) fn begin(&mut self, id: u32) {
        assert!(self.open.insert(id), "{id} is used twice");
    }

    /// An operation, or something that began outside, is given up.
    pub(crate) fn give_up(&mut self, id: u32) {
        self.open.remove(&id);
    }

    /// The `at`th of what began outside, if there is any.
    pub(crate) fn nth_incoming(&self, at: u8) -> Option<IncomingId> {
        let count = self.incoming.len();
        self.incoming.keys().nth(usize::from(at).checked_rem(count)?).copied()
    }

    /// Whether this is a call that waits for its answer.
    pub(crate) fn is_request(&self, id: IncomingId) -> bool {
        self.incoming.get(&id) == Some(&Kind::Request)
    }

    /// Something that began outside is over without a last event.
    pub(crate) fn forget(&mut self, id: IncomingId) {
        self.incoming.remove(&id);
    }

    /// The room is left, and everything in it is over.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.incoming.is_empty() && self.heard.is_empty()
    }

    pub(crate) fn take(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Connected { .. } => self.place = Place::In,
            RoomEvent::Reconnecting => {
                assert_eq!(self.place, Place::In, "reconnecting without a room, or twice");
                self.place = Place::Reconnecting;
            }
            RoomEvent::Disconnected { message, .. } => {
                shown(message);
                assert_ne!(self.place, Place::Out, "disconnected without a room");
                assert!(self.open.is_empty(), "operations outlive their room: {:?}", self.open);
                assert!(self.incoming.is_empty(), "what began outside outlives the room: {:?}", self.incoming);
                assert!(self.heard.is_empty(), "tracks are heard without a room: {:?}", self.heard);
                (self.place, self.people) = (Place::Out, BTreeMap::new());
            }
            RoomEvent::ParticipantJoined(who) => {
                let before = self.people.insert(who.sid.clone(), who.identity.clone());
                assert_eq!(before, None, "joined twice");
                let again = self.people.values().filter(|identity| **identity == who.identity).count();
                assert_eq!(again, 1, "two of one identity");
            }
            RoomEvent::ParticipantLeft { participant, .. } => {
                assert!(self.people.remove(&participant.sid).is_some(), "left without having joined");
            }
            RoomEvent::Done(id) | RoomEvent::RpcAnswer { id, .. } => self.end(*id),
            RoomEvent::Failed(failure) if failure.id == 0 => {}
            RoomEvent::Failed(failure) => {
                shown(&failure.message);
                self.end(failure.id);
            }
            RoomEvent::Audio(event) => self.take_sound(event),
            RoomEvent::Writable(id) => assert!(self.open.contains(id), "{id} is writable after its end"),
            RoomEvent::StreamStarted { id, .. } => self.begin_incoming(*id, Kind::Stream),
            RoomEvent::RpcRequest { id, .. } => self.begin_incoming(*id, Kind::Request),
            RoomEvent::TextChunk { id, .. } | RoomEvent::BytesChunk { id, .. } => {
                assert_eq!(self.incoming.get(id), Some(&Kind::Stream), "a part of no stream");
            }
            RoomEvent::StreamEnded { id, .. } => {
                assert_eq!(self.incoming.remove(id), Some(Kind::Stream), "the end of no stream");
            }
            RoomEvent::RpcRequestFailed { id, .. } => {
                assert_eq!(self.incoming.remove(id), Some(Kind::Request), "the end of no request");
            }
            RoomEvent::Text { text, .. } => {
                assert!(text.len() <= WHOLE_BYTES_MAX);
                self.is_in_the_room();
            }
            RoomEvent::File { bytes, .. } => {
                assert!(bytes.len() <= WHOLE_BYTES_MAX);
                self.is_in_the_room();
            }
            RoomEvent::Data { .. } | RoomEvent::Dtmf { .. } => self.is_in_the_room(),
            RoomEvent::Lost { id, count, .. } => {
                assert!(*count > 0 && id.is_none_or(|id| self.incoming.contains_key(&id)), "{event:?}");
            }
            _ => {}
        }
        // No facts of a room name the token, which only the server knows beside the host.
        if !matches!(event, RoomEvent::Text { .. } | RoomEvent::File { .. } | RoomEvent::Data { .. }) {
            assert!(!format!("{event:?}").contains(TOKEN), "{event:?} has the token");
        }
    }

    fn take_sound(&mut self, event: &AudioEvent) {
        self.is_in_the_room();
        match event {
            AudioEvent::Started { id, .. } => assert!(self.heard.insert(*id), "{id:?} begins twice"),
            AudioEvent::Frame(frame) => assert!(self.heard.contains(&frame.id), "sound of {:?}", frame.id),
            AudioEvent::Level { id, .. } | AudioEvent::VoiceStarted { id, .. } | AudioEvent::VoiceEnded { id, .. } => {
                assert!(self.heard.contains(id), "news of {id:?}");
            }
            AudioEvent::Ended { id } => {
                assert!(self.heard.remove(id), "{id:?} ends without having begun");
                if let HeardId::Asked(id) = id {
                    self.end(*id);
                }
            }
            AudioEvent::Published { id, .. }
            | AudioEvent::Subscribed { id }
            | AudioEvent::Playout { id, .. }
            | AudioEvent::Marked { id, .. } => assert!(self.open.contains(id), "{id} is over"),
        }
    }

    fn end(&mut self, id: u32) {
        assert!(self.open.remove(&id), "{id} ends twice, or was given up");
    }

    fn begin_incoming(&mut self, id: IncomingId, kind: Kind) {
        self.is_in_the_room();
        assert_eq!(self.incoming.insert(id, kind), None, "{id:?} is given twice");
    }

    fn is_in_the_room(&self) {
        assert!(!self.has_place || self.place != Place::Out, "something comes without a room");
    }
}

/// A text that may be logged.
fn shown(text: &str) {
    assert!(text.len() <= 64 << 10, "a text has {} bytes", text.len());
    assert!(!text.contains(TOKEN), "{text} has the token");
}
