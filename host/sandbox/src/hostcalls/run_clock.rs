//! For how long a guest ran and waited, by the clock of the thread it was on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Run time of one job: what it had a core for, by the clock of the thread it was on.
///
/// Written by the job's own task only; atomics because the task's future and its host calls cannot borrow it together.
#[derive(Default)]
pub(crate) struct RunClock {
    /// CPU time of finished polls, in nanoseconds.
    cpu: AtomicU64,
    /// The thread's clock when the present poll began.
    poll_began: AtomicU64,
    /// Wall time of finished polls, in nanoseconds.
    run: AtomicU64,
    /// `cpu()` when the guest last waited.
    waited_at: AtomicU64,
    /// Wall time spent in waits, in nanoseconds.
    waited: AtomicU64,
    /// It waits now, and has nothing to run for.
    waiting: AtomicBool,
    /// The operator has been told that this job runs without waiting.
    warned: AtomicBool,
}

impl RunClock {
    pub(crate) fn poll_begins(&self) {
        self.poll_began.store(thread_cpu_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn poll_ends(&self, wall: Duration) {
        self.cpu.fetch_add(self.spent(), Ordering::Relaxed);
        self.run.fetch_add(nanos(wall), Ordering::Relaxed);
    }

    /// CPU time of the present poll, in nanoseconds. Only within one.
    fn spent(&self) -> u64 {
        thread_cpu_nanos().saturating_sub(self.poll_began.load(Ordering::Relaxed))
    }

    /// CPU time so far, the present poll included. Only within a poll.
    fn cpu_now(&self) -> u64 {
        self.cpu.load(Ordering::Relaxed) + self.spent()
    }

    /// CPU time of the present poll. Only within one.
    pub(crate) fn poll_so_far(&self) -> Duration {
        Duration::from_nanos(self.spent())
    }

    /// The guest begins to wait.
    pub(crate) fn wait_begins(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The guest has waited for so long. Only within a poll.
    pub(crate) fn wait_ends(&self, waited: Duration) {
        self.waiting.store(false, Ordering::Relaxed);
        self.waited.fetch_add(nanos(waited), Ordering::Relaxed);
        self.waited_at.store(self.cpu_now(), Ordering::Relaxed);
    }

    /// A new call into the guest begins, and what ran before it is no part of it.
    pub(crate) fn call_begins(&self) {
        self.waited_at.store(self.cpu.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// True once for each job.
    pub(crate) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Count from zero again. Only between calls.
    pub(crate) fn reset(&self) {
        for counter in [&self.cpu, &self.run, &self.waited_at, &self.waited] {
            counter.store(0, Ordering::Relaxed);
        }
        self.waiting.store(false, Ordering::Relaxed);
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Run time since the guest last waited. Only within a poll.
    pub(crate) fn since_wait(&self) -> Duration {
        Duration::from_nanos(self.cpu_now().saturating_sub(self.waited_at.load(Ordering::Relaxed)))
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }

    /// CPU time with the present poll. Only within a poll.
    pub(crate) fn cpu_in_poll(&self) -> Duration {
        Duration::from_nanos(self.cpu_now())
    }

    pub(crate) fn run(&self) -> Duration {
        Duration::from_nanos(self.run.load(Ordering::Relaxed))
    }

    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn thread_cpu_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
