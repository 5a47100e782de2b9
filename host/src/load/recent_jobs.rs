//! The predicted load of recently admitted jobs, which a measurement does not show yet. Pure.
//!
//! The measured load is an average of 2.5 s ([`WINDOW`]). It shows an admitted job late, and a flood of short jobs only when there
//! are too many. Each admitted job therefore counts at once, at the average cost of its agent's jobs: while it runs, by its share
//! of a core; after its end, by its CPU time. It counts for one window in all, from its admission: its work is in the window for as
//! long. Were it to count for its own time besides, a worker that is offered too much would take some percent less than it may. The
//! sum minus the CPU that guests and rooms used in the same window is the part of the load that is not visible yet.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::record::JobRecord;

use super::window::WINDOW;

/// The number of jobs in an agent's average, roughly: enough to remember a rare expensive job until the next one.
const JOBS: f64 = 100.0;

/// Memory of a joined room beside the job's own: 117 KiB to 245 KiB were seen for rooms with text.
pub(crate) const BYTES_OF_ROOM: f64 = 200.0 * 1024.0;
/// Cores that a joined room takes while nobody writes: 0.019 % to 0.025 % of one were seen.
pub(crate) const CORES_OF_ROOM: f64 = 0.000_25;

/// The cost of one job, relative to the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Cores, on average over the window.
    pub(crate) cores: f64,
    /// Peak memory.
    pub(crate) memory_bytes: f64,
}

impl Cost {
    /// The cost of a job that ended, its sound included.
    pub(crate) fn of_job(closed: &JobRecord) -> Self {
        let usage = &closed.usage;
        Self::of(usage.cpu_us.saturating_add(usage.audio.cpu_us), usage.wall_us, usage.memory_peak_bytes)
    }

    /// The same with the connection to a room.
    #[must_use]
    pub(crate) fn with_room(self) -> Self {
        Self { cores: self.cores + CORES_OF_ROOM, memory_bytes: self.memory_bytes + BYTES_OF_ROOM }
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn of(cpu_us: u64, wall_us: u64, memory_bytes: usize) -> Self {
        let window = WINDOW.as_micros() as f64;
        Self { cores: cpu_us as f64 / window.max(wall_us as f64), memory_bytes: memory_bytes as f64 }
    }
}

/// The average cost of an agent's jobs.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// Jobs in the average, at most [`JOBS`].
    jobs: f64,
    average: Cost,
    /// The average cost of the running jobs, for an agent none of whose jobs ended yet.
    running: Cost,
}

impl Costs {
    /// Add a job that ended to the average.
    pub(crate) fn learn(&mut self, job: Cost) {
        self.jobs = (self.jobs + 1.0).min(JOBS);
        let mix = |old: f64, new: f64| old + (new - old) / self.jobs;
        self.average = Cost {
            cores: mix(self.average.cores, job.cores),
            memory_bytes: mix(self.average.memory_bytes, job.memory_bytes),
        };
    }

    /// Note the CPU time and the age of each running job. A job may last an hour, and the next offers come before its end.
    pub(crate) fn observe(&mut self, running: impl Iterator<Item = (Duration, Duration)>) {
        if self.jobs > 0.0 {
            return;
        }
        // The usage of a younger job is not representative.
        let shares = running.filter(|(_, age)| *age >= WINDOW).map(|(cpu, age)| cpu.as_secs_f64() / age.as_secs_f64());
        let (count, sum) = shares.fold((0.0, 0.0), |(count, sum), share| (count + 1.0, sum + share));
        if count > 0.0 {
            self.running.cores = sum / count;
        }
    }

    /// The predicted cost of the next job; zero where no job ran for long enough.
    pub(crate) fn predict(&self) -> Cost {
        if self.jobs > 0.0 { self.average } else { self.running }
    }
}

/// The id of one admitted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AdmittedId(u64);

/// The admitted jobs that run, or whose work is still in the window.
#[derive(Debug, Default)]
pub(crate) struct RecentJobs {
    next: u64,
    running: HashMap<AdmittedId, (Instant, Cost)>,
    /// The cores of each ended job, by the moment at which it has counted for a window.
    ended: BTreeMap<(Instant, AdmittedId), f64>,
    sum: Cost,
}

impl RecentJobs {
    /// Add a job at its predicted cost.
    pub(crate) fn add(&mut self, now: Instant, cost: Cost) -> AdmittedId {
        let id = AdmittedId(self.next);
        self.next += 1;
        self.running.insert(id, (now, cost));
        self.sum.cores += cost.cores;
        self.sum.memory_bytes += cost.memory_bytes;
        id
    }

