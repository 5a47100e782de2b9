//! `wasm-worker capacity --verify`: as many jobs as were said to fit, through the room of a worker at its defaults, whose own load
//! decides whether there is place for one more.
//!
//! Bound: what the load is an average of, for which nothing is counted, and the time that is measured for; then the grace of what
//! still runs, and what an offer waits for room.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::super::Failure;
use super::super::lanes::{guests_gone, refused};
use super::super::summary::percentile;
use crate::config::Config;
use crate::load::capacity::{Fit, Machine};
use crate::load::recent_jobs::{Cost, Costs};
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

/// What was seen.
#[derive(Default)]
struct Seen {
    /// Of each job that ended in the time that counts, in microseconds.
    starts: Vec<u64>,
    offers: usize,
    /// By the name of the reason.
    refused: BTreeMap<&'static str, usize>,
    /// Of each sample in the time that counts: the first ones have left the window.
    loads: Vec<f64>,
    costs: Costs,
}

impl<O: Fn() -> Offer> Verification<'_, O> {
    /// Offer so many at once for a while, and compare with what was said.
    pub(super) async fn run(&self, here: Machine, expected: Fit, time: Duration) -> Result<String, Failure> {
        let admission = AdmissionControl::new(self.config);
        let seen = Mutex::new(Seen::default());
        let from = Instant::now() + WINDOW;
        let until = from + time;
        let sampling = self.sample(&admission, &seen, here.cores, from..until);
        let lanes = join_all((0..expected.at_once).map(|_| self.lane(&admission, &seen, from..until)));
        tokio::select! {
            ended = lanes => ended.into_iter().collect::<Result<(), Failure>>()?,
            never = sampling => match never {},
        }
        let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.text(here, expected, time))
    }

    async fn sample(
        &self,
        admission: &Arc<AdmissionControl>,
        seen: &Mutex<Seen>,
        cores: f64,
        counted: Range<Instant>,
    ) -> std::convert::Infallible {
        // Those of this machine; `--cores` is about another.
        let mut monitor =
            LoadMonitor::new(self.engine.clone(), Some(cores), self.config.max_jobs, LoadFunction::Largest);
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let measured = monitor.measure(now, admission.jobs()).await;
            admission.update(now, measured);
            if counted.contains(&now) {
                lock(seen).loads.push(measured.load);
            }
        }
    }

    async fn lane(
        &self,
        admission: &Arc<AdmissionControl>,
        seen: &Mutex<Seen>,
        counted: Range<Instant>,
    ) -> Result<(), Failure> {
        while Instant::now() < counted.end {
            let cost = {
                let mut seen = lock(seen);
                seen.offers += 1;
                seen.costs.predict()
            };
            let permit = match admission.acquire(admission.enqueue(), cost).await {
                Ok(permit) => permit,
                Err(refusal) => {
                    *lock(seen).refused.entry(refusal.reason.as_str()).or_default() += 1;
                    continue;
                }
            };
            let accepted = match self.agent.decide((self.offer)(), self.events).await {
                Ok(accepted) => accepted,
                Err(refusal) if refusal.reason == Reason::Full => {
                    *lock(seen).refused.entry(refusal.reason.as_str()).or_default() += 1;
                    continue;
                }
                Err(refusal) => return Err(refused(&refusal)),
            };
            let running = accepted.launch();
            let handle = running.handle();
            let mut closed = std::pin::pin!(running.closed());
            let (closed, in_time) = tokio::select! {
                biased;
                closed = &mut closed => (closed, true),
                () = sleep_until(counted.end) => {
                    handle.stop(StopBy::Drain, "the time of the measurement is up");
                    (closed.await, false)
                }
            };
            let closed = closed.ok_or_else(guests_gone)?;
            let took = Cost::of_job(&closed);
            permit.release(took);
            let mut seen = lock(seen);
            seen.costs.learn(took);
            if in_time && Instant::now() >= counted.start {
                seen.starts.extend(closed.usage.start_us);
            }
        }
        Ok(())
    }
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "averages and rates")]
    fn text(mut self, here: Machine, expected: Fit, time: Duration) -> String {
        self.starts.sort_unstable();
        let load = self.loads.iter().sum::<f64>() / self.loads.len().max(1) as f64;
        let per_hour = self.starts.len() as f64 * 3_600.0 / time.as_secs_f64();
        let said_load = expected.cpu.max(expected.memory);
        let off = |said: f64, seen: f64| 100.0 * (seen - said) / said;
        let refused: usize = self.refused.values().sum();
        let reasons: Vec<String> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        format!(
            "\nverified here, on {} cores with {} jobs at once, each admitted by the load as in a worker:\n             said       seen     off\n  load {said_load:>10.2} {load:>10.2} {:>6.1} %\n  an hour {:>7.0} {per_hour:>10.0} {:>6.1} %\n  start    {} µs median, {} µs p99\n  refused  {refused} of {} offers{reasons}",
            here.cores,
            expected.at_once,
            off(said_load, load),
            expected.per_hour,
            off(expected.per_hour, per_hour),
            percentile(&self.starts, 50),
            percentile(&self.starts, 99),
            self.offers,
        )
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
