//! `wasm-worker doctor`.

use std::process::Command;

use serde_json::Value;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, Done, path, wasm_worker};

/// `doctor --json` with a dispatcher at a free port and a store that can be made.
fn doctor(dir: &std::path::Path) -> Call {
    let call = wasm_worker(["doctor", "--json", "--listen", "127.0.0.1:0"]);
    call.args(["--store", path(&dir.join("store.db"))])
}

/// The level of a check, its detail, and the line to change.
#[track_caller]
fn finding(done: &Done, check: &str) -> (String, String, String) {
    let lines = done.lines();
    let found = lines.iter().find(|line| line["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no check `{check}` in {}{}", done.stdout, done.stderr));
    let part = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    (part("level"), part("detail"), part("fix"))
}

#[test]
fn machine_on_which_the_tests_run_is_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let done = doctor(dir.path()).done();
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    for check in
        ["kernel", "proc", "cgroup", "threads", "address-space", "mappings", "engine", "cache-dir", "store", "server"]
    {
        assert_eq!(finding(&done, check).0, "ok", "{}", done.stdout);
    }
    assert!(done.stderr.starts_with("0 failures, "), "{}", done.stderr);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves something behind");
    let text = wasm_worker(["doctor", "--listen", "127.0.0.1:0"]).done();
    assert!(text.stdout.starts_with("ok    kernel         Linux "), "{}", text.stdout);
}

#[test]
fn each_limit_that_is_too_small_fails_with_the_line_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let limited = |limit: &str| doctor(dir.path()).after(&format!("ulimit {limit}")).done();
    for (limit, check, change) in
        [("-n 40", "descriptors", "LimitNOFILE=16384 "), ("-v 8000000", "address-space", "LimitAS=infinity ")]
    {
        let done = limited(limit);
        assert_eq!(done.exit, 1, "{}{}", done.stdout, done.stderr);
        let (level, _, fix) = finding(&done, check);
        assert_eq!(level, "fail", "{}", done.stdout);
        assert!(fix.contains(change), "{fix}");
    }
    // A soft limit is raised, so it is no limit.
    assert_eq!(finding(&limited("-S -n 64"), "descriptors"), finding(&doctor(dir.path()).done(), "descriptors"));

    let done = doctor(dir.path()).args(["--max-jobs", "15000"]).done();
    // 15,004 instances with six mappings each, and a thousand for the rest.
    let limit: u64 = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let expected = if limit >= 91_024 { ("ok", "") } else { ("fail", "sysctl -w vm.max_map_count=91024") };
    let (level, _, fix) = finding(&done, "mappings");
    assert_eq!((level.as_str(), fix.as_str()), expected, "{}", done.stdout);
}

#[test]
fn directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // A file stands where a directory is wanted, which stops root too.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let call = wasm_worker(["doctor", "--json", "--listen", "127.0.0.1:0", "--store", path(&file.join("store.db"))]);
    let done = call.args(["--cache-dir", path(&file.join("cache"))]).done();
    assert_eq!(done.exit, 1, "{}", done.stdout);
    let (level, detail, fix) = finding(&done, "store");
    assert_eq!((level.as_str(), fix.as_str()), ("fail", "WASM_WORKER_STORE=/var/lib/wasm-worker/dispatcher.db"));
    assert!(detail.contains(path(&file)), "{detail}");
    assert_eq!(finding(&done, "cache-dir").0, "warn");
}

#[test]
fn server_key_and_clock_are_told_apart() {
    let dispatcher = Dispatcher::start(&[]);
    let doctor = |secret: &str| {
        let call = dispatcher.verb(["doctor", "--json"]);
        call.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", secret).done()
    };
    let good = doctor("secret");
    for check in ["server", "key", "clock"] {
        assert_eq!(finding(&good, check).0, "ok", "{}", good.stdout);
    }
    let bad = doctor("another secret");
    assert_eq!((finding(&bad, "server").0.as_str(), finding(&bad, "key").0.as_str()), ("ok", "fail"), "{}", bad.stdout);
    assert_eq!(bad.exit, 1);
    assert!(!bad.stdout.contains("another secret"), "{}", bad.stdout);

    let gone = wasm_worker(["doctor", "--json"]).env("LIVEKIT_URL", "ws://127.0.0.1:9");
    let gone = gone.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").done();
    assert_eq!((gone.exit, finding(&gone, "server").0.as_str()), (1, "fail"));
    let keyless = wasm_worker(["doctor", "--json"]).env("LIVEKIT_URL", "ws://127.0.0.1:9").done();
    assert_eq!((keyless.exit, finding(&keyless, "key").0.as_str()), (1, "fail"));
}

#[test]
fn missing_toolchain_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let done = doctor(dir.path()).env("PATH", dir.path()).done();
    let (level, _, fix) = finding(&done, "toolchain");
    assert_eq!((done.exit, level.as_str()), (0, "warn"), "{}", done.stdout);
    assert!(fix.contains("rustup.rs"), "{fix}");
    if Command::new("cargo").arg("--version").output().is_ok() {
        assert_eq!(finding(&doctor(dir.path()).done(), "toolchain").0, "ok");
    }
}
