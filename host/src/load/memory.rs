//! Memory that is in use: of the worker's own cgroup where that has a limit, else of the machine.
//!
//! File pages that can be dropped do not count, as the kernel and Kubernetes have it.

use std::path::{Path, PathBuf};

use sysinfo::System;

use super::cpu::{ROOT, own_group};

/// Memory in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MemoryUse {
    /// 0 to 1.
    pub(crate) share: f64,
    pub(crate) limit_bytes: u64,
}

/// The names of a group's files.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    limit: &'static str,
    used: &'static str,
    inactive: &'static str,
}

/// Reads it.
#[derive(Debug)]
pub(crate) struct MemoryMonitor {
    group: Option<Files>,
    /// None where the system does not say.
    machine: Option<Box<System>>,
}

impl MemoryMonitor {
    pub(crate) fn new() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let root = Path::new(ROOT);
        let v2 = own_group(&groups, "").map(|path| Files {
            dir: root.join(path),
            limit: "memory.max",
            used: "memory.current",
            inactive: "inactive_file ",
        });
        let v1 = own_group(&groups, "memory").map(|path| Files {
            dir: root.join("memory").join(path),
            limit: "memory.limit_in_bytes",
            used: "memory.usage_in_bytes",
            inactive: "total_inactive_file ",
        });
        let group = [v2, v1].into_iter().flatten().find(|files| files.dir.join(files.used).is_file());
        Self { group, machine: System::new().ok().map(Box::new) }
    }

    pub(crate) fn sample(&mut self) -> MemoryUse {
        let (used, total) = self.machine.as_mut().map_or((0, 0), |system| {
            system.refresh_memory();
            (system.total_memory().saturating_sub(system.available_memory()), system.total_memory())
        });
        let group = self.group.as_ref().and_then(|files| {
            let read = |name: &str| std::fs::read_to_string(files.dir.join(name)).ok();
            let limit: u64 = read(files.limit)?.trim().parse().ok()?;
            let used: u64 = read(files.used)?.trim().parse().ok()?;
            let inactive = read("memory.stat").and_then(|text| field(&text, files.inactive)).unwrap_or(0);
            // Without a limit v1 says some 2^63.
            (limit < total || total == 0).then_some((used.saturating_sub(inactive), limit))
        });
        let (used, limit_bytes) = group.unwrap_or((used, total));
        MemoryUse { share: share(used, limit_bytes), limit_bytes }
    }
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { (used as f64 / limit as f64).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_stat_are_found_whole() {
        let stat = "anon 5\nactive_file 6\ninactive_file 7\ntotal_inactive_file 8\n";
        assert_eq!((field(stat, "inactive_file "), field(stat, "total_inactive_file ")), (Some(7), Some(8)));
        assert_eq!(field(stat, "none "), None);
        assert_eq!((share(1, 4), share(9, 4), share(1, 0)), (0.25, 1.0, 0.0));
    }

    #[test]
    fn this_machine_has_memory() {
        let used = MemoryMonitor::new().sample();
        assert!(used.share > 0.0 && used.share < 1.0 && used.limit_bytes > 1 << 20, "{used:?}");
    }
}
