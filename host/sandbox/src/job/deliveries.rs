//! Events on their way to the agent: those that wait for space in its inbox, and those of ids that it holds.
//!
//! Bounds: nothing more is taken from where events come from while some wait for space. Of a held stream no more comes than may be
//! read ahead, and a held operation has a few events at most. All of it is charged to the job.

use std::collections::{BTreeMap, VecDeque};

use super::world::JobAccess;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::events::{event_bytes, id_of};
use crate::guest::kill::Kill;

/// The events of one job that are not in its inbox.
#[derive(Default)]
pub(super) struct Deliveries {
    /// Those that wait for space, in order.
    late: VecDeque<Event>,
    /// Those of the ids that the agent holds.
    held: BTreeMap<u32, Vec<Event>>,
}

impl Deliveries {
    /// Give an event to the agent, now or later.
    pub(super) fn put(&mut self, event: Event, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if let Some(held) = self.held.get_mut(&id_of(&event)) {
            job.meter.charge(event_bytes(&event))?;
            held.push(event);
        } else if !self.late.is_empty() || !has_space(&event, job) {
            job.meter.charge(event_bytes(&event))?;
            self.late.push_back(event);
        } else {
            give(event, job)?;
        }
        Ok(())
    }

    /// Give what waits, as far as there is space. Whether nothing waits any more.
    pub(super) fn flush(&mut self, job: &mut JobAccess<'_>) -> Result<bool, Kill> {
        while let Some(event) = self.late.pop_front() {
            if !has_space(&event, job) {
                self.late.push_front(event);
                return Ok(false);
            }
            job.meter.release(event_bytes(&event));
            give(event, job)?;
        }
        Ok(true)
    }

    /// Keep back what comes for an id, or let it come again.
    pub(super) fn hold(&mut self, id: u32, held: bool) {
        if held {
            self.held.entry(id).or_default();
        } else if let Some(events) = self.held.remove(&id) {
            self.late.extend(events);
        }
    }

    /// The agent gave an id up.
    pub(super) fn forget(&mut self, id: u32, job: &mut JobAccess<'_>) {
        let events = self.held.remove(&id).unwrap_or_default();
        job.meter.release(events.iter().map(event_bytes).sum());
    }

    /// Nothing is told to the agent any more.
    pub(super) fn clear(&mut self, job: &mut JobAccess<'_>) {
        let events = self.held.values().flatten().chain(&self.late);
        job.meter.release(events.map(event_bytes).sum());
        (self.held, self.late) = (BTreeMap::new(), VecDeque::new());
    }

    /// Whether an event waits for space.
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }
}

/// Whether to give an event now. What is larger than the whole inbox does not wait for ever.
fn has_space(event: &Event, job: &JobAccess<'_>) -> bool {
    let inbox = &job.control.inbox;
    inbox.has_room_for(event) || inbox.is_empty()
}

/// An event that does not fit and may be lost is counted, and `lost` tells it.
fn give(event: Event, job: &mut JobAccess<'_>) -> Result<(), Kill> {
    match event {
        Event::Text(_)
        | Event::File(_)
        | Event::Data(_)
        | Event::Dtmf(_)
        | Event::Audio(_)
        | Event::AudioLevel(_)
        | Event::SpeakersChanged(_)
        | Event::QualityChanged(_) => {
            job.send(event);
            Ok(())
        }
        event => job.send_sure(event),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::JobWithoutGuest;
    use super::*;
    use crate::guest::bindings::wasm_worker::agent::events::{BytesChunk, DataMessage, Loss};
    use crate::guest::events::name_of;

    fn chunk(id: u32, bytes: usize) -> Event {
        Event::BytesChunk(BytesChunk { id, bytes: vec![0; bytes] })
    }

    fn data(bytes: usize) -> Event {
        Event::Data(DataMessage { sender: None, topic: String::new(), payload: vec![0; bytes], reliable: true })
    }

    fn ids(job: &mut JobWithoutGuest) -> Vec<u32> {
        job.events().iter().map(id_of).collect()
    }

    #[test]
    fn events_wait_for_space_in_order_and_are_charged_meanwhile() {
        // The inbox of this job has half of it.
        let (mut deliveries, mut job) = (Deliveries::default(), JobWithoutGuest::new(64 << 10));
        for id in 1..=4 {
            deliveries.put(chunk(id, 10 << 10), &mut job.access(0)).unwrap();
        }
        assert!(deliveries.is_late() && job.meter.used_bytes() > 40 << 10);
        assert!(!deliveries.flush(&mut job.access(0)).unwrap());
        assert_eq!(ids(&mut job), [1, 2, 3]);
        assert!(deliveries.flush(&mut job.access(0)).unwrap());
        assert_eq!((ids(&mut job), job.meter.used_bytes()), (vec![4], 0));
    }

    #[test]
    fn an_event_that_never_fits_is_told_as_lost_where_it_may_be() {
        let (mut deliveries, mut job) = (Deliveries::default(), JobWithoutGuest::new(64 << 10));
        deliveries.put(data(40 << 10), &mut job.access(0)).unwrap();
        deliveries.put(chunk(1, 40 << 10), &mut job.access(0)).unwrap();
        assert_eq!(ids(&mut job), [1]);
        assert_eq!(job.events(), [Event::Lost(Loss { what: name_of(&data(0)).into(), id: 0, count: 1 })]);
        assert_eq!(job.meter.used_bytes(), 0);
    }

    #[test]
    fn a_held_id_waits_and_goes_on_where_it_stood() {
        let (mut deliveries, mut job) = (Deliveries::default(), JobWithoutGuest::new(1 << 20));
        deliveries.hold(1, true);
        for (id, bytes) in [(1, 1_000), (2, 1), (1, 2_000)] {
            deliveries.put(chunk(id, bytes), &mut job.access(0)).unwrap();
        }
        assert_eq!(ids(&mut job), [2]);
        assert!(job.meter.used_bytes() > 3_000);
        deliveries.hold(1, false);
        assert!(deliveries.flush(&mut job.access(0)).unwrap());
        assert_eq!((ids(&mut job), job.meter.used_bytes()), (vec![1, 1], 0));
        deliveries.hold(1, true);
        deliveries.put(chunk(1, 1_000), &mut job.access(0)).unwrap();
        deliveries.forget(1, &mut job.access(0));
        deliveries.hold(2, true);
        deliveries.put(chunk(2, 1_000), &mut job.access(0)).unwrap();
        deliveries.clear(&mut job.access(0));
        assert_eq!((ids(&mut job).len(), job.meter.used_bytes()), (0, 0));
    }
}
