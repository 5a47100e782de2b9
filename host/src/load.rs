//! The load of a worker: CPU, fuel and memory, combined into one figure by a replaceable function.
//!
//! The monitors read the machine; the rest is pure.

pub(crate) mod cgroup;
pub(crate) mod window;

pub(crate) mod cpu;
pub(crate) mod descriptors;
pub(crate) mod fuel;
pub(crate) mod memory;
pub(crate) mod recent_jobs;
pub(crate) mod rooms;

pub(crate) mod capacity;

use std::sync::Arc;

use tokio::time::Instant;
use wasm_worker_core::load::Sample;
use wasm_worker_sandbox::agent::load_function::LoadComponent;
use wasm_worker_sandbox::engine::Engine;

use cpu::CpuMonitor;
use descriptors::{DescriptorMonitor, Descriptors};
use fuel::FuelMonitor;
use memory::MemoryMonitor;
use rooms::{RoomMonitor, RoomReading};

/// A full worker is available again when its load falls below this part of the threshold. Without this hysteresis the status
/// would alternate.
const AVAILABLE_AGAIN: f64 = 0.9;

/// A load function in Rust, of a program that embeds this crate.
pub type RustLoadFunction = Arc<dyn Fn(&Sample) -> f64 + Send + Sync>;

/// The function that combines the figures of a sample into the load.
pub(crate) enum LoadFunction {
    /// The largest share.
    Largest,
    Rust(RustLoadFunction),
    Component(Box<LoadComponent>),
}

impl LoadFunction {
    /// The load, 0 to 1. A function that fails is replaced by [`Sample::largest`].
    async fn combine(&mut self, sample: Sample) -> f64 {
        let load = match self {
            Self::Largest => Some(sample.largest()),
            Self::Rust(function) => Some(function(&sample)),
            Self::Component(component) => component.load(sample).await,
        };
        load.filter(|load| load.is_finite()).unwrap_or_else(|| sample.largest()).clamp(0.0, 1.0)
    }
}

/// One measurement of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measurement {
    pub(crate) sample: Sample,
    /// The result of the load function, 0 to 1.
    pub(crate) load: f64,
    /// Cores that guests and rooms used, averaged over the same window.
    pub(crate) job_cores: f64,
    /// None where the system does not tell.
    pub(crate) descriptors: Option<Descriptors>,
}

/// Measures the load.
pub(crate) struct LoadMonitor {
    engine: Engine,
    cpu: CpuMonitor,
    fuel: FuelMonitor,
    memory: MemoryMonitor,
    descriptors: DescriptorMonitor,
    rooms: RoomMonitor,
    function: LoadFunction,
    jobs_max: usize,
}

impl LoadMonitor {
    /// `cores` replaces the number of cores of the cgroup or the machine.
    pub(crate) fn new(engine: Engine, cores: Option<f64>, jobs_max: usize, function: LoadFunction) -> Self {
        let (cpu, memory, descriptors) = (CpuMonitor::new(cores), MemoryMonitor::new(), DescriptorMonitor::new());
        let (fuel, rooms) = (FuelMonitor::default(), RoomMonitor::default());
        Self { engine, cpu, fuel, memory, descriptors, rooms, function, jobs_max }
    }

    /// Take a sample, of so many jobs and of the open rooms. To be called every [`window::SAMPLE_EVERY`].
    pub(crate) async fn measure(&mut self, now: Instant, jobs: usize, rooms: RoomReading) -> Measurement {
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
        let job_cores = fuel.cores + self.rooms.sample(now, rooms);
        let descriptors = self.descriptors.sample(rooms.open).await;
        Measurement { sample, load: self.function.combine(sample).await, job_cores, descriptors }
    }
}

/// The load threshold, with hysteresis for the status.
#[derive(Debug)]
pub(crate) struct Threshold {
    /// None disables the check.
    threshold: Option<f64>,
    /// Whether the worker is full by its load.
    exceeded: bool,
}

impl Threshold {
    pub(crate) fn new(threshold: Option<f64>) -> Self {
        Self { threshold, exceeded: false }
    }

    /// The load from which on the worker is full; 1 without a threshold.
    pub(crate) fn limit(&self) -> f64 {
        self.threshold.unwrap_or(1.0)
    }

    /// Whether one more job is admitted.
    pub(crate) fn admits(&self, load: f64) -> bool {
        self.threshold.is_none_or(|threshold| load < threshold)
    }

    /// The load relative to the threshold: 1 and above when the worker is full.
    pub(crate) fn part(&mut self, load: f64) -> f64 {
        let part = self.threshold.map_or(0.0, |threshold| load / threshold);
        self.exceeded = part >= if self.exceeded { AVAILABLE_AGAIN } else { 1.0 };
        if self.exceeded { part.max(1.0) } else { part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_of_a_load_function_are_checked() {
        let sample = Sample { cpu: 0.4, jobs: 3, ..Sample::default() };
        let with = |function: fn(&Sample) -> f64| LoadFunction::Rust(Arc::new(function));
        assert_eq!(with(|_| f64::NAN).combine(sample).await, 0.4);
        assert_eq!(with(|_| -1.0).combine(sample).await, 0.0);
        assert_eq!(with(|_| 7.0).combine(sample).await, 1.0);
        assert_eq!(with(|sample| if sample.jobs == 3 { 0.25 } else { 1.0 }).combine(sample).await, 0.25);
    }

    #[test]
    fn a_full_worker_is_available_again_well_below_the_threshold() {
        let mut threshold = Threshold::new(Some(0.5));
        assert_eq!(threshold.part(0.25), 0.5);
        assert_eq!(threshold.part(0.5), 1.0);
        assert_eq!(threshold.part(0.46), 1.0);
        assert_eq!(threshold.part(0.4), 0.8);
        assert_eq!(Threshold::new(None).part(1.0), 0.0);
    }
}
