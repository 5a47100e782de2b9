//! CPU utilisation of the worker's cgroup, or of the machine where there are no cgroups.
//!
//! A counter that jumps is discarded: one wrong reading must not make the worker full.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysinfo::System;
use tokio::time::Instant;

use super::cgroup::{Cgroup, KernelTables};
use super::window::SAMPLES;

/// The source of the CPU time.
#[derive(Debug)]
enum CpuSource {
    /// `cpu.stat` of a cgroup of version 2.
    V2(PathBuf),
    /// `cpuacct.usage` of a cgroup of version 1.
    V1(PathBuf),
    /// The whole machine; none where the system gives no figures.
    Machine(Option<Box<System>>),
}

/// Measures CPU utilisation, averaged over 2.5 s.
#[derive(Debug)]
pub(crate) struct CpuMonitor {
    source: CpuSource,
    /// Cores that the worker may use; fractional where a quota says so.
    cores: f64,
    /// The time and the counter of the last reading.
    last: Option<(Instant, Duration)>,
    samples: VecDeque<f64>,
}

impl CpuMonitor {
    /// `cores` replaces the number of cores of the cgroup or the machine.
    pub(crate) fn new(cores: Option<f64>) -> Self {
        Self::of(&KernelTables::read(), cores)
    }

    fn of(tables: &KernelTables, cores: Option<f64>) -> Self {
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let machine = machine as f64;
        let v1 = tables.v1("cpuacct").map(|group| group.file("cpuacct.usage")).filter(|file| file.is_file());
        let v2 = tables.v2().filter(|group| group.file("cpu.stat").is_file());
        let (source, quota) = match (v1, v2) {
            (Some(file), _) => (CpuSource::V1(file), tables.v1("cpu").and_then(|group| tightest(&group, quota_v1))),
            (None, Some(group)) => (CpuSource::V2(group.file("cpu.stat")), tightest(&group, quota_v2)),
            (None, None) => (CpuSource::Machine(System::new().ok().map(Box::new)), None),
        };
        let cores = cores.or(quota.map(|quota| quota.min(machine))).unwrap_or(machine);
        Self { source, cores, last: None, samples: VecDeque::with_capacity(SAMPLES as usize) }
    }

    /// Cores that the worker may use.
    pub(crate) fn cores(&self) -> f64 {
        self.cores
    }

    /// Read the counters, and return the average of the last samples, 0 to 1. To be called every [`super::window::SAMPLE_EVERY`].
    pub(crate) fn sample(&mut self, now: Instant) -> f64 {
        let sample = match &mut self.source {
            CpuSource::Machine(None) => None,
            CpuSource::Machine(Some(system)) => {
                system.refresh_cpu_usage();
                let first = self.last.replace((now, Duration::ZERO)).is_none();
                // The first reading has no predecessor to compare with.
                (!first).then(|| f64::from(system.global_cpu_usage()) / 100.0)
            }
            CpuSource::V2(file) => {
                let used = std::fs::read_to_string(file).ok().and_then(|text| usage_v2(&text));
                used.and_then(|used| share(&mut self.last, now, used, self.cores))
            }
            CpuSource::V1(file) => {
                let used = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
                used.and_then(|nanos| share(&mut self.last, now, Duration::from_nanos(nanos), self.cores))
            }
        };
        if let Some(sample) = sample {
            if self.samples.len() == SAMPLES as usize {
                self.samples.pop_front();
            }
            self.samples.push_back(sample.clamp(0.0, 1.0));
        }
        #[expect(clippy::cast_precision_loss, reason = "at most five")]
        let count = self.samples.len().max(1) as f64;
        self.samples.iter().sum::<f64>() / count
    }
}

fn usage_v2(stat: &str) -> Option<Duration> {
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.trim().parse().ok().map(Duration::from_micros)
}

/// The tightest quota of a cgroup and those above it, in cores.
fn tightest(group: &Cgroup, quota: fn(&Path) -> Option<f64>) -> Option<f64> {
    group.and_above(quota).reduce(f64::min)
}

fn quota_v2(group: &Path) -> Option<f64> {
    parse_quota_v2(&std::fs::read_to_string(group.join("cpu.max")).ok()?)
}

