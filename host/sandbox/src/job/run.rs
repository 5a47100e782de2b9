//! One call into a guest: metered at each poll, its result sorted by type, and outside of a job under a time limit.
//!
//! Bound: a guest that does not notice a kill is dropped after [`KILL_GRACE`].

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use wasmtime::component::ResourceTableError;
use wasmtime::error::OutOfMemory;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::engine::Engine;
use crate::engine::timeslice::GuestDemand;
use crate::guest::control::Control;
use crate::guest::kill::Kill;
use crate::guest::{Exit, HandleInSnapshot};
use wasm_worker_core::verdict::{Code, FRAMES_MAX, TrapKind, Verdict, frame_name};

/// Time for a guest that runs to notice a kill, at its next epoch.
pub(crate) const KILL_GRACE: Duration = Duration::from_millis(100);

/// The reason why a call into a guest did not return.
#[derive(Clone, Debug)]
pub(crate) enum Crash {
    /// The guest trapped, or broke the contract.
    Trap { kind: TrapKind, detail: String, backtrace: Vec<String> },
    /// The host killed the guest.
    Killed { kill: Kill, backtrace: Vec<String> },
    /// The guest used up its fuel.
    OutOfFuel { backtrace: Vec<String> },
    /// The guest called `exit`. `printed`: the last lines that it printed to standard error.
    Exit { status: u8, printed: String },
    /// `prewarm` before a snapshot asked for a handle.
    NeedsHandle { import: &'static str },
    /// `prewarm` returned an error, or the instance could not be created.
    InitFailed(String),
    /// A bug of wasm-worker or a failure of the machine.
    Host(String),
}

impl Crash {
    /// The verdict on an agent that fails outside of a job: in `prewarm` or in `decide`.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Trap { kind, detail, backtrace } => {
                Verdict { trap: Some(kind), backtrace, ..Verdict::new(Code::InitFailed, detail) }
            }
            Self::Killed { kill, backtrace } => Verdict { backtrace, ..Verdict::new(kill.code(), kill.to_string()) },
            Self::OutOfFuel { backtrace } => {
                Verdict { backtrace, ..Verdict::new(Code::OutOfFuel, "used up `fuel-limit`") }
            }
            Self::Exit { status, printed } => Verdict::new(Code::InitFailed, exit_detail(status, &printed)),
            Self::InitFailed(error) => Verdict::new(Code::InitFailed, error),
            Self::NeedsHandle { import } => {
                Verdict::new(Code::HostFault, format!("`{import}` was refused although no snapshot is being taken"))
            }
            Self::Host(error) => Verdict::new(Code::HostFault, error),
        }
    }

    /// Have the detail of a trap or an exit say what the guest said: the panic message that it reported, or else the last lines
    /// that it printed to standard error.
    fn with_last_words(self, control: &Control) -> Self {
        let message = control.take_panic_message();
        match (self, message) {
            (Self::Trap { kind, backtrace, .. }, Some(detail)) => Self::Trap { kind, detail, backtrace },
            (Self::Trap { kind, detail, backtrace }, None) => {
                let detail = with_printed(detail, &control.log().last_of_stderr());
                Self::Trap { kind, detail, backtrace }
            }
            (Self::Exit { status, .. }, _) => Self::Exit { status, printed: control.log().last_of_stderr() },
            (crash, _) => crash,
        }
    }
}

/// The detail of the verdict on a guest that called `exit`. A good end needs no last words.
pub(crate) fn exit_detail(status: u8, printed: &str) -> String {
    let detail = format!("the agent exited with status {status}");
    if status == 0 { detail } else { with_printed(detail, printed) }
}

fn with_printed(detail: String, printed: &str) -> String {
    if printed.is_empty() { detail } else { format!("{detail}; standard error: {printed}") }
}

