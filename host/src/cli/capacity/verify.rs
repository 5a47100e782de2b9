//! `wasm-worker capacity --verify`: as many jobs as were computed, through the admission control of a worker, whose measured load
//! decides on each further job.
//!
//! Bound: the window that the load is an average of, in which nothing is counted, then the time of the measurement, then the
//! grace of the jobs that still run, and the wait of an offer for a slot.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::super::Failure;
use super::super::load_generator::{MEASURED, guests_gone, refused};
use super::super::summary::percentile;
use crate::config::Config;
use crate::load::capacity::{Fit, Machine};
use crate::load::recent_jobs::{Cost, Costs};
use crate::load::rooms::RoomReading;
use crate::load::window::{SAMPLE_EVERY, WINDOW};
use crate::load::{LoadFunction, LoadMonitor};
use crate::worker::admission::AdmissionControl;
use wasm_worker_core::observer::Events;
use wasm_worker_core::refusal::Reason;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::offer::Offer;

/// A worker without a server.
pub(super) struct Verification<'a, O> {
    pub(super) agent: &'a Agent,
    pub(super) engine: &'a Engine,
    pub(super) events: &'a Arc<Events>,
    pub(super) config: &'a Config,
    pub(super) offer: O,
}

/// The figures that were measured.
#[derive(Default)]
struct Figures {
    /// The start times of the jobs that ended in the counted time, in microseconds.
    starts: Vec<u64>,
    offers: usize,
    /// Refused offers by reason.
    refused: BTreeMap<&'static str, usize>,
    /// The load of each sample in the counted time, when earlier samples have left the window.
    loads: Vec<f64>,
    costs: Costs,
}

impl<O: Fn() -> Offer> Verification<'_, O> {
    /// Run the computed number of jobs at once for `time`, and compare.
    pub(super) async fn run(&self, here: Machine, expected: Fit, time: Duration) -> Result<String, Failure> {
        let admission = AdmissionControl::new(self.config);
        let figures = Mutex::new(Figures::default());
        let from = Instant::now() + WINDOW;
        let until = from + time;
        let sampling = self.sample(&admission, &figures, here.cores, from..until);
        let loops = join_all((0..expected.at_once).map(|_| self.one_loop(&admission, &figures, from..until)));
        tokio::select! {
            ended = loops => ended.into_iter().collect::<Result<(), Failure>>()?,
            never = sampling => match never {},
        }
        let figures = figures.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(figures.text(here, expected, time))
    }

    async fn sample(
        &self,
        admission: &Arc<AdmissionControl>,
        figures: &Mutex<Figures>,
        cores: f64,
        counted: Range<Instant>,
    ) -> std::convert::Infallible {
        // The cores of this machine. `--cores` is about another machine.
        let mut monitor =
            LoadMonitor::new(self.engine.clone(), Some(cores), self.config.max_jobs, LoadFunction::Largest);
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let measured = monitor.measure(now, admission.jobs(), RoomReading::default()).await;
            admission.update(now, measured);
            if counted.contains(&now) {
                lock(figures).loads.push(measured.load);
            }
        }
    }

    async fn one_loop(
        &self,
        admission: &Arc<AdmissionControl>,
        figures: &Mutex<Figures>,
        counted: Range<Instant>,
    ) -> Result<(), Failure> {
        while Instant::now() < counted.end {
            let cost = {
                let mut figures = lock(figures);
                figures.offers += 1;
                figures.costs.predict()
            };
            let permit = match admission.acquire(admission.wait(), cost).await {
                Ok(permit) => permit,
                Err(refusal) => {
                    *lock(figures).refused.entry(refusal.reason.as_str()).or_default() += 1;
                    continue;
                }
            };
            let accepted = match self.agent.decide((self.offer)(), self.events).await {
                Ok(accepted) => accepted,
                Err(refusal) if refusal.reason == Reason::Full => {
                    *lock(figures).refused.entry(refusal.reason.as_str()).or_default() += 1;
                    continue;
                }
                Err(refusal) => return Err(refused(&refusal)),
            };
            let running = accepted.launch(None);
            let handle = running.handle();
            let mut closed = std::pin::pin!(running.closed());
            let (closed, in_time) = tokio::select! {
                biased;
                closed = &mut closed => (closed, true),
                () = sleep_until(counted.end) => {
                    handle.stop(StopBy::Drain, MEASURED);
                    (closed.await, false)
                }
            };
            let closed = closed.ok_or_else(guests_gone)?;
            let took = Cost::of_job(&closed);
            permit.release(took);
            let mut figures = lock(figures);
            figures.costs.learn(took);
            if in_time && Instant::now() >= counted.start {
                figures.starts.extend(closed.usage.start_us);
            }
        }
        Ok(())
    }
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "averages and rates")]
    fn text(mut self, here: Machine, expected: Fit, time: Duration) -> String {
        self.starts.sort_unstable();
        let load = self.loads.iter().sum::<f64>() / self.loads.len().max(1) as f64;
        let per_hour = self.starts.len() as f64 * 3_600.0 / time.as_secs_f64();
        let computed_load = expected.cpu.max(expected.memory);
        let off = |computed: f64, measured: f64| 100.0 * (measured - computed) / computed;
        let refused: usize = self.refused.values().sum();
        let reasons: Vec<String> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        format!(
            "\nverified on this machine, with {} cores and {} jobs at once, each admitted by the load as in a worker:\n         computed   measured     off\n  load {computed_load:>10.2} {load:>10.2} {:>6.1} %\n  an hour {:>7.0} {per_hour:>10.0} {:>6.1} %\n  start    {} µs median, {} µs p99\n  refused  {refused} of {} offers{reasons}",
            here.cores,
            expected.at_once,
            off(computed_load, load),
            expected.per_hour,
            off(expected.per_hour, per_hour),
            percentile(&self.starts, 50),
            percentile(&self.starts, 99),
            self.offers,
        )
    }
}

fn lock(figures: &Mutex<Figures>) -> MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}
