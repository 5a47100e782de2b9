//! The host's side of one instance: its state, and the machinery that its host calls and its job share.
//!
//! Not here: what each interface does ([`crate::hostcalls`]), and what becomes of a job ([`crate::job`]).
//!
//! Bounds: what a call leaves behind in the host is charged to the job's memory ([`meter::Meter::charge`]), or is bounded by
//! a constant beside it (log fields, kept log lines, model usage, reported tasks, panic message).

pub(crate) mod bindings;
pub(crate) mod closed;

pub(crate) mod clock;
pub(crate) mod convert;
mod convert_room;
mod convert_audio;
pub(crate) mod events;
pub(crate) mod kill;
pub(crate) mod run_clock;

mod kept_log;

pub(crate) mod calls;
pub(crate) mod ids;
pub(crate) mod job_log;
pub(crate) mod participants;

pub(crate) mod room_view;

pub(crate) mod inbox_queue;
pub(crate) mod tape;

pub(crate) mod control;

pub(crate) mod meter;
pub(crate) mod model_usage;

pub(crate) mod delivery;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;
use wasmtime::component::ResourceTable;

use crate::engine::Engine;
use crate::settings::Limits;
use calls::CallBuffer;
use clock::GuestClock;
use closed::Closed;
use control::Control;
use ids::Ids;
use inbox_queue::InboxQueue;
use job_log::JobLog;
use kill::Kill;
use meter::Meter;
use model_usage::ModelUsageTable;
use participants::Participants;
use tape::Tape;

pub(crate) use bindings::wasm_worker::agent::types as contract;

/// One over the share of a job's memory that waiting events may take.
const INBOX_SHARE: usize = 8;
/// The seed of every prewarm.
const PREWARM_SEED: Seed = [0; 32];

/// The seed of a job's random numbers.
pub(crate) type Seed = [u8; 32];

/// The use of an instance, which decides what the instance may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `prewarm` before a snapshot, which cannot keep a handle.
    Snapshot,
    /// Anything else.
    Live,
}

/// The export that runs, which decides which calls act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Start functions, and `prewarm`.
    Prewarm,
    /// `decide`
    Decide,
    /// The steps of a job.
    Job,
}

/// The data of one instance's store.
pub(crate) struct HostState {
    /// What the instance is used for.
    pub(crate) stage: Stage,
    /// What runs in it.
    pub(crate) part: Part,
    /// The open handles.
    pub(crate) table: ResourceTable,
    /// What the job has used, and its limits.
    pub(crate) meter: Meter,
    /// What the job's task shares with others.
    pub(crate) control: Arc<Control>,
    /// The ids of the job.
    pub(crate) ids: Ids,
    /// The calls of the present step.
    pub(crate) calls: CallBuffer,
    /// Everyone else in the room, as the guest knows it.
    pub(crate) participants: Participants,
    /// Use of models, as the agent reported it.
    pub(crate) usage: ModelUsageTable,
    /// The generator of random numbers.
    pub(crate) random: StdRng,
    /// Whether the start functions or `prewarm` asked for randomness, which is the same in each job then.
    pub(crate) asked_random: bool,
    /// The time that the guest sees.
    pub(crate) clock: GuestClock,
    /// The file system and the network, which allow nothing.
    pub(crate) closed: Closed,
    /// What the guest has learnt of its budget.
    pub(crate) tape: Tape,
    /// Fuel left at the present `get-budget` call, and after each step.
    pub(crate) fuel_left: u64,
}

impl HostState {
    /// The state of an instance that has no job yet.
    pub(crate) fn new(engine: &Engine, limits: &Arc<Limits>, agent: &Arc<str>, stage: Stage) -> Self {
        let log = JobLog::new(agent.clone(), limits.log_lines_per_second);
        let inbox = InboxQueue::new(limits.inbox_events, limits.memory_bytes / INBOX_SHARE);
        let control = Arc::new(Control::new(inbox, log, engine.core_demand().clone()));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles.saturating_mul(2));
        Self {
            stage,
            part: Part::Prewarm,
            table,
            meter: Meter::new(limits.clone(), control.clone(), engine.spending().clone()),
            control,
            ids: Ids::default(),
            calls: CallBuffer::default(),
            participants: Participants::default(),
            usage: ModelUsageTable::default(),
            random: StdRng::from_seed(PREWARM_SEED),
            asked_random: false,
            clock: GuestClock::prewarm(),
            closed: Closed::default(),
            tape: Tape::default(),
            fuel_left: 0,
        }
    }

    /// `decide` is called next, with the seed that the job will have, at this time since 1970.
    pub(crate) fn begin_decide(&mut self, seed: Seed, wall: Duration) {
        self.part = Part::Decide;
        self.clock = GuestClock::decide(wall);
        self.random = StdRng::from_seed(seed);
    }

    /// Give this instance to a job. What its prewarm and its `decide` set or asked for through the host is discarded. Open handles
    /// stay open, and the guest's own memory stays as it is. `kept_bytes` is what the host keeps for the job from its beginning.
    pub(crate) fn assign(&mut self, job: &str, kept_bytes: usize) -> Result<(), Kill> {
        self.part = Part::Job;
        self.control.reset();
        self.meter.reset();
        self.usage = ModelUsageTable::default();
        self.control.log().begin(job);
        self.meter.charge(kept_bytes)
    }

    /// The job is launched at `now`, which is `wall` since 1970.
    pub(crate) fn launch(&mut self, now: Instant, wall: Duration) {
        self.meter.launched = Some(now);
        self.clock = GuestClock::launched(now, wall);
    }

    /// Refuse to give out a handle that a snapshot could not keep.
    pub(crate) fn check_handle_allowed(&self, import: &'static str) -> wasmtime::Result<()> {
        match self.stage {
            Stage::Snapshot => Err(HandleInSnapshot { import }.into()),
            Stage::Live => Ok(()),
        }
    }
}

/// A `prewarm` before a snapshot asked for a handle.
#[derive(Debug, thiserror::Error)]
#[error("prewarm used `{import}`, which gives a handle that a snapshot cannot keep")]
pub(crate) struct HandleInSnapshot {
    /// The function that gives the handle.
    pub(crate) import: &'static str,
}

/// The guest called `wasi:cli/exit`.
#[derive(Debug, thiserror::Error)]
#[error("the agent exited with status {0}")]
pub(crate) struct Exit(pub(crate) u8);

/// Lock a small state. A panic under the lock cannot leave such a state half changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
