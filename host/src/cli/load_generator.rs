//! A closed-loop load generator: a fixed number of jobs of one agent at a time, each followed by the next, for a while.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::summary::exit_of;
use super::{Exit, Failure};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::offer::Offer;

/// Parse the duration of a measurement.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let time = parsed.and_then(|time| Duration::try_from(time).ok());
    let within = time.filter(|time| (Duration::from_millis(10)..=Duration::from_secs(600)).contains(time));
    within.ok_or_else(|| "want 10ms to 10m, such as 3s".into())
}

/// The jobs of one measurement.
pub(super) struct Measured<T> {
    /// The duration of the measurement.
    pub(super) took: Duration,
    /// The result of `keep` for each job.
    pub(super) jobs: Vec<T>,
    /// The number of jobs that the end of the measurement cut short.
    pub(super) cut: usize,
}

/// The generator: as many loops as there are jobs at once, each with one job after another.
pub(super) struct ClosedLoop<'a, O> {
    pub(super) agent: &'a Agent,
    pub(super) events: &'a Arc<Events>,
    pub(super) offer: O,
}

impl<O: Fn() -> Offer> ClosedLoop<'_, O> {
    /// Run the jobs. Jobs that still run at the end are asked to stop, within their grace.
    pub(super) async fn run<T>(
        &self,
        at_once: u32,
        time: Duration,
        keep: fn(JobRecord) -> T,
    ) -> Result<Measured<T>, Failure> {
        let began = Instant::now();
        let until = began + time;
        let loops = join_all((0..at_once).map(|_| self.one_loop(until, keep))).await;
        let mut all = Measured { took: began.elapsed(), jobs: Vec::new(), cut: 0 };
        for ended in loops {
            let (jobs, cut) = ended?;
            all.jobs.extend(jobs);
            all.cut += usize::from(cut);
        }
        Ok(all)
    }

    /// The jobs of one loop, and whether the last of them was cut short.
    async fn one_loop<T>(&self, until: Instant, keep: fn(JobRecord) -> T) -> Result<(Vec<T>, bool), Failure> {
        let (mut all, mut cut) = (Vec::new(), false);
        while Instant::now() < until {
            let running = self.agent.offer((self.offer)(), self.events).await.map_err(|refusal| refused(&refusal))?;
            let handle = running.handle();
            let mut closed = std::pin::pin!(running.closed());
            let ended = tokio::select! {
                biased;
                ended = &mut closed => ended,
                () = sleep_until(until) => {
                    cut = true;
                    handle.stop(StopBy::Drain, MEASURED);
                    closed.await
                }
            };
            all.push(keep(ended.ok_or_else(guests_gone)?));
        }
        Ok((all, cut))
    }
}

/// The reason of a stop at the end of a measurement.
pub(super) const MEASURED: &str = "the measurement has ended";

pub(super) fn refused(refusal: &Refusal) -> Failure {
    let Refusal { reason, detail, .. } = refusal;
    let error = match reason {
        Reason::Full => format!("there is no room for so many jobs at once: {detail}"),
        reason => format!("the agent refused the offer: {reason}: {detail}"),
    };
    let hint = (*reason == Reason::Full)
        .then(|| "`wasm-worker inspect AGENT` shows how many slots of the pool a job takes".to_owned());
    Failure { exit: exit_of(refusal), error: error.into(), hint }
}

pub(super) fn guests_gone() -> Failure {
    Failure { exit: Exit::Host, error: "the runtime of the guests has ended".into(), hint: None }
}
