//! The agent's own name, metadata and attributes: those that the server granted, which the next join carries, and the requests that
//! it has not answered. A request that it refuses changes nothing: a join with what a token does not allow would be refused as a whole.
//!
//! Bounds: [`FACTS_BYTES_MAX`] for all facts together, [`REQUESTS_MAX`] requests without an answer, [`ANSWER_WITHIN`] for each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use livekit_protocol as proto;
use tokio::time::Instant;
use wasm_worker_core::text::clip;

use wasm_worker_core::room::command::OperationId;
use wasm_worker_core::room::event::{Failure, RoomEvent};
use wasm_worker_core::room::people::Attributes;

/// Most bytes of the facts: LiveKit's server takes 64 KiB of metadata and 64 KiB of attributes.
const FACTS_BYTES_MAX: usize = 128 << 10;
/// Most requests that the server has not answered.
const REQUESTS_MAX: usize = 64;
/// Time for the server's answer, as in LiveKit's SDKs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A wish about the own participant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Those that change; an empty value removes one.
    pub(crate) attributes: Attributes,
    pub(crate) metadata: Option<String>,
    pub(crate) name: Option<String>,
}

/// The own facts.
#[derive(Debug, Default)]
pub(super) struct OwnFacts {
    attributes: BTreeMap<String, String>,
    metadata: String,
    name: String,
    requests: VecDeque<Request>,
    /// Attributes that nobody waits for and that have no request yet: a newer value takes the place of an older one.
    quiet: BTreeMap<String, String>,
    last_request: u32,
}

#[derive(Debug)]
struct Request {
    number: u32,
    /// The operation that waits for the answer.
    id: Option<OperationId>,
    wish: Wish,
    /// When it was sent on the link that is open; none where it was not.
    sent_at: Option<Instant>,
}

impl OwnFacts {
    /// The facts that settings give.
    pub(super) fn new(name: String, metadata: String, attributes: Attributes) -> Self {
        let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Self { attributes, metadata, name, ..Self::default() }
    }

    /// Keep a wish for the join that comes. Whether there was space.
    pub(super) fn keep(&mut self, wish: &Wish) -> bool {
        if bytes(self.after([wish])) > FACTS_BYTES_MAX {
            return false;
        }
        for (name, value) in &wish.attributes {
            if value.is_empty() {
                self.attributes.remove(name);
            } else {
                self.attributes.insert(name.clone(), value.clone());
            }
        }
        if let Some(metadata) = &wish.metadata {
            self.metadata.clone_from(metadata);
        }
        if let Some(name) = &wish.name {
            self.name.clone_from(name);
        }
        true
    }

    /// Ask the server for a wish, now or once a link is open.
    pub(super) fn ask(&mut self, id: Option<OperationId>, wish: Wish) -> Result<(), Failure> {
        let failed = |code, message: &str| Failure { id: id.unwrap_or_default(), code, message: message.to_owned() };
        if wish.metadata.as_deref() == Some("") || wish.name.as_deref() == Some("") {
            let message = "LiveKit's server takes an empty name and empty metadata for unchanged ones";
            return Err(failed("not-supported", message));
        }
        if self.requests.len() >= REQUESTS_MAX {
            return Err(failed("limit", "too many changes of the own participant wait for the server"));
        }
        let wishes = self.requests.iter().map(|request| &request.wish).chain([&wish]);
        if bytes(self.after(wishes)) > FACTS_BYTES_MAX {
            return Err(failed("too-large", "name, metadata and attributes are too large"));
        }
        self.last_request = self.last_request.wrapping_add(1).max(1);
        self.requests.push_back(Request { number: self.last_request, id, wish, sent_at: None });
        Ok(())
    }

    /// Ask the server for an attribute that nobody waits for, once there is space for a request.
    pub(super) fn ask_quietly(&mut self, name: &str, value: &str) {
        self.quiet.insert(name.to_owned(), value.to_owned());
    }

    /// The metadata and attributes for a join. A name cannot go with it.
    pub(super) fn for_join(&self) -> (String, std::collections::HashMap<String, String>) {
        (self.metadata.clone(), self.attributes.clone().into_iter().collect())
    }

