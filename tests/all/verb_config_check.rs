//! `wasm-worker config check`: every fault at once, or every value that is set.

use crate::support::harness::wasm_worker;

#[test]
fn config_check_reports_every_fault_or_every_value() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let check = || wasm_worker(["config", "check", "--config", path]);
    std::fs::write(file.path(), "max-jobs = 5\napi-secret = \"hunter2\"\n[agents.a]\nfuel-limit = \"1M\"\n").unwrap();
    let done = check().env("WASM_WORKER_LOG_RATE", "9").done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    for line in [
        "max-jobs = 5  (",
        "api-secret = (secret)  (",
        "agents.a.fuel-limit = 1M  (",
        "log-rate = 9  (WASM_WORKER_LOG_RATE)",
        "5 values set",
    ] {
        assert!(done.stdout.contains(line), "`{line}` is missing in:\n{}", done.stdout);
    }
    std::fs::write(file.path(), "max-job = 5\n[agents.a]\nworkers = 2\n").unwrap();
    let done = check().args(["--webhook", "http://x"]).env("NUM_CPUS", "many").done();
    done.fails_with(
        2,
        &[
            "4 faults",
            "`max-job`",
            "`agents.a.workers`",
            "`webhook`",
            "want `api-key` and `api-secret` too",
            "`cores` (NUM_CPUS)",
        ],
    );
    std::fs::write(file.path(), "url = \"ws://x\"\n").unwrap();
    check().done().fails_with(2, &["`url`", "want `api-key` and `api-secret` too: a server refuses"]);
    // A line that cannot be read may hold a secret.
    std::fs::write(file.path(), "max-jobs = 5\napi-secret = \"hunter2\n").unwrap();
    let done = check().done();
    done.fails_with(2, &["not TOML: line 2, column "]);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    std::fs::write(file.path(), "").unwrap();
    check().env("NUM_CPUS", "many").done().fails_with(2, &["`cores` (NUM_CPUS)", "want a number above 0"]);
}
