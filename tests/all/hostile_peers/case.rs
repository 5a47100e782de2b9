//! The processes of one attack, what they cost, and whether they still serve.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, Done, Door, Started, cache_dir, eventually, pause};

/// The pause between two looks at the cost of a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The most of an answer that is read, so that the test bounds its own memory.
pub(crate) const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// The processes of one attack. Each is measured from the moment at which it is given to the attack; a call that the attack only runs
/// is measured as a whole.
#[derive(Default)]
pub(crate) struct Case {
    dispatchers: Vec<(Dispatcher, Started)>,
    workers: Vec<Started>,
    meters: Vec<Meter>,
    /// The largest cost of the calls that have ended.
    ended: Cost,
    faults: Vec<String>,
}

/// The largest growth over all processes of an attack.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) memory_mib: u64,
    pub(crate) descriptors: u64,
}

impl Cost {
    fn max(self, other: Self) -> Self {
        Self { memory_mib: self.memory_mib.max(other.memory_mib), descriptors: self.descriptors.max(other.descriptors) }
    }
}

impl Case {
    /// A dispatcher with these flags, and a worker of the guest `brief` behind it, whose jobs complete at once. The
    /// dispatcher is measured, and must still place a dispatch after the attack.
    pub(crate) fn dispatcher(&mut self, flags: &[&'static str]) -> &Dispatcher {
        let dispatcher = Dispatcher::start(flags);
        let worker = dispatcher.worker(&["brief"], &[]);
        eventually("the worker is registered", || (!dispatcher.workers().is_empty()).then_some(()));
        self.watch(dispatcher.pid());
        self.dispatchers.push((dispatcher, worker));
        &self.dispatchers.last().unwrap().0
    }

    /// A worker that this call starts, and the address and token of its HTTP API. The call needs `--http 127.0.0.1:0`.
    /// The worker is measured, and must still be alive after the attack.
    pub(crate) fn worker(&mut self, call: Call) -> Door {
        let worker = call.start();
        let door = Door::of(cache_dir(), worker.pid());
        eventually("it answers", || (door.get("/live").0 == 200).then_some(()));
        self.watch(worker.pid());
        self.workers.push(worker);
        door
    }

    /// Run a call to its end. All of its memory and all of its descriptors are its cost.
    pub(crate) fn run(&mut self, call: Call) -> Done {
        let started = call.start();
        let meter = Meter::of_a_call(started.pid());
        let done = started.done();
        self.ended = self.ended.max(meter.stop());
        self.check("program", &done.stderr);
        done
    }

    /// Measure a process that the attack itself owns, from now on.
    pub(crate) fn watch(&mut self, pid: u32) {
        self.meters.push(Meter::at_rest(pid));
    }

    /// A process that the attack owns must have panicked nowhere, by its standard error.
    pub(crate) fn check(&mut self, who: &str, said: &str) {
        self.faults.extend(panicked(who, said));
    }

    /// What the attack cost, and what the program did wrong apart from its answer.
    pub(crate) fn finish(self) -> (Cost, Vec<String>) {
        let mut faults = self.faults;
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
        let cost = self.meters.into_iter().map(Meter::stop).fold(self.ended, Cost::max);
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

/// Watches a process from a thread of its own. The kernel keeps the peak of the memory, so no look has to meet it.
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

/// Makes the resident memory of a process its peak, when it is written to `/proc/PID/clear_refs`.
const RESET_PEAK: &str = "5";

impl Meter {
    /// The growth from now on.
    fn at_rest(pid: u32) -> Self {
        let reset = std::fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK);
        // A kernel that resets no peak leaves the looks.
        let peak = if reset.is_ok() { "VmHWM:" } else { "VmRSS:" };
        Self::start(pid, peak, memory_bytes(pid, "VmRSS:"), descriptors(pid))
    }

    /// Everything that a process takes.
    fn of_a_call(pid: u32) -> Self {
        Self::start(pid, "VmHWM:", 0, 0)
    }

    fn start(pid: u32, peak_name: &'static str, rest_memory: u64, rest_descriptors: u64) -> Self {
        let (stop, peak) = (Arc::<AtomicBool>::default(), Arc::<Peak>::default());
        let thread = std::thread::spawn({
            let (stop, peak) = (stop.clone(), peak.clone());
            let look = move || {
                let memory = memory_bytes(pid, peak_name).saturating_sub(rest_memory);
                peak.memory_bytes.fetch_max(memory, Ordering::Relaxed);
                peak.descriptors.fetch_max(descriptors(pid).saturating_sub(rest_descriptors), Ordering::Relaxed);
            };
            move || {
                while !stop.load(Ordering::Relaxed) {
                    look();
                    pause(LOOK_EVERY);
                }
                look();
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

/// A line of the memory of a process: `VmRSS:` is what is resident, `VmHWM:` its peak. 0 for a process that is gone.
fn memory_bytes(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The number of open descriptors of a process; 0 for one that is gone. A process that has just begun has those of its parent
/// until the kernel has closed them, which it does before the process has arguments.
fn descriptors(pid: u32) -> u64 {
    if std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| arguments.is_empty()) {
        return 0;
    }
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    std::fs::read_dir(dir).map_or(0, |entries| entries.count() as u64)
}