/// Drive one call into a guest to its end.
pub(crate) async fn call<R>(
    control: &Arc<Control>,
    future: impl Future<Output = wasmtime::Result<R>>,
) -> Result<R, Crash> {
    control.check_kill().map_err(|kill| Crash::Killed { kill, backtrace: Vec::new() })?;
    // Epochs and fuel intervals bound the guest's polls, and not the budget that tokio gives a task.
    let guest = pin!(tokio::task::unconstrained(AssertUnwindSafe(future).catch_unwind()));
    let demand = GuestDemand::new(control.core_demand.clone());
    let metered = Metered { control, demand, future: guest };
    match metered.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(sort(&error).with_last_words(control)),
        Err(panic) => Err(Crash::Host(format!("a host call panicked: {}", panic_text(&*panic)))),
    }
}

/// Run a guest outside of a job, and kill the guest after `limit`.
pub(crate) async fn within<T>(
    control: &Arc<Control>,
    limit: Duration,
    kill: Kill,
    engine: &Engine,
    guest: impl Future<Output = Result<T, Crash>>,
) -> Result<T, Crash> {
    let (soft, hard) = {
        let _timers = engine.timers().enter();
        (tokio::time::sleep(limit), tokio::time::sleep(limit + KILL_GRACE))
    };
    let mut guest = pin!(guest);
    tokio::select! {
        biased;
        result = &mut guest => return result,
        () = soft => {
            control.kill(kill.clone());
            engine.end_epoch();
        }
    }
    let killed = tokio::select! {
        biased;
        result = &mut guest => result.err(),
        () = hard => None,
    };
    Err(killed.unwrap_or(Crash::Killed { kill, backtrace: Vec::new() }))
}

/// Polls a guest for one time slice, which spans many fuel intervals, and counts it on the job's clock.
struct Metered<'a, F> {
    control: &'a Control,
    demand: GuestDemand,
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { control, demand, future } = &mut *self;
        let began = demand.begin_slice();
        control.clock.poll_begins(began);
        let polled = loop {
            let polled = future.as_mut().poll(cx);
            if polled.is_ready() {
                demand.rest();
                break polled;
            }
            // The end of a fuel interval.
            if demand.is_slice_over(began) {
                break polled;
            }
        };
        control.clock.poll_ends(began.elapsed());
        polled
    }
}

/// The meaning of an error of wasmtime for a job.
pub(crate) fn sort(error: &wasmtime::Error) -> Crash {
    let backtrace = backtrace(error);
    if let Some(kill) = error.downcast_ref::<Kill>() {
        return Crash::Killed { kill: kill.clone(), backtrace };
    }
    if let Some(Exit(status)) = error.downcast_ref::<Exit>() {
        return Crash::Exit { status: *status, printed: String::new() };
    }
    if let Some(HandleInSnapshot { import }) = error.downcast_ref::<HandleInSnapshot>() {
        return Crash::NeedsHandle { import };
    }
    if let Some(kill) = exceeded_bound(error) {
        return Crash::Killed { kill, backtrace };
    }
    if is_host_failure(error) {
        return Crash::Host(error.root_cause().to_string());
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Crash::OutOfFuel { backtrace },
        Some(trap) => Crash::Trap { kind: trap_kind(*trap), detail: trap.to_string(), backtrace },
        // Other errors come from the canonical ABI: a bad pointer, text that is not UTF-8, an unknown handle.
        None => {
            let detail = error.root_cause().to_string();
            Crash::Trap { kind: TrapKind::BrokenContract, detail, backtrace }
        }
    }
}

/// The kill for a guest that exceeded a bound of wasmtime. Two of the three errors are private types, so their text is matched;
/// the tests of hostile guests notice a change of the text.
fn exceeded_bound(error: &wasmtime::Error) -> Option<Kill> {
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

/// Whether the host failed: no slot in the pool, no memory, no mapping.
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
        // The enum is not exhaustive; other traps come from proposals that are off, or from the canonical ABI.
        _ => TrapKind::BrokenContract,
    }
}

/// The names of the guest's functions, innermost first. Functions without a name are the shims around a component's imports.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    names.take(FRAMES_MAX).map(readable).collect()
}

fn readable(name: &str) -> String {
    frame_name(&format!("{:#}", rustc_demangle::demangle(name)))
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
