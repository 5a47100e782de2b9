//! The host's side of one instance: its state, and the machinery that its host calls and its job share.
//!
//! Not here: what each interface does ([`crate::hostcalls`]), and what becomes of a job ([`crate::job`]).
//!
//! Bounds: what a call leaves behind in the host is charged to the job's memory ([`meter::Meter::charge`]), or is bounded by
//! a constant beside it (log fields, kept log lines, model usage, panic message).

pub(crate) mod bindings;

pub(crate) mod convert;
pub(crate) mod kill;
pub(crate) mod run_clock;

mod kept_log;

pub(crate) mod job_log;

pub(crate) mod inbox_queue;

pub(crate) mod control;

pub(crate) mod meter;
pub(crate) mod model_usage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use tokio::runtime::Handle;
use tokio::time::Instant;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::text::pairs_bytes;
use wasmtime::component::ResourceTable;

use crate::engine::Engine;
use crate::settings::Limits;
use control::Control;
use inbox_queue::InboxQueue;
use job_log::JobLog;
use kill::Kill;
use meter::Meter;
use model_usage::ModelUsageTable;

pub(crate) use bindings::wasm_worker::agent::types as contract;

/// One over the share of a job's memory that waiting events may take.
const INBOX_SHARE: usize = 8;
/// Start of a live instance's monotonic clock. It is later than any time that a snapshotted prewarm can have read, so that no
/// job sees its clock go backwards.
const CLOCK_ORIGIN: Duration = Duration::from_secs(60 * 60 * 24);

/// The use of an instance, which decides what the instance may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `prewarm` before a snapshot, which cannot keep a handle.
    Snapshot,
    /// Anything else.
    Live,
}

/// The data of one instance's store.
pub(crate) struct HostState {
    /// What the instance is used for.
    pub(crate) stage: Stage,
    /// The open handles.
    pub(crate) table: ResourceTable,
    /// What the job has used, and its limits.
    pub(crate) meter: Meter,
    /// What the job's task shares with others.
    pub(crate) control: Arc<Control>,
    /// The facts of the job.
    pub(crate) info: contract::JobInfo,
    /// What the agent did in its room.
    pub(crate) room: RoomRecord,
    /// Version of the participants that the guest saw last.
    pub(crate) participants_seen: u64,
    /// Use of models, as the agent reported it.
    pub(crate) usage: ModelUsageTable,
    /// The generator of random numbers, seeded from the operating system at the first call.
    pub(crate) random: Option<StdRng>,
    /// The time at which the monotonic clock began.
    pub(crate) started: Instant,
    /// The value of the monotonic clock at its beginning.
    pub(crate) clock_origin: Duration,
    /// The runtime on which this job's timers fire.
    pub(crate) timers: Handle,
    /// Fuel left at the present `get-budget` call.
    pub(crate) fuel_left: u64,
}

impl HostState {
    /// The state of an instance that has no job yet.
    pub(crate) fn new(engine: &Engine, limits: &Arc<Limits>, agent: &Arc<str>, stage: Stage) -> Self {
        let log = JobLog::new(agent.clone(), limits.log_lines_per_second);
        let inbox = InboxQueue::new(limits.inbox_events, limits.memory_bytes / INBOX_SHARE, engine.timers().clone());
        let control = Arc::new(Control::new(inbox, log, engine.core_demand().clone()));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles.saturating_mul(2));
        Self {
            stage,
            table,
            meter: Meter::new(limits.clone(), control.clone(), engine.spending().clone()),
            control,
            info: no_job(agent),
            room: RoomRecord::default(),
            participants_seen: 0,
            usage: ModelUsageTable::default(),
            random: None,
            started: Instant::now(),
            clock_origin: match stage {
                Stage::Snapshot => Duration::ZERO,
                Stage::Live => CLOCK_ORIGIN,
            },
            timers: engine.timers().clone(),
            fuel_left: 0,
        }
    }

    /// Give this instance to a job. What its prewarm and its `decide` sent, set or asked for through the host is discarded.
    /// Open handles stay open, and the guest's own memory stays as it is.
    pub(crate) fn assign(
        &mut self,
        info: contract::JobInfo,
        participants: Vec<contract::Participant>,
    ) -> Result<(), Kill> {
        self.control.reset();
        self.meter.reset();
        self.room = RoomRecord::default();
        self.usage = ModelUsageTable::default();
        let own = info.metadata.len() + info.room.metadata.len() + pairs_bytes(&info.attributes);
        self.control.log().begin(&info.id);
        self.control.inbox.begin_with(participants);
        self.meter.charge(own)?;
        self.info = info;
        Ok(())
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

/// The facts of an instance that has no job.
fn no_job(agent: &str) -> contract::JobInfo {
    contract::JobInfo {
        id: String::new(),
        dispatch_id: String::new(),
        kind: contract::JobKind::Room,
        room: contract::RoomInfo { sid: String::new(), name: String::new(), metadata: String::new() },
        participant: None,
        metadata: String::new(),
        attributes: Vec::new(),
        agent_name: agent.to_owned(),
        attempt: 0,
    }
}

/// Lock a small state. A panic under the lock cannot leave such a state half changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
