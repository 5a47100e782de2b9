//! Memory utilisation of the worker's cgroup or of one above it, whichever is nearest to its limit; of the machine where no cgroup
//! has a limit.
//!
//! File pages that the kernel can drop do not count, as in Kubernetes.

use std::path::Path;

use sysinfo::System;

use super::cgroup::{Cgroup, KernelTables};

/// Memory utilisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MemoryUse {
    /// Share of the limit in use, 0 to 1.
    pub(crate) share: f64,
    pub(crate) limit_bytes: u64,
}

/// The names of a cgroup's files.
#[derive(Debug)]
struct FileNames {
    limit: &'static str,
    used: &'static str,
    inactive: &'static str,
}

const V1: FileNames =
    FileNames { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", inactive: "total_inactive_file " };
const V2: FileNames = FileNames { limit: "memory.max", used: "memory.current", inactive: "inactive_file " };

/// Measures memory utilisation.
#[derive(Debug)]
pub(crate) struct MemoryMonitor {
    group: Option<(Cgroup, FileNames)>,
    /// None where the system gives no figures.
    machine: Option<Box<System>>,
}

impl MemoryMonitor {
    pub(crate) fn new() -> Self {
        Self::of(&KernelTables::read())
    }

    fn of(tables: &KernelTables) -> Self {
        let v1 = tables.v1("memory").map(|group| (group, V1));
        let group = v1.or_else(|| Some((tables.v2()?, V2)));
        Self { group, machine: System::new().ok().map(Box::new) }
    }

    /// Read the current utilisation.
    pub(crate) fn sample(&mut self) -> MemoryUse {
        let machine = self.machine.as_mut().map_or(MemoryUse::of(0, 0), |system| {
            system.refresh_memory();
            MemoryUse::of(system.total_memory().saturating_sub(system.available_memory()), system.total_memory())
        });
        let Some((group, names)) = &self.group else { return machine };
        let groups = group.and_above(|dir| names.read(dir));
        // Version 1 shows about 2^63 for no limit.
        let bound = groups.filter(|group| group.limit_bytes < machine.limit_bytes || machine.limit_bytes == 0);
        bound.max_by(|one, other| one.share.total_cmp(&other.share)).unwrap_or(machine)
    }
}

impl FileNames {
    fn read(&self, dir: &Path) -> Option<MemoryUse> {
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        let limit: u64 = read(self.limit)?.trim().parse().ok()?;
        let used: u64 = read(self.used)?.trim().parse().ok()?;
        let inactive = read("memory.stat").and_then(|text| field(&text, self.inactive)).unwrap_or(0);
        Some(MemoryUse::of(used.saturating_sub(inactive), limit))
    }
}

impl MemoryUse {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn of(used: u64, limit_bytes: u64) -> Self {
        let share = if limit_bytes == 0 { 0.0 } else { (used as f64 / limit_bytes as f64).clamp(0.0, 1.0) };
        Self { share, limit_bytes }
    }
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::tests::Tree;
    use super::*;

    #[test]
    fn fields_of_a_stat_are_found_whole() {
        let stat = "anon 5\nactive_file 6\ninactive_file 7\ntotal_inactive_file 8\n";
        assert_eq!((field(stat, "inactive_file "), field(stat, "total_inactive_file ")), (Some(7), Some(8)));
        assert_eq!(field(stat, "none "), None);
        let share = |used, limit| MemoryUse::of(used, limit).share;
        assert_eq!((share(1, 4), share(9, 4), share(1, 0)), (0.25, 1.0, 0.0));
    }

    #[test]
    fn the_cgroup_nearest_to_its_limit_counts() {
        let tree = Tree::new("cgroup2", "", "/", "/pod/container");
        tree.write("pod/container/memory.max", "max");
        tree.write("pod/container/memory.current", "900");
        tree.write("pod/memory.max", "1000");
        tree.write("pod/memory.current", "800");
        tree.write("pod/memory.stat", "anon 5\ninactive_file 300\n");
        assert_eq!(MemoryMonitor::of(&tree.tables).sample(), MemoryUse { share: 0.5, limit_bytes: 1_000 });
        tree.write("pod/container/memory.max", "1200");
        assert_eq!(MemoryMonitor::of(&tree.tables).sample(), MemoryUse { share: 0.75, limit_bytes: 1_200 });

        // A container sees its own cgroup as the root.
        let tree = Tree::new("cgroup", "memory", "/docker/abc", "/docker/abc");
        tree.write("memory.limit_in_bytes", "4000");
        tree.write("memory.usage_in_bytes", "1000");
        assert_eq!(MemoryMonitor::of(&tree.tables).sample(), MemoryUse { share: 0.25, limit_bytes: 4_000 });
        tree.write("memory.limit_in_bytes", "9223372036854771712");
        assert!(MemoryMonitor::of(&tree.tables).sample().limit_bytes > 1 << 20, "no limit, so the machine's");
    }

    #[test]
    fn this_machine_has_memory() {
        let used = MemoryMonitor::new().sample();
        assert!(used.share > 0.0 && used.share < 1.0 && used.limit_bytes > 1 << 20, "{used:?}");
    }
}
