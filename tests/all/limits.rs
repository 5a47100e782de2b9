//! The limits of a job: precision, sources and warnings.

use std::time::Duration;

use crate::support::harness::{guest, run_guest, wasm_worker};

#[test]
fn endless_loop_is_killed_soon_after_its_limit() {
    for guest in ["spin", "destructor_loop"] {
        let done = run_guest(guest, ["--unresponsive-timeout", "100ms"]).done();
        let usage = &done.record()["usage"];
        assert_eq!(done.code(), "unresponsive");
        // Run time, not wall time. How soon after its limit is for the machine to say: the epochs are counted by a thread that
        // wants a core too.
        let cpu = Duration::from_micros(usage["cpu_us"].as_u64().unwrap());
        assert!(cpu >= Duration::from_millis(100) && cpu < Duration::from_secs(10), "{guest}: {cpu:?}");
        println!("{guest}: killed after {cpu:?} of 100 ms");
    }
}

#[test]
fn waiting_does_not_count_as_running() {
    let done = run_guest("sleep", ["--unresponsive-timeout", "500ms", "--max-duration", "3s"]).done();
    assert_eq!(done.code(), "deadline");
    let usage = &done.record()["usage"];
    let (waited, cpu) = (usage["wait_us"].as_u64().unwrap(), usage["cpu_us"].as_u64().unwrap());
    assert!(waited > 500_000 && cpu < 500_000, "{usage}");
}

#[test]
fn smaller_stack_overflows_sooner() {
    let fuel = |stack: &str| {
        let done = run_guest("recurse", ["--stack-limit", stack]).done();
        assert_eq!(done.record()["verdict"]["trap"], "stack-overflow");
        done.record()["usage"]["fuel"].as_u64().unwrap()
    };
    let (small, large) = (fuel("64KiB"), fuel("512KiB"));
    assert!(large > small * 4, "{small} and {large}");
}

#[test]
fn equal_work_uses_equal_fuel() {
    let args = ["--count", "200", "--concurrency", "16", "--spec", "-"];
    let stop = r#"{"inbox": [{"event": {"terminate": {"reason": "enough"}}}]}"#;
    let done = run_guest("obedient", args).stdin(stop).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let fuel: Vec<u64> = done.lines().iter().map(|record| record["usage"]["fuel"].as_u64().unwrap()).collect();
    assert_eq!(fuel.len(), 200);
    assert!(fuel.iter().all(|of_job| *of_job == fuel[0] && *of_job > 0), "{fuel:?}");
}

#[test]
fn guest_is_warned_before_its_budgets_are_used_up() {
    let events = tempfile::NamedTempFile::new().unwrap();
    let file = events.path().to_str().unwrap();
    let done = run_guest("budget", ["--fuel-limit", "1G", "--memory-limit", "16MiB", "--events", file]);
    let done = done.args(["--unresponsive-warning", "10s"]).done();
    assert_eq!(done.code(), "completed");
    assert_eq!(done.texts()["warning"], ["memory", "fuel"]);
    let written = std::fs::read_to_string(file).unwrap();
    assert_eq!(written.matches("\"job.warning\"").count(), 2, "{written}");

    let done = run_guest("sleep", ["--max-duration", "200ms", "--events", "-"]).done();
    assert!(done.stdout.contains(r#""event":"job.warning""#) && done.stdout.contains(r#""about":"time""#));
}

#[test]
fn operator_is_warned_of_a_guest_that_does_not_yield() {
    let done = run_guest("spin", ["--unresponsive-timeout", "2s", "--unresponsive-warning", "50ms"]).done();
    let warnings = done.stderr.matches("about=\"unresponsive\"").count();
    assert_eq!(warnings, 1, "{}", done.stderr);
    assert!(done.stderr.contains("job is unresponsive, killing it"));
}

#[test]
fn log_lines_over_the_rate_are_dropped_and_counted() {
    let done = run_guest("log_loop", ["--log-rate", "5", "--unresponsive-timeout", "200ms"]).done();
    let usage = &done.record()["usage"];
    let (written, dropped) = (usage["log_lines"].as_u64().unwrap(), usage["log_dropped"].as_u64().unwrap());
    // The burst, and five more in each second that it took.
    let most = 5 + 5 * (1 + usage["wall_us"].as_u64().unwrap() / 1_000_000);
    assert!((5..=most).contains(&written) && dropped > 0, "{usage}");
    assert_eq!(usage["hostcalls"]["log"]["calls"].as_u64().unwrap(), written + dropped);
    assert_eq!(done.stderr.matches(" agent: line ").count() as u64, written);
}

#[test]
fn log_lines_below_the_level_use_no_rate() {
    let flags = ["--log-level", "error", "--log-rate", "5", "--unresponsive-timeout", "200ms"];
    let done = run_guest("log_loop", flags).done();
    let usage = &done.record()["usage"];
    assert_eq!((&usage["log_lines"], &usage["log_dropped"]), (&0.into(), &0.into()));
    // More than the rate leaves through at once.
    assert!(usage["hostcalls"]["log"]["calls"].as_u64().unwrap() > 5);
}

#[test]
fn unread_messages_of_a_room_are_dropped_and_do_not_kill_the_agent() {
    let say = |bytes| format!(r#"{{"event": {{"text": {{"sender": "ann", "text": "{}"}}}}}}"#, "x".repeat(bytes));
    let stop = r#"{"after_ms": 2000, "event": {"terminate": {"reason": "enough"}}}"#;
    // Before the agent is in the room the host keeps them, as many as there may be, and later the SDK.
    let spec = |count, bytes, metadata: &str| {
        format!(r#"{{"metadata": "{metadata}", "inbox": [{}, {stop}]}}"#, vec![say(bytes); count].join(", "))
    };
    let flags = ["--inbox-limit", "4", "--memory-limit", "3MiB"];
    let late = run_guest("steps", ["--spec", "-"].into_iter().chain(flags)).stdin(&spec(60, 60_000, "lost")).done();
    assert_eq!(late.record()["usage"]["inbox_dropped"], 56, "{}", late.stderr);
    let done = run_guest("obedient", ["--spec", "-", "--memory-limit", "4MiB"]).stdin(&spec(5_000, 640, "")).done();
    assert_eq!(done.code(), "terminated", "{}", done.stderr);
}

#[test]
fn repeated_attribute_is_charged_once() {
    let done = run_guest("attributes", []).done();
    assert_eq!(done.texts()["grown"], ["0"]);
    assert_eq!(done.record()["activity"]["attributes"], serde_json::json!({}));
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("worker.toml");
    std::fs::write(&file, "fuel-limit = \"1k\"\nmax-duration = \"7s\"\nhandle-limit = 77\n").unwrap();
    let agent = guest("obedient");
    let args = ["inspect", agent.to_str().unwrap(), "--json", "--config", file.to_str().unwrap()];
    let done = wasm_worker(args.into_iter().chain(["--fuel-limit", "5G"]))
        .env("WASM_WORKER_FUEL_LIMIT", "2k")
        .env("WASM_WORKER_MAX_DURATION", "8s")
        .done();
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let limits = &report["limits"];
    assert_eq!(limits["fuel_limit"], 5_000_000_000_u64);
    assert_eq!(limits["max_duration_ms"], 8_000);
    assert_eq!(limits["handle_limit"], 77);
    assert_eq!(limits["unresponsive_timeout_ms"], 10_000);
}
