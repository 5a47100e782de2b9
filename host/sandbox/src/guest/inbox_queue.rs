//! The queue behind a job's inbox: the events that wait for the guest, and the participants that follow from the events.
//!
//! Bounds: `inbox-limit` events, and a share of the job's memory in bytes. Events that do not fit are dropped and counted,
//! except for the request to stop, which always fits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use wasm_worker_core::text::pairs_bytes;

use super::bindings::wasm_worker::agent::inbox::{Event, ShutdownRequest};
use super::contract::Participant;
use super::lock;

/// The events that wait for one guest, and the participants of its room.
pub(crate) struct InboxQueue {
    events: Mutex<VecDeque<Event>>,
    participants: Mutex<Participants>,
    /// The request to stop: its reason, and the end of its grace.
    stop: Mutex<Option<(String, Instant)>>,
    events_max: usize,
    bytes_max: usize,
    /// Memory of the waiting events, in bytes.
    event_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Wakes tasks that wait for an event, for the request to stop or for a change of the participants.
    changed: Notify,
    /// The runtime on which the job's timers fire.
    pub(crate) timers: Handle,
}

/// The participants of a room, by identity.
#[derive(Default)]
struct Participants {
    present: BTreeMap<String, Participant>,
    /// Memory of the participants, in bytes.
    bytes: usize,
    /// The number of changes.
    version: u64,
}

impl Participants {
    fn replace(&mut self, present: impl IntoIterator<Item = Participant>) {
        self.present = present.into_iter().map(|who| (who.identity.clone(), who)).collect();
        self.changed();
    }

    /// Apply an event.
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ParticipantJoined(who) => drop(self.present.insert(who.identity.clone(), who.clone())),
            Event::ParticipantLeft(who) => drop(self.present.remove(&who.identity)),
            Event::AttributesChanged(change) => {
                let Some(who) = self.present.get_mut(&change.identity) else { return };
                who.attributes.retain(|(name, _)| !change.changed.iter().any(|(changed, _)| changed == name));
                who.attributes.extend(change.changed.iter().filter(|(_, value)| !value.is_empty()).cloned());
            }
            Event::MetadataChanged(change) => {
                let identity = change.identity.as_ref();
                let Some(who) = identity.and_then(|identity| self.present.get_mut(identity)) else { return };
                who.metadata.clone_from(&change.metadata);
            }
            _ => return,
        }
        self.changed();
    }

    fn changed(&mut self) {
        self.bytes = self.present.values().map(participant_bytes).sum();
        self.version += 1;
    }
}

impl InboxQueue {
    /// An empty queue with these bounds.
    pub(crate) fn new(events_max: usize, bytes_max: usize, timers: Handle) -> Self {
        Self {
            events: Mutex::default(),
            participants: Mutex::default(),
            stop: Mutex::default(),
            events_max,
            bytes_max,
            event_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            changed: Notify::new(),
            timers,
        }
    }

