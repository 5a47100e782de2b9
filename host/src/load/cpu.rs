//! CPU that is in use: of the worker's own cgroup, v1 or v2, and of the machine where it has none of its own.
//!
//! LiveKit's workers read the root cgroup, so a neighbour's work counts as theirs, and on a counter that jumps they call
//! themselves full. Here the own group is read, and a jump is discarded.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysinfo::System;
use tokio::time::Instant;

use super::SAMPLES;

pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Where the CPU time is read.
#[derive(Debug)]
enum Source {
    /// `cpu.stat` of a group.
    V2(PathBuf),
    /// `cpuacct.usage` of a group.
    V1(PathBuf),
    /// None where the system does not say.
    Machine(Option<Box<System>>),
}

/// The CPU in use, averaged over 2.5 s.
#[derive(Debug)]
pub(crate) struct CpuMonitor {
    source: Source,
    /// Fractions are what a quota allows.
    cores: f64,
    last: Option<(Instant, Duration)>,
    samples: VecDeque<f64>,
}

impl CpuMonitor {
    /// `cores` is what the operator says there is (`NUM_CPUS`), where they do.
    pub(crate) fn new(cores: Option<f64>) -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let root = Path::new(ROOT);
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let machine = machine as f64;
        let v2 = own_group(&groups, "").map(|path| root.join(path)).filter(|dir| dir.join("cpu.stat").is_file());
        let v1 = own_group(&groups, "cpuacct").map(|path| root.join("cpuacct").join(path));
        let v1 = v1.filter(|dir| dir.join("cpuacct.usage").is_file());
        let (source, quota) = match (v2, v1) {
            (Some(dir), _) => (Source::V2(dir.join("cpu.stat")), quota_v2(&dir)),
            (None, Some(dir)) => {
                let cpu = own_group(&groups, "cpu").map(|path| root.join("cpu").join(path));
                (Source::V1(dir.join("cpuacct.usage")), cpu.and_then(|dir| quota_v1(&dir)))
            }
            (None, None) => (Source::Machine(System::new().ok().map(Box::new)), None),
        };
        let cores = cores.or(quota.map(|quota| quota.min(machine))).unwrap_or(machine);
        Self { source, cores, last: None, samples: VecDeque::with_capacity(SAMPLES as usize) }
    }

    /// How many cores there are, in parts.
    pub(crate) fn cores(&self) -> f64 {
        self.cores
    }

    /// Read the counters; to be called every [`super::SAMPLE_EVERY`]. The average of the last samples, 0 to 1.
    pub(crate) fn sample(&mut self, now: Instant) -> f64 {
        let sample = match &mut self.source {
            Source::Machine(None) => None,
            Source::Machine(Some(system)) => {
                system.refresh_cpu_usage();
                let first = self.last.replace((now, Duration::ZERO)).is_none();
                // The first reading has nothing to be compared with.
                (!first).then(|| f64::from(system.global_cpu_usage()) / 100.0)
            }
            Source::V2(file) => {
                let used = std::fs::read_to_string(file).ok().and_then(|text| usage_v2(&text));
                used.and_then(|used| share(&mut self.last, now, used, self.cores))
            }
            Source::V1(file) => {
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

/// The path of this process's group below the root of its hierarchy; none where that is the root itself, which is everybody's.
pub(crate) fn own_group<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    Some(path.trim_start_matches('/')).filter(|path| !path.is_empty() && !path.split('/').any(|part| part == ".."))
}

fn usage_v2(stat: &str) -> Option<Duration> {
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.trim().parse().ok().map(Duration::from_micros)
}

/// The tightest quota of a group and those above it, in cores.
fn quota_v2(group: &Path) -> Option<f64> {
    let above = group.ancestors().take_while(|dir| dir.starts_with(ROOT));
    let quotas = above.filter_map(|dir| parse_quota_v2(&std::fs::read_to_string(dir.join("cpu.max")).ok()?));
    quotas.reduce(f64::min)
}

/// `QUOTA PERIOD`, or `max PERIOD` where there is none.
fn parse_quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<f64>().ok();
    ratio(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

/// Without a quota it is -1.
fn ratio(quota: f64, period: f64) -> Option<f64> {
    Some(quota / period).filter(|cores| cores.is_finite() && *cores > 0.0)
}

/// The share of the cores that was in use since the last reading; none for the first, and for a counter that went back or
/// further than all cores can take it.
fn share(last: &mut Option<(Instant, Duration)>, now: Instant, used: Duration, cores: f64) -> Option<f64> {
    let (then, before) = last.replace((now, used))?;
    let elapsed = now.saturating_duration_since(then).as_secs_f64();
    let share = used.checked_sub(before)?.as_secs_f64() / (elapsed * cores);
    // Counters and clocks are not read at the same moment, and a quota may be exceeded for a moment.
    (share.is_finite() && share <= 2.0).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE_EVERY;
    use super::*;

    #[test]
    fn the_own_group_is_found_and_the_root_is_nobodys() {
        let v1 = "4:cpu,cpuacct:/docker/abc\n1:memory:/x\n0::/unified/y\n";
        assert_eq!(own_group(v1, "cpuacct"), Some("docker/abc"));
        assert_eq!(own_group(v1, "cpu"), Some("docker/abc"));
        assert_eq!(own_group(v1, ""), Some("unified/y"));
        assert_eq!(own_group("0::/", ""), None);
        assert_eq!(own_group("0::/../../etc", ""), None);
        assert_eq!(own_group("garbage", ""), None);
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
