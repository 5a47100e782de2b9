//! Prewarm by a snapshot where that is possible, and by a pool elsewhere.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::harness::{guest, run_guest, wasm_worker};

fn inspect(name: &str, args: &[&str]) -> Value {
    let agent = guest(name);
    let done = wasm_worker(["inspect", agent.to_str().unwrap(), "--json"].into_iter().chain(args.iter().copied()));
    let done = done.done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn prewarm_without_handles_becomes_a_snapshot() {
    let report = inspect("randomness", &[]);
    assert_eq!(report["prewarm"], "snapshot");
    assert_eq!(report["prewarm_why"], Value::Null);
    assert!(report["prewarm_fuel"].as_u64().unwrap() > 0);
    // Its stack, the guard, the snapshot, what comes after it, and the reserved rest: nothing before the snapshot.
    assert_eq!(report["memory_mappings"], 5);
}

#[test]
fn printing_prewarm_falls_back_to_the_pool_and_all_output_arrives() {
    let report = inspect("prewarm_print", &[]);
    assert_eq!(report["prewarm"], "pool");
    assert!(report["prewarm_why"].as_str().unwrap().contains("`wasi:cli/stdout`"), "{report}");
    assert_eq!(report["memory_mappings"], 6);

    let done = run_guest("prewarm_print", ["--count", "3"]).env("WASM_WORKER_LOG_LEVEL", "info").done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    assert_eq!(done.stderr.matches("printed in the job").count(), 3);
    assert!(done.stderr.matches("printed in prewarm").count() >= 3);
}

#[test]
fn handle_kept_from_prewarm_works_in_the_pool() {
    let report = inspect("prewarm_handle", &[]);
    assert_eq!(report["prewarm"], "pool");
    for idle in ["0", "2"] {
        let done = run_guest("prewarm_handle", ["--idle", idle]).done();
        assert_eq!(done.texts()["ready"], ["true"], "{}", done.stderr);
        assert!(done.record()["usage"]["prewarm"]["fuel"].as_u64().unwrap() > 0);
    }
}

#[test]
fn snapshot_may_exceed_the_engine_s_default_image_size() {
    let done = run_guest("prewarm_large", ["--memory-limit", "256MiB"]).done();
    assert_eq!(done.texts()["sum"], ["980"], "{}", done.stderr);
    let report = inspect("prewarm_large", &["--memory-limit", "256MiB"]);
    assert_eq!(report["prewarm"], "snapshot");
    assert!(report["snapshot_bytes"].as_u64().unwrap() > 140 << 20);
}

#[test]
fn prewarm_pool_can_be_requested() {
    let report = inspect("randomness", &["--prewarm", "pool"]);
    assert_eq!(report["prewarm"], "pool");
    let snapshot = run_guest("prewarm_large", ["--memory-limit", "256MiB", "--prewarm", "pool"]).done();
    assert_eq!(snapshot.texts()["sum"], ["980"]);
    assert!(snapshot.record()["usage"]["prewarm"]["fuel"].as_u64().unwrap() > 0);
}

#[test]
fn random_numbers_differ_between_jobs() {
    for mode in ["snapshot", "pool"] {
        let done = run_guest("randomness", ["--count", "50", "--concurrency", "8", "--prewarm", mode]).done();
        let lines = done.lines();
        let numbers = lines.iter().map(|record| record["activity"]["texts"][0]["text"].as_str().unwrap());
        let mut parts: Vec<String> = Vec::new();
        for text in numbers {
            let (sdk, rest) = text.split_once(' ').unwrap();
            let (wasi, bytes) = rest.split_once(") ").unwrap();
            parts.extend([sdk.to_owned(), wasi.to_owned(), bytes.to_owned()]);
        }
        assert_eq!(parts.len(), 150);
        assert_eq!(parts.iter().collect::<BTreeSet<_>>().len(), 150, "{mode}: {parts:?}");
    }
}
