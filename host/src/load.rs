//! How much of what a worker takes it has: CPU, fuel and memory against `load-threshold`, jobs against `max-jobs`. What the
//! figures are made into one by is replaceable; the rest is pure.

pub(crate) mod capacity;
pub(crate) mod cgroup;
pub(crate) mod cpu;
pub(crate) mod fuel;
pub(crate) mod memory;
pub(crate) mod predict;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::load::Sample;
use wasm_worker_sandbox::agent::load_function::LoadComponent;
use wasm_worker_sandbox::engine::Engine;

use cpu::CpuMonitor;
use fuel::FuelMonitor;
use memory::MemoryMonitor;

/// As LiveKit's workers sample.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Samples that an average is made of.
pub(crate) const SAMPLES: u32 = 5;
/// A worker that was full by its load has room again once the load is this much below the threshold: else it would say one
/// thing and the other by turns.
const ROOM_AGAIN: f64 = 0.9;

/// A load function of the program that embeds this one.
pub type RustLoadFunction = Arc<dyn Fn(&Sample) -> f64 + Send + Sync>;

/// How the figures are made into one.
pub(crate) enum LoadFunction {
    Largest,
    Rust(RustLoadFunction),
    Component(Box<LoadComponent>),
}

impl LoadFunction {
    /// The load, 0 to 1; what a function cannot say is [`Sample::largest`].
    async fn of(&mut self, sample: Sample) -> f64 {
        let load = match self {
            Self::Largest => Some(sample.largest()),
            Self::Rust(function) => Some(function(&sample)),
            Self::Component(component) => component.load(sample).await,
        };
        load.filter(|load| load.is_finite()).unwrap_or_else(|| sample.largest()).clamp(0.0, 1.0)
    }
}

/// What was measured last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measurement {
    pub(crate) sample: Sample,
    /// What the load function made of it, 0 to 1.
    pub(crate) load: f64,
    /// Cores that guests had, on average over the same time.
    pub(crate) guest_cores: f64,
}

/// Reads the machine.
pub(crate) struct LoadMonitor {
    engine: Engine,
    cpu: CpuMonitor,
    fuel: FuelMonitor,
    memory: MemoryMonitor,
    function: LoadFunction,
    jobs_max: usize,
}

impl LoadMonitor {
    /// `cores` is what the operator says there is, where they do.
    pub(crate) fn new(engine: Engine, cores: Option<f64>, jobs_max: usize, function: LoadFunction) -> Self {
        let (cpu, memory) = (CpuMonitor::new(cores), MemoryMonitor::new());
        Self { engine, cpu, fuel: FuelMonitor::default(), memory, function, jobs_max }
    }

    /// Read everything; to be called every [`SAMPLE_EVERY`].
    pub(crate) async fn measure(&mut self, now: Instant, jobs: usize) -> Measurement {
        let cores = self.cpu.cores();
        let fuel = self.fuel.sample(now, self.engine.spent(), cores);
        let memory = self.memory.sample();
        let sample = Sample {
            cpu: self.cpu.sample(now),
            cores,
            fuel: fuel.share,
            fuel_rate: fuel.rate,
            memory: memory.share,
            memory_bytes: memory.limit_bytes,
            jobs,
            jobs_max: self.jobs_max,
        };
        Measurement { sample, load: self.function.of(sample).await, guest_cores: fuel.cores }
    }
}

/// Whether the load leaves room, with what is known of the one before.
#[derive(Debug)]
pub(crate) struct Threshold {
    /// None: the load does not matter.
    threshold: Option<f64>,
    passed: bool,
}

impl Threshold {
    pub(crate) fn new(threshold: Option<f64>) -> Self {
        Self { threshold, passed: false }
    }

    pub(crate) fn leaves_room(&self, load: f64) -> bool {
        self.threshold.is_none_or(|threshold| load < threshold)
    }

    /// The load in parts of the threshold: 1 and above when there is no room.
    pub(crate) fn part(&mut self, load: f64) -> f64 {
        let part = self.threshold.map_or(0.0, |threshold| load / threshold);
        self.passed = part >= if self.passed { ROOM_AGAIN } else { 1.0 };
        if self.passed { part.max(1.0) } else { part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_function_that_says_nonsense_is_not_believed() {
        let sample = Sample { cpu: 0.4, jobs: 3, ..Sample::default() };
        let with = |function: fn(&Sample) -> f64| LoadFunction::Rust(Arc::new(function));
        assert_eq!(with(|_| f64::NAN).of(sample).await, 0.4);
        assert_eq!(with(|_| -1.0).of(sample).await, 0.0);
        assert_eq!(with(|_| 7.0).of(sample).await, 1.0);
        assert_eq!(with(|sample| if sample.jobs == 3 { 0.25 } else { 1.0 }).of(sample).await, 0.25);
    }

    #[test]
    fn a_full_worker_has_room_again_only_well_below_the_threshold() {
        let mut threshold = Threshold::new(Some(0.5));
        assert_eq!(threshold.part(0.25), 0.5);
        assert_eq!(threshold.part(0.5), 1.0);
        assert_eq!(threshold.part(0.46), 1.0);
        assert_eq!(threshold.part(0.4), 0.8);
        assert_eq!(Threshold::new(None).part(1.0), 0.0);
    }
}