    /// The agent has joined under this name: ask for the wished one.
    pub(super) fn joined_as(&mut self, name: &str) {
        let is_asked = self.requests.iter().any(|request| request.wish.name.is_some());
        if !self.name.is_empty() && self.name != name && !is_asked {
            let wish = Wish { name: Some(self.name.clone()), ..Wish::default() };
            // Without space for a request the next join asks again.
            drop(self.ask(None, wish));
        }
    }

    /// The link is lost: what has no answer is sent again on the next one.
    pub(super) fn link_lost(&mut self) {
        for request in &mut self.requests {
            request.sent_at = None;
        }
    }

    /// The next request to send on the open link.
    pub(super) fn next_request(&mut self, now: Instant) -> Option<proto::UpdateParticipantMetadata> {
        if !self.quiet.is_empty() && self.requests.len() < REQUESTS_MAX {
            let attributes = std::mem::take(&mut self.quiet).into_iter().collect();
            // Facts that are too large for one attribute more keep the ones that they have.
            drop(self.ask(None, Wish { attributes, ..Wish::default() }));
        }
        let request = self.requests.iter_mut().find(|request| request.sent_at.is_none())?;
        request.sent_at = Some(now);
        Some(proto::UpdateParticipantMetadata {
            metadata: request.wish.metadata.clone().unwrap_or_default(),
            name: request.wish.name.clone().unwrap_or_default(),
            attributes: request.wish.attributes.clone().into_iter().collect(),
            request_id: request.number,
        })
    }

    /// The server answered a request.
    pub(super) fn answered(&mut self, answer: &proto::RequestResponse, events: &mut Vec<RoomEvent>) {
        use proto::request_response::Reason;
        let place = self.requests.iter().position(|request| request.number == answer.request_id);
        let Some(Request { id, wish, .. }) = place.and_then(|place| self.requests.remove(place)) else { return };
        let reason = Reason::try_from(answer.reason).unwrap_or(Reason::UnclassifiedError);
        let code = match reason {
            Reason::Ok | Reason::Queued => {
                // A server that answers in another order may grant more than there is space for: a join does not carry that.
                self.keep(&wish);
                return events.extend(id.map(RoomEvent::Done));
            }
            Reason::NotAllowed => "not-allowed",
            Reason::LimitExceeded => "too-large",
            Reason::InvalidName | Reason::InvalidRequest => "invalid",
            Reason::UnsupportedType => "not-supported",
            Reason::NotFound
            | Reason::UnclassifiedError
            | Reason::InvalidHandle
            | Reason::DuplicateHandle
            | Reason::DuplicateName => "refused",
        };
        events.extend(id.map(|id| RoomEvent::Failed(Failure { id, code, message: clip(&answer.message) })));
    }

    /// When the next request has waited too long.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.requests.iter().filter_map(|request| request.sent_at).min().map(|sent| sent + ANSWER_WITHIN)
    }

    /// Give up the requests that have waited too long.
    pub(super) fn advance(&mut self, now: Instant, events: &mut Vec<RoomEvent>) {
        let late = |request: &Request| request.sent_at.is_some_and(|sent| sent + ANSWER_WITHIN <= now);
        for request in std::mem::take(&mut self.requests) {
            if !late(&request) {
                self.requests.push_back(request);
            } else if let Some(id) = request.id {
                let message = format!("the server did not answer within {ANSWER_WITHIN:?}");
                events.push(RoomEvent::Failed(Failure { id, code: "timeout", message }));
            }
        }
    }

    /// The caller does not want to hear of this operation any more.
    pub(super) fn cancel(&mut self, id: OperationId) {
        for request in self.requests.iter_mut().filter(|request| request.id == Some(id)) {
            request.id = None;
        }
    }

    /// The room is left: no request will be answered.
    pub(super) fn left(&mut self, code: &'static str, message: &str, events: &mut Vec<RoomEvent>) {
        self.quiet.clear();
        for id in self.requests.drain(..).filter_map(|request| request.id) {
            events.push(RoomEvent::Failed(Failure { id, code, message: message.to_owned() }));
        }
    }

    /// All facts, by name, once these wishes are granted in this order.
    fn after<'a>(&'a self, wishes: impl IntoIterator<Item = &'a Wish>) -> BTreeMap<Fact<'a>, &'a str> {
        let attributes = self.attributes.iter().map(|(name, value)| (Fact::Attribute(name), value.as_str()));
        let mut facts: BTreeMap<_, _> = attributes.collect();
        facts.extend([(Fact::Metadata, self.metadata.as_str()), (Fact::Name, self.name.as_str())]);
        for Wish { attributes, metadata, name } in wishes {
            facts.extend(attributes.iter().map(|(name, value)| (Fact::Attribute(name), value.as_str())));
            facts.extend(metadata.iter().map(|metadata| (Fact::Metadata, metadata.as_str())));
            facts.extend(name.iter().map(|name| (Fact::Name, name.as_str())));
        }
        facts
    }
}

