//! The time for which one guest ran and waited. Run time is CPU time of the thread that the guest was on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The clock of one job.
///
/// Only the job's own task writes it. Its counters are atomics because the task's future and its host calls cannot borrow it
/// together.
#[derive(Default)]
pub(crate) struct RunClock {
    /// CPU time of finished polls, in nanoseconds.
    cpu: AtomicU64,
    /// The thread's clock at the begin of the present poll.
    poll_began: AtomicU64,
    /// Wall time of finished polls, in nanoseconds.
    run: AtomicU64,
    /// CPU time at the end of the last wait, in nanoseconds.
    waited_at: AtomicU64,
    /// Wall time spent in waits, in nanoseconds.
    waited: AtomicU64,
    /// Whether the guest waits now.
    waiting: AtomicBool,
    /// Whether the warning about a run without a wait has been given.
    warned: AtomicBool,
}

impl RunClock {
    /// A poll of the guest begins on this thread.
    pub(crate) fn poll_begins(&self) {
        self.poll_began.store(thread_cpu_nanos(), Ordering::Relaxed);
    }

    /// The poll ended after this wall time.
    pub(crate) fn poll_ends(&self, wall: Duration) {
        self.cpu.fetch_add(self.spent(), Ordering::Relaxed);
        self.run.fetch_add(nanos(wall), Ordering::Relaxed);
    }

    /// CPU time of the present poll, in nanoseconds. Valid only within a poll.
    fn spent(&self) -> u64 {
        thread_cpu_nanos().saturating_sub(self.poll_began.load(Ordering::Relaxed))
    }

    /// CPU time including the present poll, in nanoseconds. Valid only within a poll.
    fn cpu_now(&self) -> u64 {
        self.cpu.load(Ordering::Relaxed) + self.spent()
    }

    /// CPU time of the present poll. Valid only within a poll.
    pub(crate) fn poll_so_far(&self) -> Duration {
        Duration::from_nanos(self.spent())
    }

    /// The guest begins to wait.
    pub(crate) fn wait_begins(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// Whether the guest waits now.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The guest ends a wait of this length. Valid only within a poll.
    pub(crate) fn wait_ends(&self, waited: Duration) {
        self.waiting.store(false, Ordering::Relaxed);
        self.waited.fetch_add(nanos(waited), Ordering::Relaxed);
        self.waited_at.store(self.cpu_now(), Ordering::Relaxed);
    }

    /// A new call into the guest begins; run time before the call is not counted against it.
    pub(crate) fn call_begins(&self) {
        self.waited_at.store(self.cpu.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether this is the first warning of the job.
    pub(crate) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Count from zero again. Valid only between calls.
    pub(crate) fn reset(&self) {
        for counter in [&self.cpu, &self.run, &self.waited_at, &self.waited] {
            counter.store(0, Ordering::Relaxed);
        }
        self.waiting.store(false, Ordering::Relaxed);
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Run time since the last wait. Valid only within a poll.
    pub(crate) fn since_wait(&self) -> Duration {
        Duration::from_nanos(self.cpu_now().saturating_sub(self.waited_at.load(Ordering::Relaxed)))
    }

    /// CPU time of finished polls.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }

    /// CPU time including the present poll. Valid only within a poll.
    pub(crate) fn cpu_in_poll(&self) -> Duration {
        Duration::from_nanos(self.cpu_now())
    }

    /// Wall time of finished polls.
    pub(crate) fn run(&self) -> Duration {
        Duration::from_nanos(self.run.load(Ordering::Relaxed))
    }

    /// Wall time of finished waits.
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
