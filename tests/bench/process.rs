//! A process that is measured, with all that it started: its memory, its CPU time, its descriptors, and its end.
#![allow(dead_code, reason = "not each bench asks for all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A process and what it started, which end with this value.
pub(crate) struct Process {
    child: Child,
    /// Those that were there when it was asked to stop: one whose parent has gone is not found by its parent.
    known: BTreeMap<u32, u64>,
}

/// Memory in kB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What no other process shares.
    pub(crate) private: u64,
    /// All that is in memory; what two of the processes share counts twice.
    pub(crate) resident: u64,
    /// The same, where each process has its part of what is shared.
    pub(crate) proportional: u64,
    /// What no file holds. Pages of the program come and go as the system likes.
    pub(crate) anonymous: u64,
}

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self { child, known: BTreeMap::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn memory(&self) -> Memory {
        self.tree().keys().map(|pid| memory(*pid)).fold(Memory::default(), |sum, one| Memory {
            private: sum.private + one.private,
            resident: sum.resident + one.resident,
            proportional: sum.proportional + one.proportional,
            anonymous: sum.anonymous + one.anonymous,
        })
    }

    pub(crate) fn cpu(&self) -> Duration {
        self.tree().keys().map(|pid| cpu(*pid)).sum()
    }

    /// Number of open files and sockets.
    pub(crate) fn descriptors(&self) -> usize {
        let of = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.tree().keys().map(of).sum()
    }

    pub(crate) fn ask_to_end(&mut self) {
        self.known = self.tree();
        // Not waited for yet, so it is there, if only as a zombie.
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Each process id, with the time when it was started: an id may be used again.
    fn tree(&self) -> BTreeMap<u32, u64> {
        let all: Vec<Stat> =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| stat(&entry.path())).collect();
        let root = self.child.id();
        let mut tree: BTreeMap<u32, u64> =
            all.iter().filter(|stat| stat.pid == root).map(|stat| (stat.pid, stat.started)).collect();
        loop {
            let found = tree.len();
            for stat in &all {
                if tree.contains_key(&stat.parent) {
                    tree.insert(stat.pid, stat.started);
                }
            }
            if tree.len() == found {
                return tree;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut tree = self.tree();
        tree.append(&mut self.known);
        for (pid, started) in tree {
            let same = stat(&PathBuf::from(format!("/proc/{pid}"))).is_some_and(|stat| stat.started == started);
            if same && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended since.
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
        }
        drop(self.child.wait());
    }
}

struct Stat {
    pid: u32,
    parent: u32,
    started: u64,
}

/// Nothing when that is no process, or no longer.
fn stat(dir: &Path) -> Option<Stat> {
    let pid = dir.file_name()?.to_str()?.parse().ok()?;
    let text = std::fs::read_to_string(dir.join("stat")).ok()?;
    // The name before may hold anything: what counts begins after its last bracket, with the third field.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}

/// The CPU time of the threads of a process.
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let nanos = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(nanos).sum())
}

fn memory(pid: u32) -> Memory {
    // It may have ended since.
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |line: &str| line.split_whitespace().nth(1).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let sum = |names: &[&str]| {
        rollup.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).map(value).sum::<u64>()
    };
    Memory {
        private: sum(&["Private_Clean:", "Private_Dirty:"]),
        resident: sum(&["Rss:"]),
        anonymous: sum(&["Anonymous:", "Swap:"]),
        proportional: sum(&["Pss:"]),
    }
}
