//! One call into a guest: metered at each poll, and its result sorted by type.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use wasmtime::component::ResourceTableError;
use wasmtime::error::OutOfMemory;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::engine::turns::Demand;
use crate::hostcalls::control::Control;
use crate::hostcalls::kill::Kill;
use crate::hostcalls::{Exit, HandleInSnapshot};
use wasm_worker_core::verdict::{Code, FRAMES_MAX, TrapKind, Verdict, frame_name};

/// A call that did not return.
#[derive(Clone, Debug)]
pub(crate) enum Crash {
    /// The guest trapped, or broke the contract.
    Trap { kind: TrapKind, detail: String, backtrace: Vec<String> },
    /// The host ended it.
    Killed { kill: Kill, backtrace: Vec<String> },
    /// It used up its fuel.
    OutOfFuel { backtrace: Vec<String> },
    /// It called `exit`.
    Exit(u8),
    /// Its `prewarm`, before a snapshot, asked for a handle.
    NeedsHandle { import: &'static str },
    /// Its `prewarm` returned an error, or no instance could be made of it.
    InitFailed(String),
    /// A bug or failure of ours.
    Host(String),
}

impl Crash {
    /// The verdict on an agent that fails before it has a job: in its prewarm, or in `decide`.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Trap { kind, detail, backtrace } => {
                Verdict { trap: Some(kind), backtrace, ..Verdict::new(Code::InitFailed, detail) }
            }
            Self::Killed { kill, backtrace } => Verdict { backtrace, ..Verdict::new(kill.code(), kill.to_string()) },
            Self::OutOfFuel { backtrace } => {
                Verdict { backtrace, ..Verdict::new(Code::OutOfFuel, "used up `fuel-limit`") }
            }
            Self::Exit(status) => Verdict::new(Code::InitFailed, format!("the agent exited with status {status}")),
            Self::InitFailed(error) => Verdict::new(Code::InitFailed, error),
            Self::NeedsHandle { import } => {
                Verdict::new(Code::HostFault, format!("`{import}` was refused although no snapshot is being taken"))
            }
            Self::Host(error) => Verdict::new(Code::HostFault, error),
        }
    }

    /// With what the guest said before it trapped.
    fn with_words(self, words: Option<String>) -> Self {
        match (self, words) {
            (Self::Trap { kind, backtrace, .. }, Some(detail)) => Self::Trap { kind, detail, backtrace },
            (crash, _) => crash,
        }
    }
}

/// Drive one call into a guest to its end.
pub(crate) async fn call<R>(
    control: &Arc<Control>,
    future: impl Future<Output = wasmtime::Result<R>>,
) -> Result<R, Crash> {
    control.check_kill().map_err(|kill| Crash::Killed { kill, backtrace: Vec::new() })?;
    // A guest could use up the budget that tokio gives a task with timers that are due, and then no timer round it would
    // ever be looked at. Epochs and slices of fuel bound its polls instead.
    let guest = tokio::task::unconstrained(AssertUnwindSafe(future).catch_unwind());
    let demand = Demand::new(control.turns.clone());
    let metered = Metered { control: control.clone(), demand, future: Box::pin(guest) };
    match metered.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(sort(&error).with_words(control.take_last_words())),
        Err(panic) => Err(Crash::Host(format!("a host call panicked: {}", panic_text(&*panic)))),
    }
}

/// Charges each turn to the job's clock, and lets one be of several slices.
struct Metered<F> {
    control: Arc<Control>,
    demand: Demand,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { control, demand, future } = &mut *self;
        let began = demand.begin();
        control.clock.poll_begins();
        let polled = loop {
            let polled = future.as_mut().poll(cx);
            if polled.is_ready() || control.clock.is_waiting() {
                demand.rest();
                break polled;
            }
            // The end of a slice.
            if demand.is_over(began) {
                break polled;
            }
        };
        control.clock.poll_ends(began.elapsed());
        polled
    }
}

/// What an error of wasmtime's means for a job.
pub(crate) fn sort(error: &wasmtime::Error) -> Crash {
    let backtrace = backtrace(error);
    if let Some(kill) = error.downcast_ref::<Kill>() {
        return Crash::Killed { kill: kill.clone(), backtrace };
    }
    if let Some(Exit(status)) = error.downcast_ref::<Exit>() {
        return Crash::Exit(*status);
    }
    if let Some(HandleInSnapshot { import }) = error.downcast_ref::<HandleInSnapshot>() {
        return Crash::NeedsHandle { import };
    }
    if let Some(kill) = flooded(error) {
        return Crash::Killed { kill, backtrace };
    }
    if is_host_failure(error) {
        return Crash::Host(error.root_cause().to_string());
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Crash::OutOfFuel { backtrace },
        Some(trap) => Crash::Trap { kind: trap_kind(*trap), detail: trap.to_string(), backtrace },
        // What is left is raised by the canonical ABI: a bad pointer, text that is not UTF-8, a handle that is none.
        None => {
            let detail = error.root_cause().to_string();
            Crash::Trap { kind: TrapKind::BrokenContract, detail, backtrace }
        }
    }
}

/// Past a bound that wasmtime itself keeps. Two of its three errors are private types, so they are known by their text;
/// the tests in `tests/all/hostile_guests.rs` would notice if that changed.
fn flooded(error: &wasmtime::Error) -> Option<Kill> {
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(Kill::TooMany { what: "open handles" });
    }
    let cause = error.root_cause().to_string();
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        return Some(Kill::TooMany { what: "bytes in one host call" });
    }
    if cause.contains("store handle limit exceeded") {
        return Some(Kill::TooMany { what: "open handles" });
    }
    None
}

/// No room in the pool, no memory, no mapping: not the guest's doing.
fn is_host_failure(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>() || error.is::<OutOfMemory>() || error.is::<std::io::Error>()
}

/// The stable name of a trap.
fn trap_kind(trap: Trap) -> TrapKind {
    match trap {
        Trap::StackOverflow => TrapKind::StackOverflow,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapKind::IndirectCallToNull,
        Trap::BadSignature => TrapKind::BadSignature,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapKind::DivideByZero,
        Trap::BadConversionToInteger => TrapKind::BadConversionToInteger,
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::AllocationTooLarge => TrapKind::AllocationTooLarge,
        // The enum is not exhaustive; what is left comes from proposals that are off, or from the canonical ABI.
        _ => TrapKind::BrokenContract,
    }
}

/// Function names, innermost first. Functions without a name are the shims round a component's imports.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    names.take(FRAMES_MAX).map(readable).collect()
}

fn readable(name: &str) -> String {
    frame_name(&format!("{:#}", rustc_demangle::demangle(name)))
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
