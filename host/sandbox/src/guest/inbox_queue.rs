//! The inbox of a job: the events that wait for its next step.
//!
//! Bounds: `inbox-limit` events, and a share of the job's memory in bytes. An event that does not fit is dropped and counted, and
//! `lost` tells the guest once there is room again. What ends an id, a room or the job always fits, and so does who
//! came and who left: the participants are those that the events tell of. All of it is charged to the job.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::bindings::wasm_worker::agent::events::{Event, Loss, ShutdownRequest};
use super::events::{event_bytes, name_of, payload_bytes};
use super::lock;

/// Most events of one step.
const STEP_EVENTS_MAX: usize = 64;
/// Most bytes of the events of one step, but for one event that is larger by itself.
const STEP_BYTES_MAX: usize = 64 << 10;

/// Events for which the inbox of a waiting job keeps memory: most come one at a time.
const EVENTS_KEPT: usize = 1;

/// The events that wait for one guest.
pub(crate) struct InboxQueue {
    waiting: Mutex<Waiting>,
    events_max: usize,
    bytes_max: usize,
    /// Memory of the waiting events and of those in the present step, in bytes.
    bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Wakes the supervisor after a new event.
    added: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Dropped events that the guest has not been told of, by the name of their case.
    lost: Vec<(&'static str, u32)>,
    /// The end of the shutdown grace, once the job is asked to stop.
    stop_until: Option<Instant>,
}

/// Whether an event may be dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It may, and nobody misses it.
    Not,
    /// It may.
    May,
    /// It may once the inbox holds twice its bound: what participants are stays known longer than what they say.
    Late,
    /// It may not.
    Must,
}

