//! A thread that advances the epoch, which interrupts running guests, and a report of how late its ticks were.
//!
//! While at least as many guests want a core as there are cores, the epoch advances twenty times as often. A guest that spends
//! its time in host calls uses little fuel, so only the epoch ends its time slices, and others wait for its core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::EPOCH;
use super::timeslice::CoreDemand;

/// Length of an epoch while cores are contended.
const EPOCH_CONTENDED: Duration = Duration::from_micros(500);

/// Lateness of the epoch thread since its start.
#[derive(Clone, Copy, Debug)]
pub struct TickerReport {
    /// Number of ticks.
    pub ticks: u64,
    /// Number of ticks that were late by an epoch or more.
    pub late: u64,
    /// The largest lateness.
    pub worst: Duration,
}

/// Advances the epoch from a thread of its own. A task would starve exactly when it is needed.
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
    pub(super) fn start(engine: &wasmtime::Engine, demand: Arc<CoreDemand>) -> std::io::Result<Self> {
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
                // Missed ticks are skipped: two at once would stop no guest sooner.
                let next = if demand.is_contended() { EPOCH_CONTENDED } else { EPOCH };
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
