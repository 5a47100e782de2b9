//! Events that wait to be taken. Pure.
//!
//! Bounds: what comes from outside waits up to [`INCOMING_BYTES_MAX`], with what streams hold that have not ended; then the newest
//! is refused. Lossy data waits up to [`LOSSY_BYTES_MAX`]; then the oldest is dropped. `Lost` tells of both once there is room
//! again. The ends of the caller's own operations always fit: there is one for each.

use std::collections::{BTreeMap, VecDeque};

use super::limits::{INCOMING_BYTES_MAX, LOSSY_BYTES_MAX};
use wasm_worker_core::room::command::IncomingId;
use wasm_worker_core::room::event::RoomEvent;

/// Most kinds of losses that are told apart by their stream.
const LOSSES_MAX: usize = 64;

/// Memory of an event that waits, without what it carries, in bytes.
pub(super) const EVENT_BYTES: usize = size_of::<Waiting>();

/// The events of one room.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    events: VecDeque<Waiting>,
    /// Lossy data, apart because its oldest is dropped.
    lossy: VecDeque<Waiting>,
    /// The number of the next event: events leave in the order in which they came.
    next: u64,
    /// Bytes from outside, in `events` and in streams.
    bytes: usize,
    /// Bytes in `lossy`.
    lossy_bytes: usize,
    /// What was dropped and has not been told.
    losses: BTreeMap<(&'static str, Option<IncomingId>), u32>,
    /// The number that the first of them took.
    lost_at: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Counted bytes, given back when the event is taken.
    bytes: usize,
    event: RoomEvent,
}

impl Inbox {
    /// Add an event that always fits.
    pub(super) fn tell(&mut self, event: RoomEvent) {
        self.tell_reserved(event, 0);
    }

    /// Add an event for which these bytes have been reserved.
    pub(super) fn tell_reserved(&mut self, event: RoomEvent, bytes: usize) {
        let number = self.number();
        self.events.push_back(Waiting { number, bytes, event });
    }

    /// Add an event from outside that carries these bytes. Whether there is room for it.
    pub(super) fn try_tell(&mut self, event: RoomEvent, carried: usize) -> bool {
        let bytes = EVENT_BYTES + carried;
        let fits = self.try_reserve(bytes);
        if fits {
            self.tell_reserved(event, bytes);
        }
        fits
    }

    /// Add lossy data, and drop the oldest where there is no room.
    pub(super) fn tell_lossy(&mut self, event: RoomEvent, carried: usize) {
        let (number, bytes) = (self.number(), EVENT_BYTES + carried);
        self.lossy.push_back(Waiting { number, bytes, event });
        self.lossy_bytes += bytes;
        while self.lossy_bytes > LOSSY_BYTES_MAX
            && let Some(oldest) = self.lossy.pop_front()
        {
            self.lossy_bytes -= oldest.bytes;
            self.lose("data", None);
        }
    }