impl InboxQueue {
    /// An empty queue with these bounds.
    pub(crate) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            events_max,
            bytes_max,
            bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            added: Notify::new(),
        }
    }

    /// Add an event, or count it as dropped.
    pub(crate) fn push(&self, event: Event) {
        let need = match &event {
            Event::ParticipantJoined(_) | Event::ParticipantLeft(_) => Need::Must,
            Event::ParticipantChanged(_) => Need::Late,
            _ => Need::May,
        };
        self.add(event, need);
    }

    /// Add an event that must not be dropped.
    pub(crate) fn push_sure(&self, event: Event) {
        self.add(event, Need::Must);
    }

    /// Whether an event fits beside those that wait.
    pub(crate) fn has_room_for(&self, event: &Event) -> bool {
        let held = self.bytes() + event_bytes(event);
        lock(&self.waiting).events.len() < self.events_max && held <= self.bytes_max
    }

    /// Ask the job to stop by `until`.
    pub(crate) fn stop(&self, code: &'static str, reason: String, until: Instant) {
        lock(&self.waiting).stop_until = Some(until);
        self.push_sure(Event::ShutdownRequested(ShutdownRequest { code: code.into(), reason, grace_ms: 0 }));
    }

    /// Ask the guest for its tasks. False where it is asked already, or the inbox is full: nothing is lost by that.
    pub(crate) fn want_tasks(&self) -> bool {
        let is_asked = lock(&self.waiting).events.contains(&Event::TasksWanted);
        !is_asked && self.add(Event::TasksWanted, Need::Not)
    }

    fn add(&self, event: Event, need: Need) -> bool {
        let bytes = event_bytes(&event);
        let mut waiting = lock(&self.waiting);
        let (count, held) = (waiting.events.len(), self.bytes.load(Ordering::Relaxed) + bytes);
        let fits = |times: usize| count < times * self.events_max && held <= times * self.bytes_max;
        let admitted = match need {
            Need::Not | Need::May => fits(1),
            Need::Late => fits(2),
            Need::Must => true,
        };
        if !admitted && need == Need::Not {
            return false;
        }
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            waiting.note_loss(name_of(&event));
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        waiting.events.push_back(event);
        drop(waiting);
        self.added.notify_one();
        true
    }

    /// Move the events of the next step to `step`. Those that `deliver` refuses are discarded. Returns the memory of the events
    /// that were moved, which stays counted until [`Self::release`].
    pub(crate) fn take(
        &self,
        now: Instant,
        step: &mut Vec<Event>,
        mut deliver: impl FnMut(&mut Event) -> bool,
    ) -> usize {
        let mut waiting = lock(&self.waiting);
        let (mut payload, mut held, first) = (0, 0, step.len());
        while step.len() - first < STEP_EVENTS_MAX {
            let Some(next) = waiting.events.front() else { break };
            payload += payload_bytes(next);
            if payload > STEP_BYTES_MAX && step.len() > first {
                break;
            }
            let Some(mut event) = waiting.events.pop_front() else { break };
            let bytes = event_bytes(&event);
            if !deliver(&mut event) {
                payload -= payload_bytes(&event);
                self.release(bytes);
                continue;
            }
            if let (Event::ShutdownRequested(request), Some(until)) = (&mut event, waiting.stop_until) {
                request.grace_ms = millis(until.saturating_duration_since(now));
            }
            held += bytes;
            step.push(event);
        }
        self.tell_losses(&mut waiting);
        waiting.events.shrink_to(EVENTS_KEPT);
        held
    }

    /// Add the losses as events, once there is room again. They are few: one for each case of the contract.
    fn tell_losses(&self, waiting: &mut Waiting) {
        if waiting.events.len() >= self.events_max {
            return;
        }
        for (what, count) in std::mem::take(&mut waiting.lost) {
            let event = Event::Lost(Loss { what: what.into(), id: 0, count });
            self.bytes.fetch_add(event_bytes(&event), Ordering::Relaxed);
            waiting.events.push_back(event);
        }
    }

    /// The events of a step are gone.
    pub(crate) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Remove all events and requests.
    pub(crate) fn reset(&self) {
        *lock(&self.waiting) = Waiting::default();
        self.bytes.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// Wait for a new event. Events that were added since the last wait count as new.
    pub(crate) async fn wait_for_event(&self) {
        self.added.notified().await;
    }

    /// Whether no event waits.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.waiting).events.is_empty()
    }

    /// Memory of the events, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The number of events that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Waiting {
    fn note_loss(&mut self, name: &'static str) {
        match self.lost.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.lost.push((name, 1)),
        }
    }
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::bindings::wasm_worker::agent::events::{Completion, DataMessage, Departure};
    use super::*;

    fn data(bytes: usize) -> Event {
        let payload = vec![0; bytes];
        Event::Data(DataMessage { sender: None, topic: String::new(), payload, reliable: true })
    }

    fn done(id: u32) -> Event {
        Event::Done(Completion { id, value: String::new() })
    }

    fn take(inbox: &InboxQueue) -> Vec<Event> {
        let mut step = Vec::new();
        let held = inbox.take(Instant::now(), &mut step, |_| true);
        inbox.release(held);
        step
    }

    #[test]
    fn a_full_inbox_tells_its_losses_and_takes_what_ends_something() {
        let inbox = InboxQueue::new(2, 1 << 20);
        (0..5).for_each(|_| inbox.push(data(1)));
        inbox.push_sure(done(1));
        inbox.stop("drain", "enough".into(), Instant::now() + Duration::from_secs(5));
        assert_eq!(inbox.dropped(), 3);
        let taken = take(&inbox);
        let [Event::Data(_), Event::Data(_), Event::Done(_), Event::ShutdownRequested(request)] = taken.as_slice()
        else {
            panic!("{taken:?}")
        };
        assert!(request.grace_ms > 4_000 && request.grace_ms <= 5_000);
        let told = take(&inbox);
        assert_eq!(told, [Event::Lost(Loss { what: "data".into(), id: 0, count: 3 })]);
        assert!(inbox.is_empty());
        assert_eq!(inbox.bytes(), 0);
    }

    #[test]
    fn an_inbox_is_bounded_in_bytes_but_learns_who_left() {
        let inbox = InboxQueue::new(1_000, 2 * event_bytes(&data(10)));
        (0..5).for_each(|_| inbox.push(data(10)));
        assert_eq!(inbox.dropped(), 3);
        let who = wasm_worker_core::room::people::Participant::default();
        inbox.push(Event::ParticipantLeft(Departure { participant: who.into(), reason: String::new() }));
        assert_eq!((inbox.dropped(), take(&inbox).len()), (3, 3));
    }

    #[test]
    fn room_for_an_event_is_known_before() {
        let inbox = InboxQueue::new(2, 2 * event_bytes(&data(10)));
        assert!(inbox.has_room_for(&data(10)) && !inbox.has_room_for(&data(1 << 20)));
        inbox.push(data(10));
        assert!(inbox.has_room_for(&data(10)) && !inbox.has_room_for(&data(11)));
        inbox.push(data(0));
        assert!(!inbox.has_room_for(&data(0)), "as many events as there may be");
        assert_eq!((inbox.dropped(), take(&inbox).len()), (0, 2));
    }

    #[test]
    fn one_question_for_the_tasks_waits_and_a_full_inbox_takes_none() {
        let inbox = InboxQueue::new(2, 1 << 20);
        assert!(inbox.want_tasks() && !inbox.want_tasks());
        assert_eq!(take(&inbox), [Event::TasksWanted]);
        (0..2).for_each(|_| inbox.push(data(1)));
        assert!(!inbox.want_tasks());
        assert_eq!((inbox.dropped(), take(&inbox).len(), take(&inbox).len()), (0, 2, 0));
        assert!(inbox.want_tasks());
    }

    #[test]
    fn a_step_is_bounded_but_takes_one_large_event() {
        let inbox = InboxQueue::new(1_000, 1 << 20);
        (0..100).for_each(|_| inbox.push(data(1)));
        assert_eq!(take(&inbox).len(), STEP_EVENTS_MAX);
        assert_eq!(take(&inbox).len(), 100 - STEP_EVENTS_MAX);
        [40 << 10, 40 << 10, 200 << 10, 1].into_iter().for_each(|bytes| inbox.push(data(bytes)));
        let counts: Vec<usize> = (0..4).map(|_| take(&inbox).len()).collect();
        assert_eq!(counts, [1, 1, 1, 1]);
    }

    #[test]
    fn refused_events_are_discarded_and_not_counted() {
        let inbox = InboxQueue::new(1_000, 1 << 20);
        (1..=100).for_each(|id| inbox.push_sure(done(id)));
        let mut step = Vec::new();
        let held = inbox.take(Instant::now(), &mut step, |event| super::super::events::id_of(event) > 90);
        assert_eq!(step.len(), 10);
        assert_eq!(inbox.bytes(), held);
    }

    proptest! {
        /// Whatever is pushed and taken in whatever order, the order of the events stays and the memory is counted exactly.
        #[test]
        fn order_and_memory_are_kept(pushes in prop::collection::vec((0_usize..70_000, any::<bool>()), 0..200)) {
            let inbox = InboxQueue::new(50, 1 << 20);
            let (mut next, mut last) = (0, 0);
            let mut check = |events: Vec<Event>| {
                for event in events {
                    if let Event::Done(done) = event {
                        assert!(done.id > last);
                        last = done.id;
                    }
                }
            };
            for (bytes, takes) in pushes {
                next += 1;
                inbox.push(data(bytes));
                inbox.push_sure(done(next));
                if takes {
                    check(take(&inbox));
                }
            }
            while !inbox.is_empty() {
                check(take(&inbox));
            }
            prop_assert_eq!((last, inbox.bytes()), (next, 0));
        }
    }
}
