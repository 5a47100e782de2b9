//! The CPU time of the threads of a runtime, as Linux tells it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::thread::{Pid, gettid};

/// The threads that run.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<Vec<Pid>>);

impl Threads {
    /// The calling thread begins.
    pub(super) fn add(&self) {
        self.lock().push(gettid());
    }

    /// The calling thread ends.
    pub(super) fn remove(&self) {
        let own = gettid();
        self.lock().retain(|thread| *thread != own);
    }

    /// CPU time of all that run; none where the system does not tell.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        self.lock().iter().map(|thread| of_thread(*thread)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_thread(thread: Pid) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", thread.as_raw_nonzero())).ok()?;
    // The first figure is the time on a processor, in nanoseconds.
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_while_a_thread_computes() {
        let threads = Threads::default();
        assert_eq!(threads.cpu_time(), Some(Duration::ZERO));
        threads.add();
        // A kernel may be built without these statistics.
        let Some(before) = threads.cpu_time() else { return };
        while threads.cpu_time() <= Some(before + Duration::from_millis(5)) {}
        threads.remove();
        assert_eq!(threads.cpu_time(), Some(Duration::ZERO));
    }
}
