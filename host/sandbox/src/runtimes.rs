//! The two runtimes: guests on one, everything else on the other.
//!
//! A guest may keep its thread busy; timers, signals and files must not wait for it. So guests have as many threads as there
//! are cores, and the control runtime has its own, which the operating system schedules beside them.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Enough for timers and files beside spinning guests.
const CONTROL_THREADS: usize = 2;
/// Guests that were woken by a timer wait for at most this many turns of others.
const GLOBAL_QUEUE_INTERVAL: u32 = 4;
/// Guests are stopped by then; what is left is dropped.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Both runtimes.
pub struct Runtimes {
    control: Runtime,
    guests: Runtime,
}

impl Runtimes {
    /// Start both.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let control =
            Builder::new_multi_thread().worker_threads(CONTROL_THREADS).thread_name("control").enable_all().build()?;
        let guests = Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("guest")
            .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
            .enable_time()
            .build()?;
        Ok(Self { control, guests })
    }

    /// Run a future on the control runtime to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.control.block_on(future)
    }

    /// Where timers fire.
    pub fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// Where guests run.
    pub fn guests(&self) -> &Handle {
        self.guests.handle()
    }

    /// End both. A guest that still runs is dropped at its next yield.
    pub fn shut_down(self) {
        self.guests.shutdown_timeout(SHUTDOWN_TIMEOUT);
        self.control.shutdown_timeout(SHUTDOWN_TIMEOUT);
    }
}
