//! How much of what a worker takes it has: its jobs against `max-jobs`, and its CPU against `load-threshold`. Pure.

pub(crate) mod cpu;

/// A worker that was full by its CPU has room again once the load is this much below the threshold: else it would say one
/// thing and the other by turns.
const ROOM_AGAIN: f64 = 0.9;

/// What the load is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Share of the cores that is in use, 0 to 1.
    pub(crate) cpu: f64,
    /// Jobs in any state.
    pub(crate) jobs: usize,
}

/// The load and what is known of the one before.
#[derive(Debug)]
pub(crate) struct Load {
    jobs_max: usize,
    /// Share of the cores at which the worker takes no more; none: its CPU does not matter.
    threshold: Option<f64>,
    busy: bool,
}

impl Load {
    pub(crate) fn new(jobs_max: usize, threshold: Option<f64>) -> Self {
        Self { jobs_max, threshold, busy: false }
    }

    /// Its CPU alone makes the worker full.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// 0 with nothing to do, 1 and above when it takes no more.
    pub(crate) fn of(&mut self, sample: Sample) -> f64 {
        let cpu = self.threshold.map_or(0.0, |threshold| sample.cpu / threshold);
        self.busy = cpu >= if self.busy { ROOM_AGAIN } else { 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let slots = sample.jobs as f64 / self.jobs_max as f64;
        if self.busy { cpu.max(slots).max(1.0) } else { cpu.max(slots) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_of_jobs_and_cpu_decides() {
        let mut load = Load::new(10, Some(0.5));
        assert_eq!(load.of(Sample { cpu: 0.1, jobs: 5 }), 0.5);
        assert_eq!(load.of(Sample { cpu: 0.4, jobs: 5 }), 0.8);
        assert_eq!(load.of(Sample { cpu: 0.1, jobs: 10 }), 1.0);
        assert!(!load.is_busy());
        let mut without = Load::new(10, None);
        assert_eq!(without.of(Sample { cpu: 1.0, jobs: 0 }), 0.0);
    }

    #[test]
    fn a_busy_worker_has_room_again_only_well_below_the_threshold() {
        let mut load = Load::new(10, Some(0.5));
        assert_eq!((load.of(Sample { cpu: 0.5, jobs: 0 }), load.is_busy()), (1.0, true));
        assert_eq!((load.of(Sample { cpu: 0.46, jobs: 0 }), load.is_busy()), (1.0, true));
        assert_eq!((load.of(Sample { cpu: 0.4, jobs: 0 }), load.is_busy()), (0.8, false));
    }
}
