//! What a guest may ask of its host: one file for each interface, and the state they work on.
//!
//! Everything that is not a pure function of the job's input reaches the guest through here. No call blocks a thread;
//! those that wait (`inbox.next`, `poll`, `block`) suspend the guest's fiber, and count as a sign of life.
//!
//! Bounds: what a call leaves behind in the host is charged to the job's memory ([`meter::Meter::charge`]), or is bounded by
//! a constant beside it (log fields, usage table, last words);
//! what one call carries is bounded by `hostcall-limit`, open handles by `handle-limit`.

pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod control;
mod convert;
pub(crate) mod inbox;
pub(crate) mod job;
pub(crate) mod kept_log;
pub(crate) mod kill;
pub(crate) mod log;
pub(crate) mod mailbox;
pub(crate) mod meter;
pub(crate) mod poll;
pub(crate) mod random;
pub(crate) mod room;
pub(crate) mod run_clock;
pub(crate) mod stdio;
pub(crate) mod usage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::text::pairs_bytes;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings as wasi;

use crate::engine::Engine;
use crate::settings::Limits;
use control::Control;
use kill::Kill;
use mailbox::Mailbox;
use meter::Meter;

/// The contract in `guest-sdk/wit`, as Rust.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub, reason = "generated code")]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "agent",
        imports: {
            "wasm-worker:agent/inbox.[method]receiver.next": async | tracing | trappable,
            default: tracing | trappable,
        },
        exports: { default: async },
        with: {
            "wasi:io/poll": wasmtime_wasi::p2::bindings::io::poll,
            "wasm-worker:agent/inbox.receiver": crate::hostcalls::inbox::Receiver,
        },
        additional_derives: [PartialEq, serde::Deserialize, serde::Serialize],
    });
}

/// The load function's world; what it imports is the agent's.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub, reason = "generated code")]
pub(crate) mod load_bindings {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "load-function",
        imports: { default: tracing | trappable },
        exports: { default: async },
        with: {
            "wasm-worker:agent/types": super::bindings::wasm_worker::agent::types,
            "wasm-worker:agent/log": super::bindings::wasm_worker::agent::log,
        },
    });
}

pub(crate) use bindings::wasm_worker::agent::types as contract;

/// Share of a job's memory that events may take while they wait.
const INBOX_SHARE: usize = 8;
/// Later than any time that a snapshotted prewarm can have read, so that no job sees its clock go backwards.
const CLOCK_ORIGIN: Duration = Duration::from_secs(60 * 60 * 24);

/// What the instance is being used for, which decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `prewarm` before a snapshot, which cannot keep a handle.
    Snapshot,
    /// Anything else.
    Live,
}

/// The host's side of one instance; the data of its store.
pub(crate) struct HostState {
    pub(crate) stage: Stage,
    pub(crate) table: ResourceTable,
    pub(crate) meter: Meter,
    pub(crate) control: Arc<Control>,
    pub(crate) info: contract::JobInfo,
    pub(crate) room: RoomRecord,
    /// Version of the participants that the guest was last told.
    participants_seen: u64,
    pub(crate) usage: usage::ModelUsageTable,
    pub(crate) random: random::Random,
    /// When the monotonic clock began, and what it showed then.
    pub(crate) started: Instant,
    pub(crate) clock_origin: Duration,
    /// The runtime on which this job's timers fire.
    pub(crate) timers: Handle,
    /// Fuel left, as of the present `get-budget` call.
    fuel_left: u64,
}

