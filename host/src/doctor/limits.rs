//! The limits of the process and of its cgroup, against what the settings need.

use std::fs;
use std::path::Path;

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};
use wasm_worker_dispatcher::connections::{CONNECTIONS_MAX, FILES_SHARE};
use wasm_worker_sandbox::engine::mappings::instances_that_fit;

use super::Finding;
use crate::config::Config;
use crate::load::cgroup::KernelTables;
use crate::load::cpu::CpuMonitor;
use crate::load::descriptors::{HEADROOM, limit_for, rooms_of};
use crate::load::memory::MemoryMonitor;

/// Threads beside those of the guests: control, files, sinks, the epoch, the compiler.
const THREADS: u64 = 32;
/// Memory of a worker beside its jobs.
const WORKER_BYTES: u64 = 64 << 20;
/// Addresses that the engine reserves for each instance.
const SLOT_BYTES: u64 = 6 << 30;
/// Mappings of an instance with a snapshot.
const MAPPINGS_EACH: u32 = 6;

/// The limits. None is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// The hard limit: the program raises the soft one to it.
    descriptors: Option<u64>,
    /// Processes and threads.
    threads: Option<u64>,
    address_space_bytes: Option<u64>,
    memory_bytes: u64,
    cores: f64,
    /// Instances that the memory mappings of one process suffice for.
    instances: u32,
    /// The version of cgroups, where there is one.
    cgroup: Option<u8>,
}

/// What the settings need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    instances: u32,
    rooms: u64,
    job_memory_bytes: u64,
    compile_memory_bytes: u64,
}

impl Facts {
    pub(super) fn read(config: &Config) -> Self {
        let tables = KernelTables::read();
        let groups = [tables.v2(), tables.v1("pids")];
        let group_threads = groups.into_iter().flatten().filter_map(|group| group.and_above(pids).min()).min();
        let own_threads = getrlimit(Resource::Nproc).current;
        Self {
            descriptors: getrlimit(Resource::Nofile).maximum,
            threads: group_threads.into_iter().chain(own_threads).min(),
            address_space_bytes: getrlimit(Resource::As).current,
            memory_bytes: MemoryMonitor::new().sample().limit_bytes,
            cores: CpuMonitor::new(config.cores).cores(),
            instances: instances_that_fit(MAPPINGS_EACH),
            cgroup: match (tables.v1("memory"), tables.v2()) {
                (Some(_), _) => Some(1),
                (None, Some(_)) => Some(2),
                (None, None) => None,
            },
        }
    }
}

/// The file has a number, or `max`.
fn pids(dir: &Path) -> Option<u64> {
    fs::read_to_string(dir.join("pids.max")).ok()?.trim().parse().ok()
}

impl Needs {
    pub(super) fn of(config: &Config) -> Self {
        let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let engine = config.engine_settings(jobs);
        Self {
            instances: engine.slots,
            rooms: bytes(config.rooms_max()),
            job_memory_bytes: bytes(engine.memory_bytes),
            compile_memory_bytes: bytes(config.agent.compile.memory_bytes),
        }
    }
}

pub(super) fn judge(facts: &Facts, needs: &Needs) -> Vec<Finding> {
    vec![
        cgroup(facts),
        memory(facts, needs),
        threads(facts),
        descriptors(facts, needs),
        address_space(facts, needs),
        mappings(facts, needs),
    ]
}

fn cgroup(facts: &Facts) -> Finding {
    let cores = format!("{:.1} cores", facts.cores);
    match facts.cgroup {
        Some(version) => Finding::ok("cgroup", format!("version {version}, {cores}")),
        None => Finding::ok("cgroup", format!("none; {cores}, and the load is that of the machine")),
    }
}

fn memory(facts: &Facts, needs: &Needs) -> Finding {
    let limit = shown(facts.memory_bytes);
    if facts.memory_bytes == 0 {
        return Finding::ok("memory", "the size is not known");
    }
    if facts.memory_bytes < needs.job_memory_bytes.saturating_add(WORKER_BYTES) {
        let detail = format!("{limit}, and one job may use {}", shown(needs.job_memory_bytes));
        let rest = facts.memory_bytes.saturating_sub(WORKER_BYTES) / 2;
        return Finding::fail("memory", detail, format!("memory-limit = \"{}MiB\"", (rest >> 20).max(1)));
    }
    if facts.memory_bytes < needs.compile_memory_bytes {
        let detail = format!("{limit}, and the compiler may use {}", shown(needs.compile_memory_bytes));
        return Finding::warn("memory", detail, format!("compile-memory = \"{}MiB\"", (facts.memory_bytes / 2) >> 20));
    }
    Finding::ok("memory", limit)
}

