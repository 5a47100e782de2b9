//! The queue behind the inbox: events that wait for the guest, and who is in the room by them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::bindings::wasm_worker::agent::inbox::{BudgetKind, Event};
use super::contract::Participant;
use super::lock;

/// Events for the guest, and who is in the room by them. Bounded in number and bytes: what does not fit is counted, except
/// the request to stop, which always fits.
pub(crate) struct Mailbox {
    events: Mutex<VecDeque<Event>>,
    participants: Mutex<BTreeMap<String, Participant>>,
    events_max: usize,
    bytes_max: usize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    came: Notify,
    pub(crate) timers: Handle,
}

impl Mailbox {
    pub(crate) fn new(events_max: usize, bytes_max: usize, timers: Handle) -> Self {
        Self {
            events: Mutex::default(),
            participants: Mutex::default(),
            events_max,
            bytes_max,
            bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            came: Notify::new(),
            timers,
        }
    }

    pub(crate) fn push(&self, event: Event) {
        match &event {
            Event::ParticipantJoined(who) => drop(lock(&self.participants).insert(who.identity.clone(), who.clone())),
            Event::ParticipantLeft(who) => drop(lock(&self.participants).remove(&who.identity)),
            _ => {}
        }
        let must_fit = matches!(event, Event::ShutdownRequested(_));
        let bytes = event_bytes(&event);
        let mut events = lock(&self.events);
        let full = events.len() >= self.events_max || self.bytes() + bytes > self.bytes_max;
        if full && !must_fit {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        events.push_back(event);
        self.came.notify_waiters();
    }

    /// The oldest event, and its bytes.
    pub(crate) fn pop(&self) -> Option<(Event, usize)> {
        let event = lock(&self.events).pop_front()?;
        let bytes = event_bytes(&event);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some((event, bytes))
    }

    /// Those who are in the room when the job begins.
    pub(crate) fn begin_with(&self, participants: Vec<Participant>) {
        *lock(&self.participants) = participants.into_iter().map(|who| (who.identity.clone(), who)).collect();
    }

    /// Everyone who is in the room now.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        lock(&self.participants).values().cloned().collect()
    }

    pub(crate) fn reset(&self) {
        lock(&self.events).clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
    }

    pub(crate) async fn wait_for_event(&self) {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if !lock(&self.events).is_empty() {
                return;
            }
            came.await;
        }
    }

    /// Bytes that the waiting events take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Events that did not fit.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What an event takes in host memory, near enough for a budget.
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

pub(crate) fn participant_bytes(who: &Participant) -> usize {
    who.sid.len() + who.identity.len() + who.name.len() + who.metadata.len() + pairs_bytes(&who.attributes)
}

pub(crate) fn pairs_bytes(pairs: &[(String, String)]) -> usize {
    pairs.iter().map(|(name, value)| pair_bytes(name, value)).sum()
}

pub(crate) fn pair_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + size_of::<(String, String)>()
}

impl BudgetKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Time => "time",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bindings::wasm_worker::agent::inbox::{ShutdownRequest, TextMessage};
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
        let inbox = Mailbox::new(2, 1 << 20, Handle::current());
        (0..5).for_each(|_| inbox.push(text()));
        inbox.push(Event::ShutdownRequested(ShutdownRequest { reason: "drain".into(), grace_ms: 1 }));
        assert_eq!(inbox.dropped(), 3);
        inbox.wait_for_event().await;
        let taken: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(taken.len(), 3);
        assert!(matches!(taken.last(), Some((Event::ShutdownRequested(_), _))));
        assert_eq!(inbox.bytes(), 0);
    }

    #[tokio::test]
    async fn an_inbox_is_bounded_in_bytes_too() {
        let inbox = Mailbox::new(1_000, 2 * event_bytes(&text()), Handle::current());
        (0..5).for_each(|_| inbox.push(text()));
        assert_eq!(inbox.dropped(), 3);
    }
}
