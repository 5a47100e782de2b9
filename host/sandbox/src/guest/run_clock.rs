//! The time for which one guest ran and waited. Run time is CPU time of the thread that the guest was on.
//!
//! The thread's clock costs a system call, and most steps take some microseconds. A poll of at most [`WALL_MAX`] therefore counts
//! its wall time, and the clock is read at most once in [`READ_INTERVAL`] at the beginning of a poll. In between, the beginning of a
//! poll is the last reading and what was counted since, so that only a thread's work between guests may be counted too, and a
//! poll never counts more than its wall time.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Longest poll that counts its wall time.
const WALL_MAX: Duration = Duration::from_micros(50);
/// Age of a reading of the thread's clock after which a poll begins with a new one.
const READ_INTERVAL: Duration = Duration::from_millis(1);

/// The clock of one job.
///
/// Only the job's own task writes it. Its counters are atomics because the task's future and its host calls cannot borrow it
/// together.
#[derive(Default)]
pub(crate) struct RunClock {
    /// CPU time of finished polls, in nanoseconds.
    cpu: AtomicU64,
    /// Wall time of finished polls, in nanoseconds.
    run: AtomicU64,
    /// CPU time at the beginning of the present call, in nanoseconds.
    call_at: AtomicU64,
    /// Wall time between steps, in nanoseconds.
    waited: AtomicU64,
    /// Whether the warning about a long step has been given.
    warned: AtomicBool,
}

impl RunClock {
    /// A poll of the guest begins on this thread.
    pub(crate) fn poll_begins(&self, now: Instant) {
        ThreadClock::poll_begins(now);
    }

    /// The poll ended after this wall time.
    pub(crate) fn poll_ends(&self, wall: Duration) {
        self.cpu.fetch_add(ThreadClock::poll_ends(wall), Ordering::Relaxed);
        self.run.fetch_add(nanos(wall), Ordering::Relaxed);
    }

    /// CPU time of the present poll. Valid only within a poll.
    pub(crate) fn poll_so_far(&self) -> Duration {
        Duration::from_nanos(ThreadClock::poll_so_far())
    }

    /// The job waited between two steps.
    pub(crate) fn add_wait(&self, waited: Duration) {
        self.waited.fetch_add(nanos(waited), Ordering::Relaxed);
    }

    /// A new call into the guest begins; run time before the call is not counted against it.
    pub(crate) fn call_begins(&self) {
        self.call_at.store(self.cpu.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether this is the first warning of the job.
    pub(crate) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Count from zero again. Valid only between calls.
    pub(crate) fn reset(&self) {
        for counter in [&self.cpu, &self.run, &self.call_at, &self.waited] {
            counter.store(0, Ordering::Relaxed);
        }
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Run time of the present call. Valid only within a poll.
    pub(crate) fn since_call(&self) -> Duration {
        self.cpu_in_poll().saturating_sub(self.cpu_before_call())
    }

    /// CPU time before the present call.
    pub(crate) fn cpu_before_call(&self) -> Duration {
        Duration::from_nanos(self.call_at.load(Ordering::Relaxed))
    }

    /// CPU time of finished polls.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }

    /// CPU time including the present poll. Valid only within a poll.
    pub(crate) fn cpu_in_poll(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed) + ThreadClock::poll_so_far())
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

/// The CPU clock of one thread, as it was read last.
#[derive(Clone, Copy)]
struct ThreadClock {
    /// The reading, in nanoseconds.
    cpu: u64,
    /// The time of the reading.
    at: Instant,
    /// What was counted since then, in nanoseconds.
    counted: u64,
    /// The beginning of the present poll.
    poll_began: Instant,
}

thread_local! {
    static THREAD_CLOCK: Cell<Option<ThreadClock>> = const { Cell::new(None) };
}

impl ThreadClock {
    fn read(now: Instant) -> Self {
        Self { cpu: thread_cpu_nanos(), at: now, counted: 0, poll_began: now }
    }

    fn poll_begins(now: Instant) {
        let last = THREAD_CLOCK.get().filter(|last| now.saturating_duration_since(last.at) < READ_INTERVAL);
        THREAD_CLOCK.set(Some(last.map_or_else(|| Self::read(now), |last| Self { poll_began: now, ..last })));
    }

    /// CPU time of the present poll by a new reading.
    fn spent(self, wall: Duration) -> (u64, u64) {
        let cpu = thread_cpu_nanos();
        (cpu, cpu.saturating_sub(self.cpu + self.counted).min(nanos(wall)))
    }

    fn poll_so_far() -> u64 {
        THREAD_CLOCK.get().map_or(0, |clock| clock.spent(clock.poll_began.elapsed()).1)
    }

    fn poll_ends(wall: Duration) -> u64 {
        let Some(clock) = THREAD_CLOCK.get() else { return nanos(wall) };
        if wall <= WALL_MAX {
            let spent = nanos(wall);
            THREAD_CLOCK.set(Some(Self { counted: clock.counted + spent, ..clock }));
            return spent;
        }
        let (cpu, spent) = clock.spent(wall);
        THREAD_CLOCK.set(Some(Self { cpu, at: clock.poll_began + wall, counted: 0, ..clock }));
        spent
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn thread_cpu_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_counts_its_cpu_time_and_no_sleep() {
        let clock = RunClock::default();
        let began = Instant::now();
        clock.poll_begins(began);
        std::thread::park_timeout(Duration::from_millis(20));
        clock.poll_ends(began.elapsed());
        assert!(
            clock.run() >= Duration::from_millis(20) && clock.cpu() < Duration::from_millis(10),
            "{:?}",
            clock.cpu()
        );

        let began = Instant::now();
        clock.call_begins();
        clock.poll_begins(began);
        while began.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(clock.since_call() > Duration::from_millis(5), "{:?}", clock.since_call());
        clock.poll_ends(began.elapsed());
    }

    #[test]
    fn many_short_polls_count_about_their_wall_time() {
        let clock = RunClock::default();
        for _ in 0..1_000 {
            let began = Instant::now();
            clock.poll_begins(began);
            std::hint::black_box((0..500_u32).sum::<u32>());
            clock.poll_ends(began.elapsed());
        }
        assert!(clock.cpu() <= clock.run() && clock.cpu() > Duration::ZERO);
    }
}
