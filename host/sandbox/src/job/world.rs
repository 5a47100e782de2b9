//! The outside of a job: it performs the calls of each step, and puts events into the job's inbox.

use std::task::{Context, Poll};

use tokio::time::Instant;
use wasm_worker_core::network::traffic::NetworkUse;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::usage::AudioUse;

use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::events::{Completion, Event, Failure};
use crate::guest::calls::Call;
use crate::guest::clock::{GuestClock, Moment};
use crate::guest::control::{Control, StopBy};
use crate::guest::ids::{ID_BYTES, Ids};
use crate::guest::kill::Kill;
use crate::guest::meter::{Meter, fuel_used};
use wasm_worker_core::text::clip;

/// The outside of one job. No function waits.
pub(super) trait World: Send {
    /// The job is launched.
    fn launched(&mut self, now: Instant);

    /// Begin a call. A call with a new id finds the id open; a call on another id may come after the end of that id.
    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill>;

    /// The next step is given this event. Something that began outside has its id by now.
    fn is_given(&mut self, event: &Event, now: Instant);

    /// The next time at which something happens here.
    fn wake_at(&self) -> Option<Instant>;

    /// Ready once something happened here that [`Self::advance`] has not seen.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Have everything happen that is due.
    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill>;

    /// The agent has finished: what it sent is delivered, and nothing is told to it any more.
    fn finish(&mut self, _: &mut JobAccess<'_>) -> Result<(), Kill> {
        Ok(())
    }

    /// The reason why nothing can come from here, whatever time passes; none where something may come.
    fn nothing_to_come(&self) -> Option<&'static str>;

    /// Whether the job is in its room.
    fn is_joined(&self) -> bool;

    /// Whether everything that the job sent has left the host, after [`Self::finish`].
    fn is_delivered(&self) -> bool;

    /// What the job used of the network.
    fn network_use(&self) -> NetworkUse {
        NetworkUse::default()
    }

    /// The sound that the job heard and spoke.
    fn audio_use(&self) -> AudioUse {
        AudioUse::default()
    }

    /// Bytes that wait for the job, or of it, where the world does not charge them.
    fn bytes_waiting(&self) -> usize {
        0
    }

    /// What the agent did in its room.
    fn into_record(self: Box<Self>) -> RoomRecord;
}

/// What a world may do to its job.
pub(super) struct JobAccess<'a> {
    /// Takes requests to stop or to kill the job.
    pub(super) control: &'a Control,
    /// Pays for what the world keeps.
    pub(super) meter: &'a mut Meter,
    ids: &'a mut Ids,
    clock: GuestClock,
    /// The time.
    pub(super) now: Instant,
    /// The fuel that the job has used up to its last step.
    pub(super) fuel: u64,
}

impl<'a> JobAccess<'a> {
    /// Access to the job of this state.
    pub(super) fn new(state: &'a mut HostState, now: Instant) -> Self {
        let HostState { control, meter, ids, clock, fuel_left, .. } = state;
        let fuel = fuel_used(meter.limits(), *fuel_left);
        Self { control, meter, ids, clock: *clock, now, fuel }
    }

    /// The time as the guest counts it.
    pub(super) fn moment(&self) -> Moment {
        self.clock.moment(self.now)
    }

    /// A time of the host's clock as the guest counts it.
    pub(super) fn moment_of(&self, at: Instant) -> Moment {
        self.clock.moment(at)
    }

    /// Send an event, which is dropped where the inbox is full.
    pub(super) fn send(&self, event: Event) {
        self.control.inbox.push(event);
    }

    /// Send an event that must not be dropped.
    pub(super) fn send_sure(&mut self, event: Event) -> Result<(), Kill> {
        self.control.inbox.push_sure(event);
        self.meter.check()
    }

    /// An operation succeeded and is over.
    pub(super) fn done(&mut self, id: u32) -> Result<(), Kill> {
        self.send_sure(Event::Done(Completion { id, value: String::new() }))
    }