/// Parse `QUOTA PERIOD`, or `max PERIOD` without a quota.
fn parse_quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<f64>().ok();
    ratio(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

/// The cores of a quota; none for a quota of -1, which means no limit.
fn ratio(quota: f64, period: f64) -> Option<f64> {
    Some(quota / period).filter(|cores| cores.is_finite() && *cores > 0.0)
}

/// Utilisation of the cores since the last reading; none for the first reading, and for a counter that went back or advanced
/// further than all cores can advance it.
fn share(last: &mut Option<(Instant, Duration)>, now: Instant, used: Duration, cores: f64) -> Option<f64> {
    let (then, before) = last.replace((now, used))?;
    let elapsed = now.saturating_duration_since(then).as_secs_f64();
    let share = used.checked_sub(before)?.as_secs_f64() / (elapsed * cores);
    // The counter and the clock are not read at the same moment, and a quota may be exceeded for a moment.
    (share.is_finite() && share <= 2.0).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::tests::Tree;
    use super::super::window::SAMPLE_EVERY;
    use super::*;

    #[test]
    fn a_container_is_measured_by_its_own_counters_and_quota() {
        let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
        // Version 2; the process sees its own cgroup as the root.
        let tree = Tree::new("cgroup2", "", "/", "/");
        tree.write("cpu.max", "50000 100000\n");
        tree.write("cpu.stat", "usage_usec 1000000\nuser_usec 1\n");
        let (mut monitor, now) = (CpuMonitor::of(&tree.tables, None), Instant::now());
        assert!(close(monitor.cores(), 0.5) && close(monitor.sample(now), 0.0));
        tree.write("cpu.stat", "usage_usec 1100000\nuser_usec 1\n");
        assert!(close(monitor.sample(now + SAMPLE_EVERY), 0.4), "a tenth of a second of a quarter");

        // A cgroup above has a tighter quota.
        let tree = Tree::new("cgroup2", "", "/", "/pod/container");
        tree.write("pod/container/cpu.max", "max 100000");
        tree.write("pod/container/cpu.stat", "usage_usec 0");
        tree.write("pod/cpu.max", "25000 100000");
        assert!(close(CpuMonitor::of(&tree.tables, None).cores(), 0.25));

        // Version 1, with the path of the host.
        let tree = Tree::new("cgroup", "cpu,cpuacct", "/docker/abc", "/docker/abc");
        tree.write("cpuacct.usage", "0");
        tree.write("cpu.cfs_quota_us", "50000");
        tree.write("cpu.cfs_period_us", "100000");
        let mut monitor = CpuMonitor::of(&tree.tables, None);
        assert!(close(monitor.cores(), 0.5) && close(monitor.sample(now), 0.0));
        tree.write("cpuacct.usage", "125000000");
        assert!(close(monitor.sample(now + SAMPLE_EVERY), 0.5));
    }

    #[test]
    fn quotas_are_fractions_of_cores() {
        assert_eq!(parse_quota_v2("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota_v2("max 100000"), None);
        assert_eq!(ratio(-1.0, 100_000.0), None);
        assert_eq!(ratio(100_000.0, 0.0), None);
    }

    #[test]
    fn a_counter_that_jumps_is_discarded() {
        let now = Instant::now();
        let later = |millis| now + Duration::from_millis(millis);
        let mut last = None;
        assert_eq!(share(&mut last, now, Duration::from_secs(10), 2.0), None);
        assert_eq!(share(&mut last, later(500), Duration::from_millis(10_500), 2.0), Some(0.5));
        assert_eq!(share(&mut last, later(1_000), Duration::from_secs(9), 2.0), None, "back");
        assert_eq!(share(&mut last, later(1_500), Duration::from_secs(900), 2.0), None, "too far");
        assert_eq!(share(&mut last, later(2_000), Duration::from_millis(900_250), 2.0), Some(0.25));
        assert_eq!(share(&mut last, later(2_000), Duration::from_millis(900_250), 2.0), None, "no time has passed");
    }

    #[test]
    fn this_machine_has_a_load() {
        let mut monitor = CpuMonitor::new(Some(1.5));
        assert_eq!(monitor.cores(), 1.5);
        let load = [monitor.sample(Instant::now()), monitor.sample(Instant::now() + SAMPLE_EVERY)];
        assert!(load.iter().all(|load| (0.0..=1.0).contains(load)), "{load:?}");
    }
}
