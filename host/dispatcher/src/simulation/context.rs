//! The surroundings that the processes of a run share: clock, network, store, chance and checks.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::checks::Checks;
use super::clock::Clock;
use super::network::{Arrival, ConnectionId, Network, Payload, Towards};
use crate::scheduler::Id;
use crate::store::memory::MemoryStore;
use wasm_worker_core::verdict::Code;

/// Something that happens at a planned time.
pub(super) enum Event {
    Arrival(Arrival),
    /// An agent has decided about an offer.
    Decided {
        process: usize,
        generation: u32,
        job: String,
    },
    JobEnds {
        process: usize,
        generation: u32,
        job: String,
        code: Code,
    },
    /// The writer of the store tries to write the next batch.
    Write {
        server: u32,
    },
    /// The dispatcher has looked up jobs of a worker that it does not know.
    StopJobs {
        server: u32,
        worker: Id,
        jobs: Vec<String>,
    },
    /// A client asks for a dispatch, again if it has no reply.
    Create(usize),
    Cancel(usize),
    Fault(Fault),
    StartWorker(usize),
    StartServer,
    StoreRecovers,
    /// A supervisor reports a process that ended.
    ProcessDied(String),
}

/// A fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The connection of a process breaks.
    Cut(usize),
    /// A process reaches nobody for a time.
    Isolate(usize, Duration),
    CrashWorker(usize),
    /// A process is asked to take no more jobs, and ends after the last one.
    DrainWorker(usize),
    CrashServer,
    /// The disk of the store is full for a time.
    FullDisk(Duration),
}

/// The surroundings.
pub(super) struct Context<'a> {
    pub(super) clock: Clock<Event>,
    pub(super) network: Network,
    pub(super) rng: StdRng,
    pub(super) store: &'a mut MemoryStore,
    pub(super) checks: Checks,
    /// Whether each step is printed.
    trace: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(seed: u64, store: &'a mut MemoryStore, trace: bool) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { clock: Clock::new(), network: Network::default(), rng, store, checks: Checks::default(), trace }
    }

    /// Print a step, where the run is traced.
    pub(super) fn log(&self, step: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.3} {}", self.clock.passed().as_secs_f64(), step());
        }
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.clock.plan(self.clock.now().at + delay, event);
    }

    /// A time up to this one.
    pub(super) fn up_to(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(0..=millis))
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// Send something, unless the connection is cut.
    pub(super) fn send(&mut self, connection: ConnectionId, towards: Towards, payload: Payload) {
        if self.network.is_cut(connection) {
            return;
        }
        let at = self.network.arrival(self.clock.now().at, &mut self.rng, connection, towards);
        self.clock.plan(at, Event::Arrival(Arrival { connection, towards, payload }));
    }

    /// Cut a connection. Each end may learn of it soon.
    pub(super) fn cut(&mut self, connection: ConnectionId, told: [(Towards, f64); 2]) {
        self.network.cut(connection);
        for (towards, probability) in told {
            if self.chance(probability) {
                let soon = self.up_to(200);
                self.after(soon, Event::Arrival(Arrival { connection, towards, payload: Payload::Closed }));
            }
        }
    }
}
