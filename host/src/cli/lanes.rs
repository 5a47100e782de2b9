//! Jobs of one agent, so many at once, one after another in each lane, for a while.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::summary::exit_of;
use super::{Exit, Failure};
use crate::agent::Agent;
use crate::events::Events;
use crate::hostcalls::control::StopBy;
use crate::job::spec::JobSpec;
use crate::job::teardown::Closed;

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
}

/// Run them. What still runs when the time is up is asked to stop, within its grace.
pub(super) async fn run<T>(
    agent: &Agent,
    events: &Arc<Events>,
    at_once: u32,
    time: Duration,
    keep: fn(Closed) -> T,
) -> Result<Lanes<T>, Failure> {
    let began = Instant::now();
    let until = began + time;
    let lanes = join_all((0..at_once).map(|_| lane(agent, events, until, keep))).await;
    let took = began.elapsed();
    let jobs = lanes.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    Ok(Lanes { took, jobs })
}

async fn lane<T>(
    agent: &Agent,
    events: &Arc<Events>,
    until: Instant,
    keep: fn(Closed) -> T,
) -> Result<Vec<T>, Failure> {
    let offer = JobSpec::default().into_offers(agent.name());
    let mut all = Vec::new();
    while Instant::now() < until {
        let running = agent.offer(offer(), events).await.map_err(|refusal| Failure {
            exit: exit_of(&refusal),
            error: format!("the agent refused the offer: {}: {}", refusal.reason, refusal.detail).into(),
            hint: None,
        })?;
        let handle = running.handle();
        let mut closed = std::pin::pin!(running.closed());
        let ended = tokio::select! {
            biased;
            ended = &mut closed => ended,
            () = sleep_until(until) => {
                handle.stop(StopBy::Drain, "the time of the measurement is up");
                closed.await
            }
        };
        all.push(keep(ended.ok_or_else(|| Failure {
            exit: Exit::Host,
            error: "the runtime of the guests is gone".into(),
            hint: None,
        })?));
    }
    Ok(all)
}