    /// Add an event, or count it as dropped.
    pub(crate) fn push(&self, event: Event) {
        let bytes = event_bytes(&event);
        let mut participants = lock(&self.participants);
        let mut events = lock(&self.events);
        let held = participants.bytes + self.event_bytes.load(Ordering::Relaxed) + bytes;
        let must_fit = matches!(event, Event::ShutdownRequested(_));
        // The participants are kept up to date even when the event itself does not fit, up to twice the bound. A participant
        // that left is always removed.
        if held <= 2 * self.bytes_max || matches!(event, Event::ParticipantLeft(_)) {
            participants.apply(&event);
        }
        if must_fit || (events.len() < self.events_max && held <= self.bytes_max) {
            self.event_bytes.fetch_add(bytes, Ordering::Relaxed);
            events.push_back(event);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop((participants, events));
        self.changed.notify_waiters();
    }

    /// Ask the job to stop by `until`.
    pub(crate) fn stop(&self, reason: String, until: Instant) {
        *lock(&self.stop) = Some((reason.clone(), until));
        self.push(Event::ShutdownRequested(ShutdownRequest { reason, grace_ms: 0 }));
    }

    /// The request to stop, with the rest of its grace.
    pub(crate) fn stop_asked(&self) -> Option<ShutdownRequest> {
        let stop = lock(&self.stop);
        let (reason, until) = stop.as_ref()?;
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        Some(ShutdownRequest { reason: reason.clone(), grace_ms: u32::try_from(left).unwrap_or(u32::MAX) })
    }

    /// Take the oldest event, with its memory in bytes.
    pub(crate) fn pop(&self) -> Option<(Event, usize)> {
        let event = lock(&self.events).pop_front()?;
        let bytes = event_bytes(&event);
        self.event_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let event = match event {
            Event::ShutdownRequested(request) => Event::ShutdownRequested(self.stop_asked().unwrap_or(request)),
            other => other,
        };
        Some((event, bytes))
    }

    /// Set the participants at the beginning of the job.
    pub(crate) fn begin_with(&self, participants: Vec<Participant>) {
        lock(&self.participants).replace(participants);
    }

    /// The participants now, and their version.
    pub(crate) fn participants(&self) -> (Vec<Participant>, u64) {
        let participants = lock(&self.participants);
        (participants.present.values().cloned().collect(), participants.version)
    }

    /// Remove all events, participants and requests.
    pub(crate) fn reset(&self) {
        lock(&self.events).clear();
        lock(&self.stop).take();
        lock(&self.participants).replace([]);
        self.event_bytes.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// Wait until an event is there.
    pub(crate) async fn wait_for_event(&self) {
        self.wait_until(|| !lock(&self.events).is_empty()).await;
    }

    /// Wait until the job is asked to stop.
    pub(crate) async fn wait_for_stop(&self) {
        self.wait_until(|| lock(&self.stop).is_some()).await;
    }

    /// Wait until the participants have another version than this.
    pub(crate) async fn wait_for_participants(&self, seen: u64) {
        self.wait_until(|| lock(&self.participants).version != seen).await;
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }

    /// Memory of the waiting events and the participants, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.event_bytes.load(Ordering::Relaxed) + lock(&self.participants).bytes
    }

    /// The number of events that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Host memory of an event in bytes, near enough for a budget.
fn event_bytes(event: &Event) -> usize {
    let own = match event {
        Event::ParticipantJoined(who) | Event::ParticipantLeft(who) => participant_bytes(who),
        Event::Text(message) => {
            message.id.len()
                + message.sender.len()
                + message.topic.len()
                + message.text.len()
                + pairs_bytes(&message.attributes)
        }
        Event::Data(message) => {
            message.sender.as_ref().map_or(0, String::len) + message.topic.len() + message.payload.len()
        }
        Event::Rpc(request) => request.id.len() + request.caller.len() + request.method.len() + request.payload.len(),
        Event::AttributesChanged(change) => change.identity.len() + pairs_bytes(&change.changed),
        Event::MetadataChanged(change) => change.identity.as_ref().map_or(0, String::len) + change.metadata.len(),
        Event::Other(other) => other.kind.len() + other.json.len(),
        Event::ShutdownRequested(request) => request.reason.len(),
        Event::LimitWarning(_) => 0,
    };
    own + size_of::<Event>()
}

fn participant_bytes(who: &Participant) -> usize {
    who.sid.len() + who.identity.len() + who.name.len() + who.metadata.len() + pairs_bytes(&who.attributes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bindings::wasm_worker::agent::inbox::{AttributeChange, TextMessage};
    use super::super::contract::ParticipantKind;
    use super::*;

    fn text() -> Event {
        let text = String::from("hi");
        Event::Text(TextMessage {
            id: String::new(),
            sender: text.clone(),
            topic: text.clone(),
            text,
            attributes: Vec::new(),
            timestamp_ms: 0.0,
        })
    }

    #[tokio::test]
    async fn a_full_inbox_counts_what_it_drops_but_takes_the_request_to_stop() {
        let inbox = InboxQueue::new(2, 1 << 20, Handle::current());
        (0..5).for_each(|_| inbox.push(text()));
        inbox.stop("drain".into(), Instant::now() + Duration::from_secs(5));
        assert_eq!(inbox.dropped(), 3);
        inbox.wait_for_event().await;
        let taken: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(taken.len(), 3);
        let Some((Event::ShutdownRequested(request), _)) = taken.last() else { panic!("{taken:?}") };
        assert!(request.grace_ms > 4_000 && request.grace_ms <= 5_000);
        assert_eq!(inbox.stop_asked().unwrap().reason, "drain");
        assert_eq!(inbox.bytes(), 0);
    }

    #[tokio::test]
    async fn an_inbox_is_bounded_in_bytes_too() {
        let inbox = InboxQueue::new(1_000, 2 * event_bytes(&text()), Handle::current());
        (0..5).for_each(|_| inbox.push(text()));
        assert_eq!(inbox.dropped(), 3);
    }

    #[tokio::test]
    async fn a_room_too_full_to_list_empties_again() {
        let inbox = InboxQueue::new(100, 300, Handle::current());
        let person = |n: usize| Participant {
            sid: String::new(),
            identity: format!("{n:0200}"),
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
            kind: ParticipantKind::Standard,
        };
        (0..10).for_each(|n| inbox.push(Event::ParticipantJoined(person(n))));
        let (present, _) = inbox.participants();
        assert!(!present.is_empty() && present.len() < 10, "{}", present.len());
        (0..10).for_each(|n| inbox.push(Event::ParticipantLeft(person(n))));
        assert!(inbox.participants().0.is_empty());
    }

    #[tokio::test]
    async fn who_is_there_follows_the_events_even_when_they_do_not_fit() {
        let inbox = InboxQueue::new(1, 1 << 20, Handle::current());
        let who = Participant {
            sid: String::new(),
            identity: "ann".into(),
            name: String::new(),
            metadata: String::new(),
            attributes: vec![("mood".into(), "good".into())],
            kind: ParticipantKind::Standard,
        };
        let (_, seen) = inbox.participants();
        inbox.push(text());
        inbox.push(Event::ParticipantJoined(who));
        inbox.wait_for_participants(seen).await;
        let changed = vec![("mood".into(), String::new()), ("hat".into(), "red".into())];
        inbox.push(Event::AttributesChanged(AttributeChange { identity: "ann".into(), changed }));
        let (present, version) = inbox.participants();
        assert_eq!(present[0].attributes, [("hat".to_owned(), "red".to_owned())]);
        assert_eq!((present.len(), version, inbox.dropped()), (1, seen + 2, 2));
    }
}
