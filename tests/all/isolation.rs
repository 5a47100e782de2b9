//! Isolation of jobs: a reused slot holds nothing of the job before.

use crate::support::harness::run_guest;

#[test]
fn slot_holds_nothing_of_the_job_before() {
    for mode in ["snapshot", "pool"] {
        let done = run_guest("residue", ["--count", "300", "--concurrency", "3", "--prewarm", mode]).done();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        let lines = done.lines();
        assert_eq!(lines.len(), 300);
        assert!(lines.iter().all(|record| record["activity"]["texts"][0]["text"] == "0"), "{mode}: {}", done.stdout);
    }
}

#[test]
fn slot_is_released_by_every_kind_of_end() {
    // Far more jobs than slots, each ended by a different hand.
    for (guest, flags) in [
        ("panic", [].as_slice()),
        ("memory_bomb", &["--memory-limit", "4MiB"]),
        ("sleep", &["--max-duration", "5ms"]),
        ("pending", &[]),
        ("call_flood", &[]),
        ("finish_trap", &[]),
        ("thread_sleep", &[]),
        ("spin", &["--unresponsive-timeout", "5ms"]),
        ("reject", &[]),
        ("panic_decide", &[]),
    ] {
        let many = ["--count", "60", "--concurrency", "2", "--log-level", "off"];
        let done = run_guest(guest, many.into_iter().chain(flags.iter().copied())).done();
        assert_eq!(done.lines().len(), 60, "{guest}: {}", done.stderr);
        assert!(!done.stderr.contains("no room"), "{guest}: {}", done.stderr);
    }
}
