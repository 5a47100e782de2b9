//! The drain of one agent's worker: when its jobs are asked to stop, when they are killed, and when the drain is over. Pure.
//!
//! Bounds: the jobs have `drain-timeout` until they are asked to stop, and then their grace; the last reports have
//! [`FLUSH_WITHIN`] to reach the server.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::duration::LONGEST;
use wasm_worker_core::verdict::Code;

use crate::config::DrainPolicy;

/// The time for reports that a lost connection delays: the longest pause between two attempts, and one attempt.
const FLUSH_WITHIN: Duration = Duration::from_secs(20);

/// What a drain does with the jobs that run. A later stage is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DrainStage {
    /// The jobs run on.
    Wait,
    /// The jobs are asked to stop.
    Ask,
    /// The jobs are killed.
    Kill,
}

/// The jobs that a drain did not wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CutShort {
    /// Jobs that were asked to stop, or killed.
    pub(crate) jobs: usize,
    /// Those of them that did not end when they were asked to, and were killed.
    pub(crate) killed: usize,
}

impl CutShort {
    pub(crate) fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.killed += other.killed;
    }
}

/// The drain of a worker, before and after it begins.
#[derive(Debug)]
pub(super) struct Drain {
    policy: DrainPolicy,
    timeout: Duration,
    /// None until the drain begins.
    progress: Option<DrainProgress>,
}

#[derive(Debug)]
struct DrainProgress {
    /// The moment at which the jobs are asked to stop.
    ask_at: Instant,
    stage: DrainStage,
    cut_short: CutShort,
    /// The moment at which the last job ended.
    idle_since: Option<Instant>,
}

impl Drain {
    pub(super) fn new(policy: DrainPolicy, timeout: Duration) -> Self {
        Self { policy, timeout: timeout.min(LONGEST), progress: None }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.progress.is_some()
    }

    /// Begin the drain, and return the stage that its policy asks for.
    pub(super) fn begin(&mut self, now: Instant) -> DrainStage {
        let ask_at = now + self.timeout;
        self.progress =
            Some(DrainProgress { ask_at, stage: DrainStage::Wait, cut_short: CutShort::default(), idle_since: None });
        match self.policy {
            DrainPolicy::Wait => DrainStage::Wait,
            DrainPolicy::Ask => DrainStage::Ask,
        }
    }

    /// Enter a stricter stage while `running` jobs run. Returns whether the stage is new, so that it is applied to the jobs.
    pub(super) fn escalate(&mut self, stage: DrainStage, running: usize) -> bool {
        let Some(progress) = self.progress.as_mut().filter(|progress| progress.stage < stage) else { return false };
        progress.stage = stage;
        progress.cut_short.jobs = progress.cut_short.jobs.max(running);
        true
    }

    /// A job was assigned during the drain. Returns the stage to apply to it.
    pub(super) fn late_job(&mut self) -> DrainStage {
        let Some(progress) = &mut self.progress else { return DrainStage::Wait };
        if progress.stage > DrainStage::Wait {
            progress.cut_short.jobs += 1;
        }
        progress.stage
    }

    /// A job ended.
    pub(super) fn job_ended(&mut self, code: Code) {
        let Some(progress) = self.progress.as_mut().filter(|progress| progress.stage > DrainStage::Wait) else {
            return;
        };
        if matches!(code, Code::Killed | Code::ShutdownTimeout) {
            progress.cut_short.killed += 1;
        }
    }

    /// Whether the time of the jobs is over.
    pub(super) fn is_timeout_over(&self, now: Instant) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.ask_at <= now)
    }

    /// The next moment at which the drain changes without an event.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let progress = self.progress.as_ref()?;
        match progress.idle_since {
            Some(idle) => Some(idle + FLUSH_WITHIN),
            None => (progress.stage == DrainStage::Wait).then_some(progress.ask_at),
        }
    }

    /// Whether the drain is over: no job is left, and the server knows all ends or had its time to read them.
    pub(super) fn is_over(&mut self, now: Instant, jobs: usize, reports_read: bool) -> bool {
        let Some(progress) = self.progress.as_mut().filter(|_| jobs == 0) else { return false };
        let idle = *progress.idle_since.get_or_insert(now);
        reports_read || idle + FLUSH_WITHIN <= now
    }

    /// The jobs that were not waited for.
    pub(super) fn cut_short(&self) -> CutShort {
        self.progress.as_ref().map(|progress| progress.cut_short).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_drain_waits_then_asks_then_kills() {
        let (mut drain, now) = (Drain::new(DrainPolicy::Wait, HOUR), Instant::now());
        assert!(!drain.has_begun() && !drain.escalate(DrainStage::Kill, 5) && !drain.is_over(now, 0, true));
        assert_eq!(drain.late_job(), DrainStage::Wait);
        assert_eq!((drain.begin(now), drain.wake_at()), (DrainStage::Wait, Some(now + HOUR)));
        assert!(!drain.escalate(DrainStage::Wait, 3) && drain.cut_short().jobs == 0);
        assert!(!drain.is_timeout_over(now) && drain.is_timeout_over(now + HOUR));
        assert!(drain.escalate(DrainStage::Ask, 3) && drain.wake_at().is_none());
        assert_eq!((drain.late_job(), drain.cut_short().jobs), (DrainStage::Ask, 4));
        assert!(drain.escalate(DrainStage::Kill, 2) && !drain.escalate(DrainStage::Ask, 9));
        drain.job_ended(Code::Drained);
        drain.job_ended(Code::Completed);
        assert_eq!(drain.cut_short(), CutShort { jobs: 4, killed: 0 }, "these obeyed");
        drain.job_ended(Code::Killed);
        drain.job_ended(Code::ShutdownTimeout);
        assert_eq!(drain.cut_short(), CutShort { jobs: 4, killed: 2 });
        assert_eq!(Drain::new(DrainPolicy::Ask, HOUR).begin(now), DrainStage::Ask);
    }

    #[test]
    fn the_last_reports_have_a_bounded_time() {
        let (mut drain, now) = (Drain::new(DrainPolicy::Wait, HOUR), Instant::now());
        drain.begin(now);
        assert!(!drain.is_over(now, 1, true), "a job runs");
        assert!(drain.is_over(now, 0, true));
        assert!(!drain.is_over(now, 0, false));
        assert_eq!(drain.wake_at(), Some(now + FLUSH_WITHIN));
        assert!(drain.is_over(now + FLUSH_WITHIN, 0, false));
    }
}
