//! What a loaded component may be and have: closed files and network, several memories; and what is said of one that fails.

use std::fmt::Write;

use serde_json::Value;

use crate::hostile_components::larger_minimal;
use crate::support::harness::{Done, guest, kept_file, path, run_guest, wasm_worker};

fn inspect(agent: &std::path::Path) -> (Value, Done) {
    let done = wasm_worker(["inspect", path(agent), "--json"]).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    (serde_json::from_str(&done.stdout).unwrap(), done)
}

#[test]
fn files_and_network_of_a_guest_are_closed() {
    let done = run_guest("closed", []).done();
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    let texts = done.texts();
    for tried in ["open", "create", "list", "connect", "listen", "datagram", "look-up"] {
        assert!(!texts[tried][0].starts_with("got"), "{tried}: {texts:?}");
    }
    for refused in ["connect", "listen", "datagram"] {
        assert_eq!(texts[refused], ["PermissionDenied"], "{refused}");
    }
}

#[test]
fn names_of_a_component_are_checked_before_anything_is_compiled() {
    // A function that takes more memory to compile than there is.
    let mut large =
        String::from("(component (import \"wasi:http/types@0.2.0\" (instance)) (core module (func (local i32)\n");
    for at in 0..200_000 {
        writeln!(large, "(block (br_if 0 (i32.eqz (local.get 0))) (local.set 0 (i32.const {at})))").unwrap();
    }
    large.push_str(")))");
    let file = kept_file("large.wasm", &wat::parse_str(large).unwrap());
    let done = wasm_worker(["run", path(&file), "--job", "--compile-memory", "64MiB"]).done();
    done.fails_with(3, &["it exports no `prewarm`", "may not import: wasi:http/types@0.2.0"]);
}

#[test]
fn trap_without_a_report_has_the_last_lines_of_standard_error() {
    let done = run_guest("last_words", []).done();
    let detail = done.record()["verdict"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("; standard error: panic: the table is upside down | goroutine 1 [running]:"), "{detail}");
    assert!(detail.contains("unreachable"), "{detail}");
    // A panic that was reported needs no more words.
    let panicked = run_guest("panic", []).done();
    assert!(!panicked.record()["verdict"]["detail"].as_str().unwrap().contains("standard error"));
}

#[test]
fn agent_that_does_not_start_shows_its_backtrace_and_its_last_lines() {
    run_guest("prewarm_last_words", []).done().fails_with(
        13,
        &[
            "init-failed: ",
            "; standard error: Traceback (most recent call last): | ModuleNotFoundError: no module named tables",
            "  in       ",
            "load_tables",
            "hint: ",
        ],
    );
}

#[test]
fn random_numbers_of_prewarm_draw_a_warning() {
    const WARNING: &str = "random numbers drawn in prewarm are the same in every job; seed in the job";
    let dir = tempfile::tempdir().unwrap();
    for from_cache in [false, true] {
        let done = run_guest("prewarm_random", ["--count", "2"]).env("WASM_WORKER_CACHE_DIR", dir.path()).done();
        assert!(done.stderr.contains(WARNING), "{from_cache}: {}", done.stderr);
        let drawn: Vec<Value> =
            done.lines().iter().map(|record| record["activity"]["texts"][0]["text"].clone()).collect();
        assert_eq!(drawn[0], drawn[1]);
    }
    let pool = run_guest("prewarm_random", ["--prewarm", "pool"]).done();
    assert!(pool.stderr.contains(WARNING), "{}", pool.stderr);
    let agent = guest("prewarm_random");
    assert_eq!(inspect(&agent).0["prewarm_random"], true);
    let text = wasm_worker(["inspect", path(&agent)]).done().stdout;
    assert!(text.contains(WARNING) && text.contains("language   rust"), "{text}");
    // The numbers of the SDK, and the seeds of hash maps, are no such numbers.
    let (report, done) = inspect(&guest("randomness"));
    assert_eq!(report["prewarm_random"], false);
    assert!(!done.stderr.contains(WARNING));
}

#[test]
fn instance_of_three_memories_takes_one_slot() {
    let more =
        "(core module $empty (memory 0)) (core instance (instantiate $empty)) (core instance (instantiate $empty))";
    let agent = kept_file("three_memories.wat", larger_minimal(more).as_bytes());
    let (report, _) = inspect(&agent);
    assert_eq!((&report["memories"], &report["slots"], &report["jobs_max"]), (&3.into(), &1.into(), &1_000.into()));
    let done = wasm_worker(["run", path(&agent), "--job", "--count", "200", "--concurrency", "50"]).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    assert_eq!(done.lines().len(), 200);

    // A fourth one takes a second slot, and the log says what that means.
    let agent = kept_file(
        "four_memories.wat",
        larger_minimal(&format!("{more} (core instance (instantiate $empty))")).as_bytes(),
    );
    let (report, _) = inspect(&agent);
    assert_eq!((&report["slots"], &report["jobs_max"]), (&2.into(), &502.into()));
    let done = wasm_worker(["run", path(&agent), "--job"]).done();
    assert!(done.stderr.contains("each job takes several slots of the pool"), "{}", done.stderr);
}
