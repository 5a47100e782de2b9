//! The two runtimes: guests on one, everything else on the other.
//!
//! A guest may keep its thread busy, and timers, signals and files must not wait for it. So guests have as many threads as there
//! are cores, and the control runtime has threads of its own. The threads of guests have a lower priority than those of the
//! control runtime and of rooms, so that the frames of rooms go out in time while guests compute.

use std::io;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::machine::{
    ADDRESSES_HINT, ThreadsError, address_limit, priority_of_guests, process_limit, set_priority, try_threads,
};

/// Threads for timers and files beside guests that are busy.
const CONTROL_THREADS: usize = 2;
/// Threads for files, event sinks, the store, the ticker and the like.
const OTHER_THREADS: usize = 8;
/// A thread takes one guest of those that a timer or an event woke, and one of those that run on, in turns.
const GLOBAL_QUEUE_INTERVAL: u32 = 2;
/// Fewest addresses with which the threads start: with less, small allocations fail too, and that aborts the process.
const ADDRESSES_MIN: ByteSize = ByteSize::mib(512);
/// Time for guests and tasks to end before they are dropped.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why the runtimes cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimesError {
    /// The limit on the address space of the process is too low.
    #[error("the limit on the addresses of this process is {limit}; wasm-worker needs {ADDRESSES_MIN} at least")]
    FewAddresses {
        /// `RLIMIT_AS`.
        limit: ByteSize,
    },
    /// The system refuses threads.
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    /// The system refuses something else.
    #[error("the operating system refused a resource")]
    System(#[from] io::Error),
}

impl RuntimesError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::FewAddresses { .. } => Some(ADDRESSES_HINT.into()),
            Self::Threads(error) => error.hint(),
            Self::System(error) => process_limit(error),
        }
    }
}

/// Both runtimes.
pub struct Runtimes {
    control: Runtime,
    guests: Runtime,
}

impl Runtimes {
    /// Start both.
    ///
    /// # Errors
    /// When the addresses of the process are too few, or the system refuses a thread.
    pub fn start() -> Result<Self, RuntimesError> {
        if let Some(limit) = address_limit().map(ByteSize).filter(|limit| *limit < ADDRESSES_MIN) {
            return Err(RuntimesError::FewAddresses { limit });
        }
        let cores = std::thread::available_parallelism()?.get();
        // A runtime panics without its threads.
        try_threads(CONTROL_THREADS + cores + OTHER_THREADS)?;
        let control =
            Builder::new_multi_thread().worker_threads(CONTROL_THREADS).thread_name("control").enable_all().build()?;
        let priority = priority_of_guests();
        let guests = Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("guest")
            .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
            .on_thread_start(move || set_priority(priority))
            .enable_time()
            .build()?;
        Ok(Self { control, guests })
    }

    /// Run a future on the control runtime to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.control.block_on(future)
    }

    /// The runtime of timers, files and signals.
    pub fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// The runtime of guests.
    pub fn guests(&self) -> &Handle {
        self.guests.handle()
    }

    /// Stop both. A guest that still runs is dropped at its next yield.
    pub fn shut_down(self) {
        self.guests.shutdown_timeout(SHUTDOWN_TIMEOUT);
        self.control.shutdown_timeout(SHUTDOWN_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn threads_of_guests_have_a_lower_priority() {
        let runtimes = Runtimes::start().unwrap();
        let priority = |runtime: &Handle| {
            let asked = runtime.spawn(async { getpriority_process(None).unwrap() });
            runtimes.block_on(asked).unwrap()
        };
        let own = priority(runtimes.control());
        assert_eq!(priority(runtimes.guests()), (own + 5).min(19));
        runtimes.shut_down();
    }
}
