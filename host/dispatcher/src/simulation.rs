//! The simulation of the pure parts together, on one virtual clock: the sessions of both sides, the scheduler, and the tables of the
//! store. Workers, clients, the disk and the network are data, and fail.
//!
//! A run is made from its seed: some dispatches, and some faults. The faults stop after a while. Their kinds:
//!
//! - A connection breaks.
//! - A worker's process reaches nobody for a time.
//! - A worker's process crashes.
//! - A worker's process drains, and ends.
//! - The dispatcher's process crashes.
//! - The disk of the store is full for a time.
//!
//! The run checks:
//!
//! - A dispatch that was confirmed to its client is stored, and has one verdict in a bounded time after the last fault.
//! - A job runs once, after its assignment is stored. No two jobs of a dispatch run at once, and no dispatch runs again after the
//!   end of its job, unless the dispatcher declared the job lost. It declares a job lost only if its process was away for
//!   `lost-after`.
//! - Each offer has one answer within two seconds, unless its connection is lost.
//! - A worker has all of its slots back at the end, and the dispatcher counts no job and no offer.
//!
//! The files, lowest first:
//!
//! ```text
//! clock    the virtual clock, and the events that are planned on it
//! network  connections that delay and lose frames
//! checks   the promises
//! context  what the processes of a run share
//! journal  the store of the dispatcher's process
//! process  a worker's process
//! server   the dispatcher's process
//! world    one run
//! ```

mod clock;
mod network;

mod checks;

mod context;

mod journal;
mod process;

mod server;

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use checks::Counts;

use crate::store::memory::MemoryStore;

/// The number of runs without [`RUNS`].
const RUNS_DEFAULT: u64 = 2_000;
/// The environment variable with the number of runs.
const RUNS: &str = "WASM_WORKER_SIMULATION_RUNS";
/// The environment variable with the one seed to run. Its steps are printed.
const SEED: &str = "WASM_WORKER_SIMULATION_SEED";

#[test]
fn every_dispatch_has_one_verdict_whatever_fails() {
    if let Some(seed) = variable(SEED) {
        world::run(seed, &mut MemoryStore::new(), true);
        return;
    }
    let (began, runs) = (Instant::now(), variable(RUNS).unwrap_or(RUNS_DEFAULT));
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = std::thread::scope(|scope| {
        let worker = || {
            let (mut store, mut counts) = (MemoryStore::new(), Counts::default());
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= runs {
                    return counts;
                }
                counts = counts + run(seed, &mut store);
                store.clear();
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        counts.fold(Counts::default(), |sum, counts| sum + counts)
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{runs} runs in {seconds:.1} s: {:.0} a second, {counts:?}", runs as f64 / seconds);
    let Counts { events: _, lost, second_attempts, cancelled, withdrawn } = counts;
    // Faults that do nothing would break no promise.
    if runs >= RUNS_DEFAULT {
        assert!([lost, second_attempts, cancelled, withdrawn].iter().all(|count| *count > 0), "{counts:?}");
    }
}

/// Run a seed, and say how to run it alone where it fails.
fn run(seed: u64, store: &mut MemoryStore) -> Counts {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, store, false))).unwrap_or_else(|panic| {
        println!(
            "seed {seed} fails. Its steps: {SEED}={seed} cargo test -p wasm-worker-dispatcher simulation -- --nocapture"
        );
        resume_unwind(panic)
    })
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: `{value}`")))
}