    /// Count bytes that a stream holds. Whether there is room for them.
    pub(super) fn try_reserve(&mut self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= INCOMING_BYTES_MAX;
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Give back bytes that a stream held.
    pub(super) fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Count something that was dropped. `what` is its name in the contract.
    pub(super) fn lose(&mut self, what: &'static str, id: Option<IncomingId>) {
        if self.losses.is_empty() {
            self.lost_at = self.number();
        }
        let is_told_apart = self.losses.len() < LOSSES_MAX || self.losses.contains_key(&(what, id));
        let count = self.losses.entry((what, id.filter(|_| is_told_apart))).or_default();
        *count = count.saturating_add(1);
    }

    /// The number of the newest event, whether it waits or was taken.
    pub(super) const fn newest(&self) -> u64 {
        self.next
    }

    /// Whether an event waits whose number is not above this one.
    pub(super) fn has_until(&self, number: u64) -> bool {
        let is_old = |first: &Waiting| first.number <= number;
        let is_loss = !self.losses.is_empty() && self.tells_losses() && self.lost_at <= number;
        is_loss || self.events.front().is_some_and(is_old) || self.lossy.front().is_some_and(is_old)
    }

    const fn tells_losses(&self) -> bool {
        self.bytes <= INCOMING_BYTES_MAX / 2
    }

    /// Take the next event.
    pub(super) fn take(&mut self) -> Option<RoomEvent> {
        if self.tells_losses()
            && let Some(((what, id), count)) = self.losses.pop_first()
        {
            return Some(RoomEvent::Lost { what, id, count });
        }
        let is_lossy_first = match (self.events.front(), self.lossy.front()) {
            (Some(event), Some(lossy)) => lossy.number < event.number,
            (event, _) => event.is_none(),
        };
        if is_lossy_first {
            let taken = self.lossy.pop_front()?;
            self.lossy_bytes -= taken.bytes;
            return Some(taken.event);
        }
        let taken = self.events.pop_front()?;
        self.release(taken.bytes);
        Some(taken.event)
    }

    /// Bytes that wait, reserved ones included.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes + self.lossy_bytes
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(byte: u8, bytes: usize) -> RoomEvent {
        RoomEvent::Data { sender: None, topic: String::new(), payload: vec![byte; bytes], reliable: false }
    }

    fn first_byte(event: &RoomEvent) -> u8 {
        match event {
            RoomEvent::Data { payload, .. } => payload[0],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_is_refused_and_the_loss_told_once_there_is_room() {
        let mut inbox = Inbox::default();
        assert!(inbox.try_tell(data(1, INCOMING_BYTES_MAX / 2), INCOMING_BYTES_MAX / 2));
        assert!(!inbox.try_tell(data(2, INCOMING_BYTES_MAX / 2), INCOMING_BYTES_MAX / 2));
        inbox.lose("data", None);
        inbox.lose("data", None);
        inbox.tell(RoomEvent::Done(1));
        assert_eq!(first_byte(&inbox.take().unwrap()), 1);
        assert_eq!(inbox.take(), Some(RoomEvent::Lost { what: "data", id: None, count: 2 }));
        assert_eq!((inbox.take(), inbox.take(), inbox.bytes()), (Some(RoomEvent::Done(1)), None, 0));
    }

    #[test]
    fn lossy_data_keeps_its_place_and_loses_its_oldest() {
        let mut inbox = Inbox::default();
        inbox.tell(RoomEvent::Done(1));
        (0..5).for_each(|byte| inbox.tell_lossy(data(byte, 60_000), 60_000));
        inbox.tell(RoomEvent::Done(2));
        assert!(inbox.bytes() <= LOSSY_BYTES_MAX);
        assert_eq!(inbox.take(), Some(RoomEvent::Lost { what: "data", id: None, count: 1 }));
        assert_eq!(inbox.take(), Some(RoomEvent::Done(1)));
        let bytes: Vec<u8> = (0..4).map(|_| first_byte(&inbox.take().unwrap())).collect();
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!((inbox.take(), inbox.bytes()), (Some(RoomEvent::Done(2)), 0));
    }

    #[test]
    fn events_up_to_a_number_are_known() {
        let mut inbox = Inbox::default();
        inbox.tell(RoomEvent::Done(1));
        inbox.tell_lossy(data(1, 1), 1);
        let until = inbox.newest();
        inbox.tell(RoomEvent::Done(2));
        let taken = std::iter::from_fn(|| inbox.has_until(until).then(|| inbox.take())).count();
        assert_eq!((taken, inbox.take()), (2, Some(RoomEvent::Done(2))));
        inbox.lose("data", None);
        assert!(!inbox.has_until(until) && inbox.has_until(inbox.newest()));
    }

    #[test]
    fn losses_of_many_streams_are_told_together() {
        let mut inbox = Inbox::default();
        (0..1_000).for_each(|id| inbox.lose("text-chunk", Some(IncomingId(id))));
        assert!(inbox.losses.len() <= LOSSES_MAX + 1);
        assert_eq!(inbox.losses.values().sum::<u32>(), 1_000);
    }
}
