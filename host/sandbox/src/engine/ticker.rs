//! The clock that running guests are looked at by: a thread that advances the epoch, and how late it was.
//!
//! While guests want more cores than there are it advances twenty times as often. A guest that spends its time in host calls uses
//! little fuel, so only the clock ends its turns, and a core is not to be kept for an epoch while others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::EPOCH;
use super::turns::Turns;

const CROWDED: Duration = Duration::from_micros(500);

/// Lateness of the epoch thread since it started.
#[derive(Clone, Copy, Debug)]
pub struct TickerReport {
    /// Ticks so far.
    pub ticks: u64,
    /// Ticks that came a whole epoch late or later.
    pub late: u64,
    /// The worst lateness.
    pub worst: Duration,
}

/// Advances the epoch, from a thread of its own: a task would starve exactly when it is needed.
pub(super) struct Ticker {
    shared: Arc<TickerShared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct TickerShared {
    stop: AtomicBool,
    ticks: AtomicU64,
    late: AtomicU64,
    worst_us: AtomicU64,
}

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine, turns: Arc<Turns>) -> std::io::Result<Self> {
        let shared = Arc::new(TickerShared::default());
        let (engine, counters) = (engine.weak(), shared.clone());
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            let mut due = Instant::now() + EPOCH;
            while !counters.stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                let now = Instant::now();
                if now < due {
                    continue;
                }
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                counters.count(now - due);
                // Ticks that were missed are not made up for: two at once would not stop anyone sooner.
                let next = if turns.are_short() { CROWDED } else { EPOCH };
                due = if due + next > now { due + next } else { now + next };
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn report(&self) -> TickerReport {
        TickerReport {
            ticks: self.shared.ticks.load(Ordering::Relaxed),
            late: self.shared.late.load(Ordering::Relaxed),
            worst: Duration::from_micros(self.shared.worst_us.load(Ordering::Relaxed)),
        }
    }
}

impl TickerShared {
    fn count(&self, lateness: Duration) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.late.fetch_add(u64::from(lateness >= EPOCH), Ordering::Relaxed);
        let micros = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.worst_us.fetch_max(micros, Ordering::Relaxed);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the epoch thread panicked");
            }
        }
    }
}