/// One fact of the own participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact<'a> {
    Attribute(&'a str),
    Metadata,
    Name,
}

/// The bytes of facts. The name of an attribute counts also where it is to be removed.
fn bytes(facts: BTreeMap<Fact<'_>, &str>) -> usize {
    let bytes_of = |(fact, value): (Fact<'_>, &str)| match fact {
        Fact::Attribute(name) => name.len() + value.len(),
        Fact::Metadata | Fact::Name => value.len(),
    };
    facts.into_iter().map(bytes_of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, value: &str) -> Wish {
        Wish { attributes: vec![(name.into(), value.into())], ..Wish::default() }
    }

    fn answer(request_id: u32, reason: proto::request_response::Reason) -> proto::RequestResponse {
        proto::RequestResponse { request_id, reason: reason as i32, message: "m".into(), ..Default::default() }
    }

    #[test]
    fn wishes_before_a_join_go_with_it() {
        let mut own = OwnFacts::new("bot".into(), "m".into(), vec![("a".into(), "1".into())]);
        assert!(own.keep(&wish("b", "2")) && own.keep(&wish("a", "")));
        let (metadata, attributes) = own.for_join();
        assert_eq!((metadata.as_str(), attributes), ("m", [("b".to_owned(), "2".to_owned())].into()));
        own.joined_as("bot");
        assert!(own.next_request(Instant::now()).is_none());
        own.joined_as("agent-AJ_1");
        assert_eq!(own.next_request(Instant::now()).unwrap().name, "bot");
        own.link_lost();
        own.joined_as("agent-AJ_1");
        assert_eq!(own.next_request(Instant::now()).unwrap().name, "bot");
        assert!(own.next_request(Instant::now()).is_none(), "the request for it waits for its answer");
    }

    #[test]
    fn joins_carry_what_was_granted_and_not_what_was_refused() {
        use proto::request_response::Reason;
        let (now, mut events) = (Instant::now(), Vec::new());
        let mut own = OwnFacts::new(String::new(), "m".into(), vec![("a".into(), "1".into())]);
        for (id, wish) in [(1, wish("a", "2")), (2, wish("b", "1")), (3, wish("c", "1")), (4, wish("a", ""))] {
            own.ask(Some(id), wish).unwrap();
        }
        own.ask_quietly("state", "idle");
        own.ask(Some(5), Wish { metadata: Some("n".into()), ..Wish::default() }).unwrap();
        while own.next_request(now).is_some() {}
        assert_eq!(own.for_join().1, [("a".to_owned(), "1".to_owned())].into(), "nothing is granted yet");
        for (number, reason) in [
            (1, Reason::NotAllowed),
            (2, Reason::Ok),
            (3, Reason::LimitExceeded),
            (4, Reason::NotAllowed),
            (5, Reason::InvalidRequest),
            (6, Reason::NotAllowed),
        ] {
            own.answered(&answer(number, reason), &mut events);
        }
        let expected = [("a", "1"), ("b", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(own.for_join(), ("m".to_owned(), expected.into()));
        assert_eq!(events.len(), 5, "nobody waits for the state");
    }

    #[test]
    fn the_newest_state_is_asked_for_once_there_is_space() {
        use proto::request_response::Reason;
        let now = Instant::now();
        let mut own = OwnFacts::default();
        for id in 0..REQUESTS_MAX {
            own.ask(Some(u32::try_from(id).unwrap()), wish("a", "1")).unwrap();
        }
        own.ask_quietly("state", "idle");
        own.ask_quietly("state", "speaking");
        assert_eq!(std::iter::from_fn(|| own.next_request(now)).count(), REQUESTS_MAX);
        own.answered(&answer(1, Reason::Ok), &mut Vec::new());
        let request = own.next_request(now).unwrap();
        assert_eq!(request.attributes, [("state".to_owned(), "speaking".to_owned())].into());
        own.answered(&answer(request.request_id, Reason::Ok), &mut Vec::new());
        assert_eq!(own.for_join().1["state"], "speaking");
    }

    #[test]
    fn names_and_metadata_cannot_be_emptied_in_the_room() {
        let mut own = OwnFacts::new("bot".into(), "m".into(), Vec::new());
        let emptied = [
            Wish { name: Some(String::new()), ..Wish::default() },
            Wish { metadata: Some(String::new()), ..Wish::default() },
        ];
        for wish in emptied {
            assert_eq!(own.ask(Some(1), wish.clone()).unwrap_err().code, "not-supported");
            assert!(own.keep(&wish), "a join takes them from the token");
        }
        assert_eq!(own.for_join().0, "");
        assert!(own.next_request(Instant::now()).is_none());
    }

    #[test]
    fn requests_end_by_their_answer_or_by_their_time() {
        use proto::request_response::Reason;
        let (now, mut events) = (Instant::now(), Vec::new());
        let mut own = OwnFacts::default();
        for id in 1..=3 {
            own.ask(Some(id), wish("a", "1")).unwrap();
            own.next_request(now).unwrap();
        }
        own.answered(&answer(2, Reason::NotAllowed), &mut events);
        own.answered(&answer(1, Reason::Ok), &mut events);
        own.answered(&answer(1, Reason::Ok), &mut events);
        own.advance(now + ANSWER_WITHIN - Duration::from_millis(1), &mut events);
        assert_eq!(events.len(), 2);
        own.advance(own.wake_at().unwrap(), &mut events);
        let failed = |id, code, message: &str| RoomEvent::Failed(Failure { id, code, message: message.into() });
        let late = failed(3, "timeout", "the server did not answer within 5s");
        assert_eq!(events, [failed(2, "not-allowed", "m"), RoomEvent::Done(1), late]);
        assert_eq!(own.wake_at(), None);
    }

    #[test]
    fn requests_without_an_answer_are_sent_again_on_the_next_link() {
        let now = Instant::now();
        let mut own = OwnFacts::default();
        own.ask(Some(1), wish("a", "1")).unwrap();
        let first = own.next_request(now).unwrap();
        assert!(own.next_request(now).is_none());
        own.link_lost();
        assert_eq!(own.wake_at(), None);
        assert_eq!(own.next_request(now).unwrap(), first);
    }

    #[test]
    fn facts_and_requests_are_bounded() {
        let mut own = OwnFacts::default();
        for id in 0..REQUESTS_MAX {
            own.ask(Some(u32::try_from(id).unwrap()), wish("a", "1")).unwrap();
        }
        assert_eq!(own.ask(Some(99), wish("a", "1")).unwrap_err().code, "limit");
        let mut events = Vec::new();
        own.left("not-joined", "", &mut events);
        assert_eq!(events.len(), REQUESTS_MAX);
        let large = "x".repeat(FACTS_BYTES_MAX);
        assert_eq!(own.ask(Some(1), wish("b", &large)).unwrap_err().code, "too-large");
        assert!(own.for_join().1.is_empty(), "nothing was granted");
        let most = "x".repeat(FACTS_BYTES_MAX - 1);
        assert!(
            own.keep(&wish("b", &most)) && own.keep(&wish("b", &most)),
            "a new value takes the place of the old one"
        );
        assert_eq!(own.ask(Some(1), wish("c", "")).unwrap_err().code, "too-large");
        own.ask(Some(1), wish("b", "")).unwrap();
        own.ask(Some(2), wish("c", &most[1..])).unwrap();
    }
}
