//! Process 1 of a container inherits the children of processes that end, and has to wait for them: until then each one keeps an
//! entry of the process table, which `pids.max` bounds.
//!
//! The children that this program starts have a process group of their own, or are waited for within moments. So a child that has
//! ended long ago, and does not lead a group of this session, is an orphan.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::time::{MissedTickBehavior, interval};

/// Pause between two looks at the processes. An orphan is waited for at the second one.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Wait for orphans, in the process 1 only.
pub(super) fn reap_orphans() {
    let own = getpid();
    if !own.is_init() {
        return;
    }
    tokio::runtime::Handle::current().spawn(async move {
        let mut ended = HashSet::new();
        let mut looks = interval(LOOK_EVERY);
        // Two looks at once would take a child for an orphan that has only just ended.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            ended = tokio::task::block_in_place(|| reap(own, &ended));
        }
    });
}

/// Wait for the orphans that had ended at the last look already, and return those that have ended since.
fn reap(own: Pid, ended_before: &HashSet<i32>) -> HashSet<i32> {
    // In a namespace of its own, process 1 is in the session 0, which is no process there.
    let session = stat_of("/proc/self").map_or(0, |stat| stat.session);
    let mut ended = HashSet::new();
    // Without `/proc` nothing is found.
    let Ok(processes) = std::fs::read_dir("/proc") else { return ended };
    for process in processes.filter_map(Result::ok) {
        let Some(stat) = stat_of(process.path()) else { continue };
        if !stat.is_ended_orphan(own.as_raw_nonzero().get(), session) {
            continue;
        }
        match Pid::from_raw(stat.pid).filter(|_| ended_before.contains(&stat.pid)) {
            // Its status interests nobody.
            Some(pid) => {
                waitpid(Some(pid), WaitOptions::NOHANG).ok();
            }
            None => {
                ended.insert(stat.pid);
            }
        }
    }
    ended
}

fn stat_of(process: impl AsRef<Path>) -> Option<Stat> {
    Stat::parse(&std::fs::read_to_string(process.as_ref().join("stat")).ok()?)
}

/// The begin of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    is_zombie: bool,
    parent: i32,
    group: i32,
    session: i32,
}

impl Stat {
    /// The name of the program, in parentheses, may contain anything.
    fn parse(text: &str) -> Option<Self> {
        let (pid, _) = text.split_once(' ')?;
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let is_zombie = fields.next()? == "Z";
        let mut number = || fields.next()?.parse().ok();
        Some(Self { pid: pid.parse().ok()?, is_zombie, parent: number()?, group: number()?, session: number()? })
    }

    fn is_ended_orphan(&self, own: i32, session: i32) -> bool {
        let is_own = self.group == self.pid && self.session == session;
        self.is_zombie && self.parent == own && !is_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_ended_children_that_this_program_did_not_start() {
        let parse = |text| Stat::parse(text).unwrap();
        let orphan = parse("40 (a) b) (c) Z 1 1 1 0 -1 4228364 92");
        assert_eq!(orphan, Stat { pid: 40, is_zombie: true, parent: 1, group: 1, session: 1 });
        assert!(orphan.is_ended_orphan(1, 1));
        assert!(parse("40 (daemon) Z 1 40 40 0 -1").is_ended_orphan(1, 1), "it has a session of its own");
        assert!(!parse("40 (sh) Z 1 40 1 0 -1").is_ended_orphan(1, 1), "an event command");
        assert!(!parse("40 (sh) S 1 1 1 0 -1").is_ended_orphan(1, 1), "it runs");
        assert!(!parse("40 (sh) Z 7 1 1 0 -1").is_ended_orphan(1, 1), "it has another parent");
        assert_eq!(Stat::parse("40 (sh"), None);
    }
}