    /// An operation failed and is over.
    pub(super) fn fail(&mut self, id: u32, code: &str, message: &str) -> Result<(), Kill> {
        let failure = Failure { id, code: code.into(), status: 0, message: message.into() };
        self.send_sure(Event::Failed(failure))
    }

    /// Whether an id has not ended.
    pub(super) fn is_open(&self, id: u32) -> bool {
        self.ids.is_open(id)
    }

    /// Close an id without a last event. Whether it was open.
    pub(super) fn close(&mut self, id: u32) -> bool {
        let closed = self.ids.close(id);
        if closed {
            self.meter.release(ID_BYTES);
        }
        closed
    }
}

/// Perform the calls of a step, in order.
pub(super) fn perform_all(
    world: &mut dyn World,
    calls: impl Iterator<Item = Call>,
    job: &mut JobAccess<'_>,
) -> Result<(), Kill> {
    for call in calls {
        if let Some(id) = call.new_id() {
            job.meter.charge(ID_BYTES)?;
            if !job.ids.open(id) {
                job.fail(id, "limit", "too many operations are open")?;
                continue;
            }
        }
        match call {
            Call::Shutdown { reason } => job.control.ask_to_stop(StopBy::Guest, clip(&reason)),
            Call::Cancel { id } => {
                if job.close(id) {
                    world.perform(Call::Cancel { id }, job)?;
                }
            }
            call => world.perform(call, job)?,
        }
    }
    Ok(())
}

/// A job without a guest, for the tests of worlds.
#[cfg(test)]
pub(super) struct JobWithoutGuest {
    pub(super) control: std::sync::Arc<Control>,
    pub(super) meter: Meter,
    pub(super) ids: Ids,
    pub(super) clock: GuestClock,
    pub(super) participants: crate::guest::participants::Participants,
    pub(super) launched: Instant,
}

#[cfg(test)]
impl JobWithoutGuest {
    /// A job with this limit on its memory, launched now.
    pub(super) fn new(memory_bytes: usize) -> Self {
        use crate::guest::inbox_queue::InboxQueue;
        use crate::guest::job_log::JobLog;
        use crate::settings::Limits;

        let limits = std::sync::Arc::new(Limits { memory_bytes, ..Limits::default() });
        let inbox = InboxQueue::new(limits.inbox_events, memory_bytes / 2);
        let control = std::sync::Arc::new(Control::new(inbox, JobLog::new("a".into(), 1), std::sync::Arc::default()));
        let meter = Meter::new(limits, control.clone(), std::sync::Arc::default());
        let launched = Instant::now();
        Self {
            control,
            meter,
            ids: Ids::default(),
            clock: GuestClock::launched(launched, crate::guest::clock::since_1970()),
            participants: Default::default(),
            launched,
        }
    }

    /// The next id of a call.
    pub(super) fn id(&mut self) -> u32 {
        self.ids.next().unwrap()
    }

    /// Access some milliseconds after the launch.
    pub(super) fn access(&mut self, after_ms: u64) -> JobAccess<'_> {
        let now = self.launched + std::time::Duration::from_millis(after_ms);
        let Self { control, meter, ids, clock, .. } = self;
        JobAccess { control, meter, ids, clock: *clock, now, fuel: 0 }
    }

    /// Perform a call.
    pub(super) fn perform(&mut self, world: &mut dyn World, call: Call) {
        perform_all(world, std::iter::once(call), &mut self.access(0)).unwrap();
    }

    /// Give the next step its events, as a job does.
    pub(super) fn step(&mut self, world: &mut dyn World) -> Vec<Event> {
        let Self { control, meter, ids, participants, launched, .. } = self;
        let mut events = Vec::new();
        let held = control.inbox.take(*launched, &mut events, |event| {
            crate::guest::delivery::deliver(event, ids, participants, control, meter).unwrap()
        });
        control.inbox.release(held);
        events.iter().for_each(|event| world.is_given(event, *launched));
        events
    }

    /// Take the events that the next step would be given.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let held = self.control.inbox.take(self.launched, &mut events, |_| true);
        self.control.inbox.release(held);
        events
    }
}
