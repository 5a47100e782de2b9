//! What jobs will take that are admitted and not visible in the load yet; pure.
//!
//! Each agent's own jobs say what the next one will take. An admitted job is reserved for until the average of the load has
//! seen it whole, fading as it comes into view, or until it ends.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{SAMPLE_EVERY, SAMPLES};

/// What the newest job counts for in an agent's average.
const NEWEST: f64 = 0.2;
/// When a job is in the average of the load with all that it takes.
const VISIBLE_AFTER: Duration = SAMPLE_EVERY.saturating_mul(SAMPLES);

/// What one job takes while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Cores.
    pub(crate) cores: f64,
    /// Memory, at most.
    pub(crate) memory_bytes: f64,
}

/// What one agent's jobs have taken.
#[derive(Debug, Default)]
pub(crate) struct Costs(Option<Cost>);

impl Costs {
    /// A job of the agent has ended.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn learn(&mut self, cpu_us: u64, wall_us: u64, memory_bytes: usize) {
        let job = Cost { cores: cpu_us as f64 / wall_us.max(1) as f64, memory_bytes: memory_bytes as f64 };
        let mix = |old: f64, new: f64| old + (new - old) * NEWEST;
        self.0 = Some(self.0.map_or(job, |old| Cost {
            cores: mix(old.cores, job.cores),
            memory_bytes: mix(old.memory_bytes, job.memory_bytes),
        }));
    }

    /// What the next job will take; nothing where none has ended yet.
    pub(crate) fn predict(&self) -> Cost {
        self.0.unwrap_or_default()
    }
}

/// Names one reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReservationId(u64);

/// All that is reserved.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    next: u64,
    open: HashMap<ReservationId, (Instant, Cost)>,
    /// The sum of what is open, as of the last fading.
    sum: Cost,
}

impl Reservations {
    pub(crate) fn add(&mut self, now: Instant, cost: Cost) -> ReservationId {
        let id = ReservationId(self.next);
        self.next += 1;
        self.open.insert(id, (now, cost));
        self.sum.cores += cost.cores;
        self.sum.memory_bytes += cost.memory_bytes;
        id
    }

    /// The job has ended; whether it was still reserved for.
    pub(crate) fn remove(&mut self, id: ReservationId) {
        if let Some((_, cost)) = self.open.remove(&id) {
            self.sum.cores = (self.sum.cores - cost.cores).max(0.0);
            self.sum.memory_bytes = (self.sum.memory_bytes - cost.memory_bytes).max(0.0);
        }
    }

    /// To be called with each sample: what has come into view is not counted twice.
    pub(crate) fn fade(&mut self, now: Instant) {
        let age = |since: Instant| now.saturating_duration_since(since);
        self.open.retain(|_, (since, _)| age(*since) < VISIBLE_AFTER);
        self.sum = Cost::default();
        for (since, cost) in self.open.values() {
            let unseen = 1.0 - age(*since).as_secs_f64() / VISIBLE_AFTER.as_secs_f64();
            self.sum.cores += cost.cores * unseen;
            self.sum.memory_bytes += cost.memory_bytes * unseen;
        }
    }

    /// What is reserved in all.
    pub(crate) fn sum(&self) -> Cost {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_s_last_jobs_say_what_the_next_takes() {
        let mut costs = Costs::default();
        assert_eq!(costs.predict(), Cost::default());
        costs.learn(500, 1_000, 100);
        assert_eq!(costs.predict(), Cost { cores: 0.5, memory_bytes: 100.0 });
        for _ in 0..50 {
            costs.learn(0, 0, 200);
        }
        assert!(costs.predict().cores < 0.01 && costs.predict().memory_bytes > 199.0, "{:?}", costs.predict());
    }

    #[test]
    fn a_reservation_fades_as_the_job_comes_into_view() {
        let (mut reservations, now) = (Reservations::default(), Instant::now());
        let first = reservations.add(now, Cost { cores: 1.0, memory_bytes: 10.0 });
        let second = reservations.add(now, Cost { cores: 0.5, memory_bytes: 0.0 });
        assert_eq!(reservations.sum().cores, 1.5);
        reservations.remove(second);
        reservations.remove(second);
        assert_eq!(reservations.sum(), Cost { cores: 1.0, memory_bytes: 10.0 });
        reservations.fade(now + VISIBLE_AFTER / 2);
        assert_eq!(reservations.sum(), Cost { cores: 0.5, memory_bytes: 5.0 });
        reservations.fade(now + VISIBLE_AFTER);
        assert_eq!(reservations.sum(), Cost::default());
        reservations.remove(first);
        assert_eq!(reservations.sum(), Cost::default());
    }
}
