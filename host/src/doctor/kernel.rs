//! The kernel, and its files about processes.

use std::fs;

use super::Finding;

/// The first kernel with `memfd_create`, which snapshots are mapped from.
const RELEASE_MIN: (u32, u32) = (3, 17);

/// What the kernel says.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// `/proc/sys/kernel/osrelease`.
    release: Option<String>,
    proc: Proc,
}

/// The part of `/proc` that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Proc {
    #[default]
    Missing,
    /// Processes, without the counters of the machine.
    Processes,
    Whole,
}

impl Facts {
    pub(super) fn read() -> Self {
        Self {
            release: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            proc: match ["/proc/self/exe", "/proc/stat", "/proc/meminfo"].map(|path| fs::metadata(path).is_ok()) {
                [false, ..] => Proc::Missing,
                [true, true, true] => Proc::Whole,
                [true, ..] => Proc::Processes,
            },
        }
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![kernel(facts), proc(facts)]
}

fn kernel(facts: &Facts) -> Finding {
    let machine = std::env::consts::ARCH;
    match facts.release.as_deref() {
        None => Finding::ok("kernel", format!("Linux on {machine}; the release is not readable")),
        Some(release) if number(release).is_some_and(|number| number < RELEASE_MIN) => Finding::fail(
            "kernel",
            format!("Linux {release} on {machine} cannot map a snapshot"),
            format!("use Linux {}.{} or later", RELEASE_MIN.0, RELEASE_MIN.1),
        ),
        Some(release) => Finding::ok("kernel", format!("Linux {release} on {machine}")),
    }
}

/// `6.18.44-generic` is 6.18.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn proc(facts: &Facts) -> Finding {
    match facts.proc {
        Proc::Missing => Finding::fail(
            "proc",
            "/proc is not mounted: the compiler and the processes of `--workers` cannot be started",
            "mount -t proc proc /proc",
        ),
        Proc::Processes => Finding::warn(
            "proc",
            "/proc shows processes only: the limit of memory mappings and the load of the machine are not known",
            "ProcSubset=all in the unit",
        ),
        Proc::Whole => Finding::ok("proc", "/proc is mounted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn levels(facts: &Facts) -> [Level; 2] {
        [kernel(facts).level, proc(facts).level]
    }

    #[test]
    fn an_old_kernel_and_a_missing_proc_are_found() {
        let facts = Facts { release: Some("6.18.44-generic".into()), proc: Proc::Whole };
        assert_eq!(levels(&facts), [Level::Ok, Level::Ok]);
        assert_eq!(levels(&Facts { release: Some("3.16.0".into()), ..facts.clone() }), [Level::Fail, Level::Ok]);
        assert_eq!(levels(&Facts { release: None, proc: Proc::Processes }), [Level::Ok, Level::Warn]);
        assert_eq!(levels(&Facts { release: None, proc: Proc::Missing }), [Level::Ok, Level::Fail]);
        assert_eq!(number("unknown"), None);
    }
}