impl HostState {
    pub(crate) fn new(engine: &Engine, limits: &Arc<Limits>, agent: &Arc<str>, stage: Stage) -> Self {
        let log = log::JobLog::new(agent.clone(), limits.log_lines_per_second);
        let inbox = Mailbox::new(limits.inbox_events, limits.memory_bytes / INBOX_SHARE, engine.timers().clone());
        let control = Arc::new(Control::new(inbox, log, engine.turns().clone()));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles.saturating_mul(2));
        Self {
            stage,
            table,
            meter: Meter::new(limits.clone(), control.clone(), engine.spending().clone()),
            control,
            info: nobody(agent),
            room: RoomRecord::default(),
            participants_seen: 0,
            usage: usage::ModelUsageTable::default(),
            random: random::Random::default(),
            started: Instant::now(),
            clock_origin: match stage {
                Stage::Snapshot => Duration::ZERO,
                Stage::Live => CLOCK_ORIGIN,
            },
            timers: engine.timers().clone(),
            fuel_left: 0,
        }
    }

    /// Make this instance the one of a job. What its prewarm and the offer sent, set or asked for through the host is gone;
    /// handles stay open, and what they left in the guest's own memory stays.
    pub(crate) fn assign(
        &mut self,
        info: contract::JobInfo,
        participants: Vec<contract::Participant>,
    ) -> Result<(), Kill> {
        self.control.reset();
        self.meter.reset();
        self.room = RoomRecord::default();
        self.usage = usage::ModelUsageTable::default();
        let own = info.metadata.len() + info.room.metadata.len() + pairs_bytes(&info.attributes);
        self.control.log().begin(&info.id);
        self.control.inbox.begin_with(participants);
        self.meter.charge(own)?;
        self.info = info;
        Ok(())
    }

    /// Refuse to give out a handle that a snapshot could not keep.
    fn give_handle(&self, import: &'static str) -> wasmtime::Result<()> {
        match self.stage {
            Stage::Snapshot => Err(HandleInSnapshot { import }.into()),
            Stage::Live => Ok(()),
        }
    }
}

/// A `prewarm` that is to be snapshotted asked for a handle.
#[derive(Debug, thiserror::Error)]
#[error("prewarm used `{import}`, which gives a handle that a snapshot cannot keep")]
pub(crate) struct HandleInSnapshot {
    pub(crate) import: &'static str,
}

/// The guest called `wasi:cli/exit`.
#[derive(Debug, thiserror::Error)]
#[error("the agent exited with status {0}")]
pub(crate) struct Exit(pub(crate) u8);

/// The interfaces of WASI 0.2 that an agent may import, beside the contract's own.
pub(crate) const WASI_ALLOWED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Everything a guest may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    type Own = HasSelf<HostState>;
    let mut linker = engine.linker::<HostState>();
    let l = &mut linker;
    bindings::wasm_worker::agent::types::add_to_linker::<_, Own>(l, |state| state)?;
    bindings::wasm_worker::agent::inbox::add_to_linker::<_, Own>(l, |state| state)?;
    bindings::wasm_worker::agent::job::add_to_linker::<_, Own>(l, |state| state)?;
    bindings::wasm_worker::agent::log::add_to_linker::<_, Own>(l, |state| state)?;
    bindings::wasm_worker::agent::room::add_to_linker::<_, Own>(l, |state| state)?;
    bindings::wasm_worker::agent::usage::add_to_linker::<_, Own>(l, |state| state)?;
    job::add_budget(l)?;
    wasi::cli::environment::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::exit::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::stderr::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::stdin::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::stdout::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::terminal_input::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::terminal_output::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::terminal_stderr::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::terminal_stdin::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::cli::terminal_stdout::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::clocks::monotonic_clock::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::clocks::wall_clock::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::io::error::add_to_linker::<_, HasSelf<ResourceTable>>(l, |state| &mut state.table)?;
    wasi::io::poll::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::io::streams::add_to_linker::<_, HasSelf<ResourceTable>>(l, |state| &mut state.table)?;
    wasi::random::insecure::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::random::insecure_seed::add_to_linker::<_, Own>(l, |state| state)?;
    wasi::random::random::add_to_linker::<_, Own>(l, |state| state)?;
    Ok(linker)
}

impl contract::Host for HostState {}

/// The facts of an instance that has no job yet.
fn nobody(agent: &str) -> contract::JobInfo {
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

/// A panic under a lock cannot leave these small states half changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
