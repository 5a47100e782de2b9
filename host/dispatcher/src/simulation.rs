//! The simulation of the pure parts together, on one virtual clock: the sessions of both sides, the scheduler, and the tables of the
//! store. Workers, clients, the disk and the network are data, and fail.
//!
//! A run is made from its seed: some dispatches, and some faults of eight kinds. The faults stop after a while. The run checks:
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
    let (next, events) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let worker = || {
            let mut store = MemoryStore::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= runs {
                    return;
                }
                events.fetch_add(run(seed, &mut store), Ordering::Relaxed);
                store.clear();
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{runs} runs in {seconds:.1} s: {:.0} a second, {events:?} events", runs as f64 / seconds);
}

/// Run a seed, and say how to run it alone where it fails.
fn run(seed: u64, store: &mut MemoryStore) -> u64 {
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
