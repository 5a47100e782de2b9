//! Users of the machine who read, replace or fill the files of the program.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use super::Row;
use super::case::Case;
use super::row;
use crate::support::harness::{Call, guest, path, run_guest, wasm_worker};

pub(crate) const ROWS: &[Row] = &[
    row(
        "an agent's file is a FIFO or a device",
        odd_kinds,
        &["it is a FIFO; want a regular file", "it is a device; want"],
    ),
    row(
        "an agent's file has 300 MiB",
        large_file,
        &["exit 3", "it has 314572800 bytes; at most 268435456 are allowed"],
    ),
    Row {
        time_max: Duration::from_secs(120),
        ..row(
            "an agent's text takes the parser much memory and time",
            large_text,
            &["(`compile-memory`)", "longer than `compile-timeout`"],
        )
    },
    row(
        "a FIFO takes the place of a loaded agent's file",
        fifo_at_a_reload,
        &["exit 0", "it is a FIFO; want a regular file"],
    ),
    row(
        "a FIFO takes the place of a cached agent",
        fifo_in_the_cache,
        &["exit 0", "it is a FIFO; want a regular file"],
    ),
];

fn fifo(at: &Path) {
    mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn answer(call: Call) -> String {
    let done = call.done();
    format!("exit {}\n{}\n", done.exit, done.stderr)
}

fn odd_kinds(_: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.wasm");
    fifo(&agent);
    let by_file = answer(wasm_worker(["run", path(&agent), "--job"]));
    by_file + &answer(wasm_worker(["inspect", "/dev/zero"]))
}

fn large_file(_: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.wasm");
    std::fs::File::create(&agent).unwrap().set_len(300 << 20).unwrap();
    answer(wasm_worker(["run", path(&agent), "--job"]))
}

fn large_text(_: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.wat");
    std::fs::write(&agent, format!("(component {})", "(type (func)) ".repeat(500_000))).unwrap();
    let run = |flags| answer(wasm_worker(["run", path(&agent), "--job"]).args(flags));
    run(["--compile-memory", "64MiB"]) + &run(["--compile-timeout", "100ms"])
}

/// The worker goes on with the version before, and ends as it is told to.
fn fifo_at_a_reload(_: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let [agent, store] = ["agent.wasm", "store"].map(|name| dir.path().join(name));
    std::fs::copy(guest("brief"), &agent).unwrap();
    let flags = ["--http", "off", "--listen", "127.0.0.1:0", "--store", path(&store)];
    let worker = wasm_worker(["run", path(&agent)]).args(flags).start();
    worker.says("worker.registered");
    std::fs::remove_file(&agent).unwrap();
    fifo(&agent);
    worker.signal(Signal::HUP);
    worker.says("the new version cannot be loaded");
    worker.signal(Signal::TERM);
    let done = worker.done();
    format!("exit {}\n{}", done.exit, done.stderr)
}

fn fifo_in_the_cache(_: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let call = || run_guest("minimal", []).env("WASM_WORKER_CACHE_DIR", dir.path());
    assert_eq!(call().done().exit, 0);
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let cached = files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "agent")).unwrap();
    std::fs::remove_file(&cached).unwrap();
    fifo(&cached);
    answer(call())
}