    /// Replace the predicted cost of a job that ended by its actual cost; `actual` is none for a job that did not run.
    pub(crate) fn end(&mut self, now: Instant, id: AdmittedId, actual: Option<Cost>) {
        if let Some((since, cost)) = self.running.remove(&id) {
            let until = since + WINDOW;
            let cores = actual.filter(|_| until > now).unwrap_or_default().cores;
            self.sum.cores = (self.sum.cores - cost.cores).max(0.0) + cores;
            if cores > 0.0 {
                self.ended.insert((until, id), cores);
            }
            self.sum.memory_bytes = (self.sum.memory_bytes - cost.memory_bytes * unmeasured(now, since)).max(0.0);
        }
    }

    /// The cost of all jobs: cores of the window, and memory that no measurement shows yet.
    pub(crate) fn sum(&mut self, now: Instant) -> Cost {
        while let Some(first) = self.ended.first_entry().filter(|first| first.key().0 <= now) {
            self.sum.cores = (self.sum.cores - first.remove()).max(0.0);
        }
        self.sum
    }

    /// Compute the sum again. To be called with each measurement, so that errors do not add up and memory does not count twice.
    pub(crate) fn measured(&mut self, now: Instant) {
        self.ended.retain(|(until, _), _| *until > now);
        let running = self.running.values();
        self.sum = Cost {
            cores: running.clone().map(|(_, cost)| cost.cores).chain(self.ended.values().copied()).sum(),
            memory_bytes: running.map(|(since, cost)| cost.memory_bytes * unmeasured(now, *since)).sum(),
        };
    }
}

/// The part of a job's memory that a measurement may not show yet.
fn unmeasured(now: Instant, since: Instant) -> f64 {
    (1.0 - now.saturating_duration_since(since).as_secs_f64() / WINDOW.as_secs_f64()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_jobs_of_an_agent_predict_the_next() {
        let mut costs = Costs::default();
        assert_eq!(costs.predict(), Cost::default());
        costs.learn(Cost::of(5_000_000, 10_000_000, 100));
        assert_eq!(costs.predict(), Cost { cores: 0.5, memory_bytes: 100.0 });
        for _ in 0..1_000 {
            costs.learn(Cost::of(0, 0, 200));
        }
        assert!(costs.predict().cores < 0.01 && costs.predict().memory_bytes > 199.0, "{:?}", costs.predict());
        // A millisecond on a full core is a small part of the window.
        assert_eq!(Cost::of(1_000, 1_000, 0).cores, 0.0004);
    }

    #[test]
    fn running_jobs_predict_the_next_until_one_has_ended() {
        let (mut costs, second) = (Costs::default(), Duration::from_secs(1));
        costs.observe([(second, second)].into_iter());
        assert_eq!(costs.predict(), Cost::default(), "too young");
        costs.observe([(second, second * 10), (second * 3, second * 10)].into_iter());
        assert_eq!(costs.predict(), Cost { cores: 0.2, memory_bytes: 0.0 });
        costs.learn(Cost { cores: 0.5, memory_bytes: 1.0 });
        costs.observe([(second, second * 10)].into_iter());
        assert_eq!(costs.predict(), Cost { cores: 0.5, memory_bytes: 1.0 });
    }

    #[test]
    fn a_job_counts_for_one_window_or_while_it_runs() {
        let (mut recent, start) = (RecentJobs::default(), Instant::now());
        let at = |parts: u32| start + WINDOW / 4 * parts;
        let long = recent.add(start, Cost { cores: 1.0, memory_bytes: 10.0 });
        let short = recent.add(start, Cost { cores: 0.5, memory_bytes: 0.0 });
        assert_eq!(recent.sum(start), Cost { cores: 1.5, memory_bytes: 10.0 });
        // The job cost less than predicted.
        recent.end(at(1), short, Some(Cost { cores: 0.25, memory_bytes: 0.0 }));
        recent.end(at(1), short, Some(Cost { cores: 0.25, memory_bytes: 0.0 }));
        recent.measured(at(2));
        assert_eq!(recent.sum(at(2)), Cost { cores: 1.25, memory_bytes: 5.0 });
        assert_eq!((recent.sum(at(3)).cores, recent.sum(at(4)).cores), (1.25, 1.0));
        recent.measured(at(40));
        assert_eq!(recent.sum(at(40)), Cost { cores: 1.0, memory_bytes: 0.0 });
        recent.end(at(40), long, None);
        assert_eq!(recent.sum(at(40)), Cost::default());
    }
}
