//! The inbox: events that belong to no id, until the agent reads them.
//!
//! Requests to stop and the facts of the room are kept beside the events, so waiting for them consumes no event. Events
//! that nobody reads are bounded: at most 1,024 of them and 4 MiB wait, and what comes after these is dropped and counted.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::Event;
use crate::types::{Loss, ShutdownRequest};
use crate::waits::{self, On};

const EVENTS_MAX: usize = 1_024;
const BYTES_MAX: usize = 4 << 20;

struct Inbox {
    events: VecDeque<Event>,
    /// Payload of the events.
    bytes: usize,
    /// What was dropped since the last event was taken in.
    lost: Option<Loss>,
    /// The host's request to stop.
    stop: Option<ShutdownRequest>,
    /// The reason with which the agent asked for its own end. Known here before the host confirms it.
    own_stop: Option<String>,
    joined: bool,
}

thread_local! {
    static INBOX: RefCell<Inbox> = const {
        RefCell::new(Inbox {
            events: VecDeque::new(), bytes: 0, lost: None, stop: None, own_stop: None, joined: false,
        })
    };
}

/// Takes an event in, and wakes those who wait for events.
pub(crate) fn push(event: Event) {
    let stop = INBOX.with_borrow_mut(|inbox| {
        match &event {
            Event::Connected(_) => inbox.joined = true,
            Event::Disconnected(_) => inbox.joined = false,
            Event::ShutdownRequested(request) => inbox.stop = Some(request.clone()),
            _ => {}
        }
        inbox.push(event);
        inbox.stop.is_some()
    });
    if stop {
        waits::wake(On::Stop);
    }
    waits::wake(On::Inbox);
}

impl Inbox {
    fn push(&mut self, event: Event) {
        let bytes = self.bytes + event.payload_bytes();
        if self.events.len() >= EVENTS_MAX || bytes > BYTES_MAX {
            let lost = self.lost.get_or_insert_with(|| Loss { what: event.name().to_owned(), id: 0, count: 0 });
            lost.count += 1;
            return;
        }
        self.bytes = bytes;
        self.events.push_back(event);
    }
}

/// The next event, if one waits. Events that were dropped are told after those that came before them.
pub(crate) fn next() -> Option<Event> {
    INBOX.with_borrow_mut(|inbox| {
        let event = inbox.events.pop_front().or_else(|| inbox.lost.take().map(Event::Lost))?;
        inbox.bytes = inbox.bytes.saturating_sub(event.payload_bytes());
        Some(event)
    })
}

/// Waits for the next event.
pub(crate) async fn next_event() -> Event {
    waits::until(On::Inbox, "next_event", next).await
}

/// Waits for a request to stop.
pub(crate) async fn shutdown_requested(name: &'static str) -> ShutdownRequest {
    waits::until(On::Stop, name, || INBOX.with_borrow(|inbox| inbox.stop.clone())).await
}

/// Whether the agent's participant is in the room.
pub(crate) fn joined() -> bool {
    INBOX.with_borrow(|inbox| inbox.joined)
}

/// Notes that the agent asked for its own end.
pub(crate) fn stop(reason: &str) {
    INBOX.with_borrow_mut(|inbox| {
        inbox.own_stop.get_or_insert_with(|| reason.to_owned());
    });
    waits::wake(On::Inbox);
}

/// The reason for the job's end, if the agent or the host has asked for it.
pub(crate) fn stop_reason() -> Option<String> {
    INBOX.with_borrow(|inbox| {
        let asked = inbox.stop.as_ref().map(|request| &request.reason);
        asked.or(inbox.own_stop.as_ref()).cloned()
    })
}

/// Whether the end of the job was asked for, by the agent or by the host.
pub(crate) fn stopping() -> bool {
    INBOX.with_borrow(|inbox| inbox.stop.is_some() || inbox.own_stop.is_some())
}
