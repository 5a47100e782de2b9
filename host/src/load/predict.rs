//! What the jobs that were admitted will take, before it can be measured; pure.
//!
//! The measured load is an average of 2.5 s ([`WINDOW`]): what is admitted now shows in it late, and a flood of short jobs when
//! there are already too many. So each admitted job is counted at once for what its agent's jobs took so far: while it runs
//! with its share of a core, and when it has ended with its CPU time, until that has left the window. Compared with what guests
//! had in the same window, the difference is what cannot be seen yet.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::record::JobRecord;

use super::{SAMPLE_EVERY, SAMPLES};

/// Jobs that an agent's average is of, more or less: enough that a rare expensive one is not forgotten before the next.
const JOBS: f64 = 100.0;
/// What the measured load is an average of.
pub(crate) const WINDOW: Duration = SAMPLE_EVERY.saturating_mul(SAMPLES);

/// What one job takes of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Cores, on average over the window.
    pub(crate) cores: f64,
    /// Memory, at most.
    pub(crate) memory_bytes: f64,
}

impl Cost {
    /// Of a job that has ended.
    pub(crate) fn of_job(closed: &JobRecord) -> Self {
        let usage = &closed.usage;
        Self::of(usage.cpu_us, usage.wall_us, usage.memory_peak_bytes)
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn of(cpu_us: u64, wall_us: u64, memory_bytes: usize) -> Self {
        let window = WINDOW.as_micros() as f64;
        Self { cores: cpu_us as f64 / window.max(wall_us as f64), memory_bytes: memory_bytes as f64 }
    }
}

/// What one agent's jobs have taken.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    jobs: f64,
    average: Cost,
    /// What those take that run, for an agent of which none has ended yet.
    running: Cost,
}

impl Costs {
    /// A job of the agent has ended.
    pub(crate) fn learn(&mut self, job: Cost) {
        self.jobs = (self.jobs + 1.0).min(JOBS);
        let mix = |old: f64, new: f64| old + (new - old) / self.jobs;
        self.average = Cost {
            cores: mix(self.average.cores, job.cores),
            memory_bytes: mix(self.average.memory_bytes, job.memory_bytes),
        };
    }

    /// Jobs run that have taken so much CPU time in so much time. Calls may last an hour, and the next offers do not wait for that.
    pub(crate) fn observe(&mut self, running: impl Iterator<Item = (Duration, Duration)>) {
        if self.jobs > 0.0 {
            return;
        }
        // What is younger has not shown what it takes.
        let shares = running.filter(|(_, age)| *age >= WINDOW).map(|(cpu, age)| cpu.as_secs_f64() / age.as_secs_f64());
        let (count, sum) = shares.fold((0.0, 0.0), |(count, sum), share| (count + 1.0, sum + share));
        if count > 0.0 {
            self.running.cores = sum / count;
        }
    }

    /// What the next job will take; nothing where none has run for long enough.
    pub(crate) fn predict(&self) -> Cost {
        if self.jobs > 0.0 { self.average } else { self.running }
    }
}

/// Names one admitted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AdmittedId(u64);

/// All that were admitted and are still in the window.
#[derive(Debug, Default)]
pub(crate) struct Admissions {
    next: u64,
    running: HashMap<AdmittedId, (Instant, Cost)>,
    /// When each leaves the window, and its cores.
    ended: VecDeque<(Instant, f64)>,
    sum: Cost,
}

impl Admissions {
    pub(crate) fn add(&mut self, now: Instant, cost: Cost) -> AdmittedId {
        let id = AdmittedId(self.next);
        self.next += 1;
        self.running.insert(id, (now, cost));
        self.sum.cores += cost.cores;
        self.sum.memory_bytes += cost.memory_bytes;
        id
    }

    /// The job has ended, and took so much; nothing is known of one that never ran.
    pub(crate) fn end(&mut self, now: Instant, id: AdmittedId, took: Option<Cost>) {
        if let Some((since, cost)) = self.running.remove(&id) {
            let cores = took.unwrap_or_default().cores;
            self.sum.cores = (self.sum.cores - cost.cores).max(0.0) + cores;
            if cores > 0.0 {
                self.ended.push_back((now + WINDOW, cores));
            }
            self.sum.memory_bytes = (self.sum.memory_bytes - cost.memory_bytes * unseen(now, since)).max(0.0);
        }
    }

    /// What all of them take: cores of the window, and memory that is not measured yet.
    pub(crate) fn sum(&mut self, now: Instant) -> Cost {
        while let Some((_, cores)) = self.ended.pop_front_if(|(until, _)| *until <= now) {
            self.sum.cores = (self.sum.cores - cores).max(0.0);
        }
        self.sum
    }

    /// To be called with each measurement: sums again, so that neither errors add up nor is memory counted twice.
    pub(crate) fn measured(&mut self, now: Instant) {
        self.ended.retain(|(until, _)| *until > now);
        let running = self.running.values();
        self.sum = Cost {
            cores: running.clone().map(|(_, cost)| cost.cores).chain(self.ended.iter().map(|(_, cores)| *cores)).sum(),
            memory_bytes: running.map(|(since, cost)| cost.memory_bytes * unseen(now, *since)).sum(),
        };
    }
}

/// The part of a job's memory that may not have been touched yet.
fn unseen(now: Instant, since: Instant) -> f64 {
    (1.0 - now.saturating_duration_since(since).as_secs_f64() / WINDOW.as_secs_f64()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_s_last_jobs_say_what_the_next_takes() {
        let mut costs = Costs::default();
        assert_eq!(costs.predict(), Cost::default());
        costs.learn(Cost::of(5_000_000, 10_000_000, 100));
        assert_eq!(costs.predict(), Cost { cores: 0.5, memory_bytes: 100.0 });
        for _ in 0..1_000 {
            costs.learn(Cost::of(0, 0, 200));
        }
        assert!(costs.predict().cores < 0.01 && costs.predict().memory_bytes > 199.0, "{:?}", costs.predict());
        // A millisecond at full speed is little of two seconds and a half.
        assert_eq!(Cost::of(1_000, 1_000, 0).cores, 0.0004);
    }

    #[test]
    fn where_none_has_ended_those_that_run_say_what_the_next_takes() {
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
    fn a_job_counts_while_it_runs_and_until_its_work_has_left_the_window() {
        let (mut admissions, start) = (Admissions::default(), Instant::now());
        let at = |parts: u32| start + WINDOW / 4 * parts;
        let long = admissions.add(start, Cost { cores: 1.0, memory_bytes: 10.0 });
        let short = admissions.add(start, Cost { cores: 0.5, memory_bytes: 0.0 });
        assert_eq!(admissions.sum(start), Cost { cores: 1.5, memory_bytes: 10.0 });
        // It took less than it was taken for.
        admissions.end(at(1), short, Some(Cost { cores: 0.25, memory_bytes: 0.0 }));
        admissions.end(at(1), short, Some(Cost { cores: 0.25, memory_bytes: 0.0 }));
        admissions.measured(at(2));
        assert_eq!(admissions.sum(at(2)), Cost { cores: 1.25, memory_bytes: 5.0 });
        assert_eq!(admissions.sum(at(5)).cores, 1.0);
        admissions.measured(at(40));
        assert_eq!(admissions.sum(at(40)), Cost { cores: 1.0, memory_bytes: 0.0 });
        admissions.end(at(40), long, None);
        assert_eq!(admissions.sum(at(40)), Cost::default());
    }
}
