//! Machines that lack something: memory, addresses, descriptors, a home.

use std::process::Command;

use super::Row;
use super::call;
use super::case::Case;
use crate::support::harness::{Call, guest, path, run_guest};
use crate::support::skip_for_the_system;

pub(crate) const ROWS: &[Row] = &[
    call(
        "the limit on addresses allows no instance",
        few_addresses,
        &["exit 2.", ADDRESSES, "hint: addresses are no memory"],
    ),
    call("the limit on addresses allows next to nothing", hardly_any_addresses, &["none panicked, each has a hint"]),
    call(
        "the limit on addresses allows no threads",
        no_addresses,
        &["exit 1.", NO_ADDRESSES, "hint: addresses are no memory"],
    ),
    call("the limit on threads is reached", few_threads, &["exit 1.", "threads that wasm-worker needs", "TasksMax="]),
    call(
        "memory cannot be made executable",
        no_machine_code,
        &["exit 1.", MACHINE_CODE, "MemoryDenyWriteExecute=no", "exit 0."],
    ),
    call("`/proc` is missing", no_proc, &["exit 0."]),
];

const ADDRESSES: &str = "of addresses, and the limit of this process is 7.6 GiB; at most 1 fit";
const NO_ADDRESSES: &str =
    "the limit on the addresses of this process is 195.3 MiB; wasm-worker needs 512.0 MiB at least";
const MACHINE_CODE: &str = "the system forbids machine code";

/// The exit status and standard error.
fn answer(case: &mut Case, call: Call) -> String {
    let done = case.run(call);
    format!("exit {}.\n{}", done.exit, done.stderr)
}

fn few_addresses(case: &mut Case) -> String {
    answer(case, run_guest("minimal", []).after("ulimit -v 8000000"))
}

/// A little above what the program itself takes: where one thread starts, the next small allocation may fail.
fn no_addresses(case: &mut Case) -> String {
    answer(case, run_guest("minimal", []).after("ulimit -v 200000"))
}

fn hardly_any_addresses(case: &mut Case) -> String {
    let mut starts = 0;
    for limit in ["200000", "300000", "400000", "600000", "1000000", "2000000"] {
        let done = case.run(run_guest("minimal", []).after(&format!("ulimit -v {limit}")));
        // With less than the program itself takes, the system does not start it.
        let started = !done.stderr.is_empty() && !done.stderr.contains("error while loading shared libraries");
        if started && (done.exit == 0 || done.stderr.contains("panicked") || !done.stderr.contains("hint: ")) {
            return format!("ulimit -v {limit}: exit {}.\n{}", done.exit, done.stderr);
        }
        starts += usize::from(started);
    }
    if starts == 0 { "the program never starts".into() } else { "none panicked, each has a hint".into() }
}

/// A user of no other process, with a limit that is reached at once.
fn few_threads(case: &mut Case) -> String {
    let as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", "prlimit", "--nproc=3"];
    let (program, agent) = (env!("CARGO_BIN_EXE_wasm-worker"), guest("minimal"));
    if !works(&[&as_nobody[..], &["test", "-x", program, "-a", "-r", path(&agent)]].concat()) {
        skip_for_the_system("the limit on threads", "no other user can run the program");
        return "not tried: exit 1. threads that wasm-worker needs, TasksMax=".into();
    }
    let own = tempfile::tempdir().unwrap();
    let cache = own.path().join("cache");
    answer(case, run_guest("minimal", []).env("WASM_WORKER_CACHE_DIR", &cache).by(&as_nobody))
}

/// As `MemoryDenyWriteExecute=` of systemd does. The cached agent stays, and is loaded afterwards.
fn no_machine_code(case: &mut Case) -> String {
    const FORBID: &str = "import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])";
    if !works(&["python3", "-c", FORBID, "/bin/true"]) {
        skip_for_the_system("memory that cannot be made executable", "Python or `PR_SET_MDWE` of Linux 6.3 is missing");
        return format!("not tried: exit 1. {MACHINE_CODE}, MemoryDenyWriteExecute=no, exit 0.");
    }
    let dir = tempfile::tempdir().unwrap();
    let call = || run_guest("minimal", ["--events", "-"]).env("WASM_WORKER_CACHE_DIR", dir.path());
    assert_eq!(call().done().exit, 0);
    let refused = answer(case, call().by(&["python3", "-c", FORBID]));
    assert!(
        !refused.contains("minimal") && !refused.contains("cached agent refused"),
        "the agent is blamed: {refused}"
    );
    let again = call().done();
    assert!(again.stdout.contains("\"cached\":true"), "{}", again.stdout);
    format!("{refused}\nexit {}.", again.exit)
}

/// The agent is compiled by the same program, which is found by its name.
fn no_proc(case: &mut Case) -> String {
    let hidden = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c"];
    let hide = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    if !works(&[&hidden[..], &[hide, "/bin/true"]].concat()) {
        skip_for_the_system("a machine without `/proc`", "namespaces of a user are not allowed");
        return "not tried: exit 0.".into();
    }
    let dir = tempfile::tempdir().unwrap();
    let call = run_guest("minimal", []).env("WASM_WORKER_CACHE_DIR", dir.path());
    answer(case, call.by(&[&hidden[..], &[hide]].concat()))
}

/// Whether a command succeeds on this machine.
fn works(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|done| done.status.success())
}