fn shown(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

fn threads(facts: &Facts) -> Finding {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
    let needed = facts.cores.ceil() as u64 + THREADS;
    match facts.threads {
        Some(limit) if limit < needed => Finding::fail(
            "threads",
            format!("{limit} processes and threads are allowed, and a worker takes up to {needed}"),
            format!("TasksMax={0} in the unit, or `ulimit -u {0}` in a shell", needed * 4),
        ),
        Some(limit) => Finding::ok("threads", format!("{limit} processes and threads are allowed")),
        None => Finding::ok("threads", "no limit"),
    }
}

fn descriptors(facts: &Facts, needs: &Needs) -> Finding {
    let (connections, share) = (CONNECTIONS_MAX as u64, FILES_SHARE as u64);
    let for_rooms = limit_for(usize::try_from(needs.rooms).unwrap_or(usize::MAX)) as u64;
    let wanted = (connections * share).max(for_rooms);
    let fix = format!("LimitNOFILE={wanted} in the unit, or `ulimit -n {wanted}` in a shell");
    match facts.descriptors {
        Some(limit) if limit < HEADROOM as u64 => Finding::fail("descriptors", format!("{limit} are allowed"), fix),
        Some(limit) if limit < for_rooms => {
            let rooms = rooms_of(usize::try_from(limit).unwrap_or(usize::MAX));
            let detail =
                format!("{limit} are allowed, enough for {rooms} rooms, and the settings allow {}", needs.rooms);
            Finding::warn("descriptors", detail, fix)
        }
        Some(limit) if limit < wanted => {
            let places = limit / share;
            let detail =
                format!("{limit} are allowed, so a listener has {places} connections instead of {connections}");
            Finding::warn("descriptors", detail, fix)
        }
        Some(limit) => Finding::ok("descriptors", format!("{limit} are allowed")),
        None => Finding::ok("descriptors", "no limit"),
    }
}

fn address_space(facts: &Facts, needs: &Needs) -> Finding {
    match facts.address_space_bytes {
        Some(limit) if limit < SLOT_BYTES.saturating_mul(u64::from(needs.instances)) => Finding::fail(
            "address-space",
            format!("{}, and each of {} instances reserves {}", shown(limit), needs.instances, shown(SLOT_BYTES)),
            "LimitAS=infinity in the unit, or `ulimit -v unlimited` in a shell",
        ),
        Some(limit) => Finding::ok("address-space", shown(limit)),
        None => Finding::ok("address-space", "no limit"),
    }
}

fn mappings(facts: &Facts, needs: &Needs) -> Finding {
    let Facts { instances, .. } = *facts;
    if instances >= needs.instances {
        return Finding::ok(
            "mappings",
            format!("enough for {instances} instances, and the settings need {}", needs.instances),
        );
    }
    let wanted = u64::from(needs.instances) * u64::from(MAPPINGS_EACH) + 1_000;
    Finding::fail(
        "mappings",
        format!("enough for {instances} instances, and the settings need {}", needs.instances),
        format!("sysctl -w vm.max_map_count={wanted}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const FACTS: Facts = Facts {
        descriptors: None,
        threads: None,
        address_space_bytes: None,
        memory_bytes: 8 << 30,
        cores: 2.0,
        instances: 10_755,
        cgroup: Some(2),
    };
    const NEEDS: Needs =
        Needs { instances: 1_002, rooms: 1_000, job_memory_bytes: 128 << 20, compile_memory_bytes: 2 << 30 };

    #[track_caller]
    fn found(facts: Facts, needs: Needs, check: &str, level: Level, fix: &str) {
        let findings = judge(&facts, &needs);
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        assert_eq!(bad.len(), 1, "{findings:#?}");
        assert_eq!((bad[0].check, bad[0].level), (check, level), "{findings:#?}");
        assert!(bad[0].fix.as_ref().unwrap().contains(fix), "{findings:#?}");
    }

    #[test]
    fn a_machine_without_limits_is_in_order() {
        let enough = Facts { descriptors: Some(16_384), ..FACTS };
        assert!(judge(&enough, &NEEDS).iter().all(|finding| finding.level == Level::Ok && finding.fix.is_none()));
        assert!(judge(&FACTS, &NEEDS).iter().all(|finding| finding.level == Level::Ok && finding.fix.is_none()));
    }

    #[test]
    fn each_limit_that_is_too_small_is_found_with_the_line_to_change() {
        use Level::{Fail, Warn};
        found(Facts { descriptors: Some(20), ..FACTS }, NEEDS, "descriptors", Fail, "LimitNOFILE=16384");
        found(Facts { descriptors: Some(16_383), ..FACTS }, NEEDS, "descriptors", Warn, "ulimit -n 16384");
        found(Facts { descriptors: Some(4_000), ..FACTS }, NEEDS, "descriptors", Warn, "LimitNOFILE=16384");
        let many = Needs { rooms: 20_000, ..NEEDS };
        found(Facts { descriptors: Some(20_000), ..FACTS }, many, "descriptors", Warn, "ulimit -n 80128");
        found(Facts { threads: Some(10), ..FACTS }, NEEDS, "threads", Fail, "TasksMax=136");
        let small = Facts { address_space_bytes: Some(4 << 30), ..FACTS };
        found(small, NEEDS, "address-space", Fail, "LimitAS=infinity");
        found(Facts { instances: 500, ..FACTS }, NEEDS, "mappings", Fail, "vm.max_map_count=7012");
        found(Facts { memory_bytes: 128 << 20, ..FACTS }, NEEDS, "memory", Fail, "memory-limit = \"32MiB\"");
        found(Facts { memory_bytes: 1 << 30, ..FACTS }, NEEDS, "memory", Warn, "compile-memory = \"512MiB\"");
    }

    #[test]
    fn unknown_figures_are_no_faults() {
        let unknown = Facts { memory_bytes: 0, cgroup: None, ..FACTS };
        assert!(judge(&unknown, &NEEDS).iter().all(|finding| finding.level == Level::Ok));
    }
}
