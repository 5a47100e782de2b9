//! Machines that lack something: memory, addresses, descriptors, a home.

use std::process::Command;

use super::Row;
use super::case::Case;
use super::row;
use crate::support::harness::{Call, run_guest};
use crate::support::skip_for_the_system;

pub(crate) const ROWS: &[Row] = &[
    row(
        "the limit on addresses allows no instance",
        few_addresses,
        &["exit 2", ADDRESSES, "hint: addresses are no memory"],
    ),
    row("the limit on addresses allows next to nothing", hardly_any_addresses, &["none panicked, each has a hint"]),
    row("the limit on threads is reached", few_threads, &["exit 1", "threads that wasm-worker needs", "TasksMax="]),
    row(
        "memory cannot be made executable",
        no_machine_code,
        &["exit 1", MACHINE_CODE, "MemoryDenyWriteExecute=no", "exit 0"],
    ),
    row("`/proc` is missing", no_proc, &["exit 0"]),
];

const ADDRESSES: &str = "of addresses, and the limit of this process is 7.6 GiB; at most 1 fit";
const MACHINE_CODE: &str = "the system forbids machine code";

/// The exit status and standard error.
fn answer(call: Call) -> String {
    let done = call.done();
    format!("exit {}\n{}", done.exit, done.stderr)
}

fn few_addresses(_: &mut Case) -> String {
    answer(run_guest("minimal", []).after("ulimit -v 8000000"))
}

fn hardly_any_addresses(_: &mut Case) -> String {
    for limit in ["200000", "300000", "400000", "600000", "1000000", "2000000"] {
        let done = run_guest("minimal", []).after(&format!("ulimit -v {limit}")).done();
        // With less than the program itself takes, the system does not start it.
        let started = !done.stderr.is_empty() && !done.stderr.contains("error while loading shared libraries");
        if started && (done.exit == 0 || done.stderr.contains("panicked") || !done.stderr.contains("hint: ")) {
            return format!("ulimit -v {limit}: exit {}\n{}", done.exit, done.stderr);
        }
    }
    "none panicked, each has a hint".into()
}

/// A user of no other process, with a limit that is reached at once.
fn few_threads(_: &mut Case) -> String {
    let as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", "prlimit", "--nproc=3"];
    if !works(&[&as_nobody[..], &["true"]].concat()) {
        skip_for_the_system("the limit on threads", "no other user can be used");
        return "exit 1, threads that wasm-worker needs, TasksMax=".into();
    }
    let own = tempfile::tempdir().unwrap();
    let cache = own.path().join("cache");
    answer(run_guest("minimal", []).env("WASM_WORKER_CACHE_DIR", &cache).by(&as_nobody))
}

/// As `MemoryDenyWriteExecute=` of systemd does. The cached agent stays, and is loaded afterwards.
fn no_machine_code(_: &mut Case) -> String {
    const FORBID: &str = "import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])";
    if !works(&["python3", "-c", FORBID, "/bin/true"]) {
        skip_for_the_system("memory that cannot be made executable", "Python or `PR_SET_MDWE` of Linux 6.3 is missing");
        return format!("exit 1, {MACHINE_CODE}, MemoryDenyWriteExecute=no, exit 0");
    }
    let dir = tempfile::tempdir().unwrap();
    let call = || run_guest("minimal", ["--events", "-"]).env("WASM_WORKER_CACHE_DIR", dir.path());
    assert_eq!(call().done().exit, 0);
    let refused = answer(call().by(&["python3", "-c", FORBID]));
    assert!(
        !refused.contains("minimal") && !refused.contains("cached agent refused"),
        "the agent is blamed: {refused}"
    );
    let again = call().done();
    assert!(again.stdout.contains("\"cached\":true"), "{}", again.stdout);
    format!("{refused}\nexit {}", again.exit)
}

/// The agent is compiled by the same program, which is found by its name.
fn no_proc(_: &mut Case) -> String {
    let hidden = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c"];
    let hide = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    if !works(&[&hidden[..], &[hide, "/bin/true"]].concat()) {
        skip_for_the_system("a machine without `/proc`", "namespaces of a user are not allowed");
        return "exit 0".into();
    }
    let dir = tempfile::tempdir().unwrap();
    let call = run_guest("minimal", []).env("WASM_WORKER_CACHE_DIR", dir.path());
    answer(call.by(&[&hidden[..], &[hide]].concat()))
}

/// Whether a command succeeds on this machine.
fn works(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|done| done.status.success())
}
