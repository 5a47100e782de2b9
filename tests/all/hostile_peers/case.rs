//! The processes of one attack, what they cost, and whether they still serve.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, Door, Started, cache_dir, eventually};

/// The pause between two looks at the cost of a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The most of an answer that is read, so that the test bounds its own memory.
pub(crate) const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// The processes of one attack. Each is measured from the moment at which it is given to the attack.
#[derive(Default)]
pub(crate) struct Case {
    dispatchers: Vec<(Dispatcher, Started)>,
    workers: Vec<Started>,
    meters: Vec<Meter>,
}

/// The largest growth over all processes of an attack.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) memory_mib: u64,
    pub(crate) descriptors: u64,
}

impl Case {
    /// A dispatcher with these flags, and a worker of the guest `brief` behind it, whose jobs complete at once. The
    /// dispatcher is measured, and must still place a dispatch after the attack.
    pub(crate) fn dispatcher(&mut self, flags: &[&'static str]) -> &Dispatcher {
        let dispatcher = Dispatcher::start(flags);
        let worker = dispatcher.worker(&["brief"], &[]);
        eventually("the worker is registered", || (!dispatcher.workers().is_empty()).then_some(()));
        self.meters.push(Meter::start(dispatcher.pid()));
        self.dispatchers.push((dispatcher, worker));
        &self.dispatchers.last().unwrap().0
    }

    /// A worker that this call starts, and the address and token of its HTTP API. The call needs `--http 127.0.0.1:0`.
    /// The worker is measured, and must still be alive after the attack.
    pub(crate) fn worker(&mut self, call: Call) -> Door {
        let worker = call.start();
        let door = Door::of(cache_dir(), worker.pid());
        eventually("it answers", || (door.get("/live").0 == 200).then_some(()));
        self.meters.push(Meter::start(worker.pid()));
        self.workers.push(worker);
        door
    }

    /// What the attack cost, and what the program did wrong apart from its answer.
    pub(crate) fn finish(self) -> (Cost, Vec<String>) {
        let mut faults = Vec::new();
        for (dispatcher, worker) in self.dispatchers {
            let id = dispatcher.dispatch("somebody-else", "brief", "");
            let code = dispatcher.ended(&id)["code"].clone();
            if code != "completed" {
                faults.push(format!("the job of somebody else ends as {code}"));
            }
            faults.extend(panicked("dispatcher", &dispatcher.said()));
            faults.extend(panicked("worker", &worker.said()));
            worker.kill();
        }
        let mut cost = Cost::default();
        for meter in self.meters {
            let found = meter.stop();
            cost.memory_mib = cost.memory_mib.max(found.memory_mib);
            cost.descriptors = cost.descriptors.max(found.descriptors);
        }
        for worker in self.workers {
            let door = Door::of(cache_dir(), worker.pid());
            if door.get("/live").0 != 200 {
                faults.push("the worker is not alive".into());
            }
            faults.extend(panicked("worker", &worker.said()));
            worker.kill();
        }
        (cost, faults)
    }
}

fn panicked(who: &str, said: &str) -> Option<String> {
    said.contains("panicked at").then(|| format!("the {who} panicked: {said}"))
}

/// Watches a process from a thread of its own.
struct Meter {
    stop: Arc<AtomicBool>,
    peak: Arc<Peak>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Peak {
    memory_bytes: AtomicU64,
    descriptors: AtomicU64,
}

impl Meter {
    #[expect(clippy::disallowed_methods, reason = "the thread waits for nobody")]
    fn start(pid: u32) -> Self {
        let (stop, peak) = (Arc::<AtomicBool>::default(), Arc::<Peak>::default());
        let (rest_memory, rest_descriptors) = (resident_bytes(pid), descriptors(pid));
        let thread = std::thread::spawn({
            let (stop, peak) = (stop.clone(), peak.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    peak.memory_bytes.fetch_max(resident_bytes(pid).saturating_sub(rest_memory), Ordering::Relaxed);
                    peak.descriptors.fetch_max(descriptors(pid).saturating_sub(rest_descriptors), Ordering::Relaxed);
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        Self { stop, peak, thread }
    }

    fn stop(self) -> Cost {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let memory_mib = self.peak.memory_bytes.load(Ordering::Relaxed) >> 20;
        Cost { memory_mib, descriptors: self.peak.descriptors.load(Ordering::Relaxed) }
    }
}

/// The resident memory of a process; 0 for one that is gone.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The number of open descriptors of a process; 0 for one that is gone.
fn descriptors(pid: u32) -> u64 {
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    std::fs::read_dir(dir).map_or(0, |entries| entries.count() as u64)
}
