//! Jobs of one agent, so many at once, one after another in each lane, for a while.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::summary::exit_of;
use super::{Exit, Failure};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::offer::Offer;

/// A time on the command line.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let time = parsed.and_then(|time| Duration::try_from(time).ok());
    let within = time.filter(|time| (Duration::from_millis(10)..=Duration::from_secs(600)).contains(time));
    within.ok_or_else(|| "want 10ms to 10m, such as 3s".into())
}

/// What `keep` makes of the jobs that ran, and how long that took.
pub(super) struct Lanes<T> {
    pub(super) took: Duration,
    pub(super) jobs: Vec<T>,
    /// Jobs among them that had not ended when the time was up.
    pub(super) cut: usize,
}

/// The jobs to run, one after another in each lane.
pub(super) struct Line<'a, O> {
    pub(super) agent: &'a Agent,
    pub(super) events: &'a Arc<Events>,
    pub(super) offer: O,
}

impl<O: Fn() -> Offer> Line<'_, O> {
    /// Run them. What still runs when the time is up is asked to stop, within its grace.
    pub(super) async fn run<T>(
        &self,
        at_once: u32,
        time: Duration,
        keep: fn(JobRecord) -> T,
    ) -> Result<Lanes<T>, Failure> {
        let began = Instant::now();
        let until = began + time;
        let lanes = join_all((0..at_once).map(|_| self.lane(until, keep))).await;
        let mut all = Lanes { took: began.elapsed(), jobs: Vec::new(), cut: 0 };
        for lane in lanes {
            let (jobs, cut) = lane?;
            all.jobs.extend(jobs);
            all.cut += usize::from(cut);
        }
        Ok(all)
    }

    /// Its jobs, and whether the last had to be asked to stop.
    async fn lane<T>(&self, until: Instant, keep: fn(JobRecord) -> T) -> Result<(Vec<T>, bool), Failure> {
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
                    handle.stop(StopBy::Drain, "the time of the measurement is up");
                    closed.await
                }
            };
            all.push(keep(ended.ok_or_else(guests_gone)?));
        }
        Ok((all, cut))
    }
}

pub(super) fn refused(refusal: &Refusal) -> Failure {
    let Refusal { reason, detail, .. } = refusal;
    let error = format!("the agent refused the offer: {reason}: {detail}").into();
    Failure { exit: exit_of(refusal), error, hint: None }
}

pub(super) fn guests_gone() -> Failure {
    Failure { exit: Exit::Host, error: "the runtime of the guests is gone".into(), hint: None }
}
