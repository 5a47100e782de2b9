//! Guests that misbehave while they run, each in one way: their verdict, its blame, and the lag of the kill.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::hostile_components;
use crate::support::harness::{guest, run_guest, wasm_worker};

/// A guest, its flags, and what must come of it.
pub(crate) struct Row {
    pub(crate) guest: &'static str,
    pub(crate) flags: &'static [&'static str],
    pub(crate) code: &'static str,
    blame: &'static str,
    exit: i32,
    /// Part of the detail.
    detail: &'static str,
}

const fn row(
    guest: &'static str,
    flags: &'static [&'static str],
    code: &'static str,
    exit: i32,
    detail: &'static str,
) -> Row {
    Row { guest, flags, code, blame: "guest", exit, detail }
}

const UNRESPONSIVE: &[&str] = &["--unresponsive-timeout", "200ms", "--unresponsive-warning", "50ms"];
const DEADLINE: &[&str] = &["--max-duration", "300ms"];
const GRACE: &[&str] = &["--shutdown-grace", "200ms"];
const FUEL: &[&str] = &["--fuel-limit", "50M"];
const INIT: &[&str] = &["--init-timeout", "300ms"];

/// The default of `memory-limit`, in MiB; no guest gets more, whatever it does.
const MEMORY_MIB_MAX: u64 = 128;
/// Far past every limit of time in the corpus, loading included, on a slow machine that is busy with other tests.
const WALL_MAX: Duration = Duration::from_secs(300);

impl Row {
    /// Its own `memory-limit`, in bytes.
    fn memory_bytes_max(&self) -> u64 {
        let own = self.flags.iter().skip_while(|flag| **flag != "--memory-limit").nth(1);
        own.map_or(MEMORY_MIB_MAX, |size| size.strip_suffix("MiB").unwrap().parse().unwrap()) << 20
    }
}

pub(crate) const CORPUS: &[Row] = &[
    row("spin", UNRESPONSIVE, "unresponsive", 12, "at most 200ms is allowed"),
    row("log_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("print_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("recurse", &[], "trapped", 11, "call stack exhausted"),
    row("memory_bomb", &[], "memory-limit", 12, "at most 134217728 are allowed"),
    row("text_flood", &["--memory-limit", "16MiB"], "memory-limit", 12, "at most 16777216 are allowed"),
    row("unreachable", &[], "trapped", 11, "unreachable"),
    row("panic", &[], "trapped", 11, "panicked at tests/guests/panic.rs:11:9: no third word in [\"one\", \"two\"]"),
    row("divide", &[], "trapped", 11, "attempt to divide by zero"),
    row("divide_by_zero", &[], "trapped", 11, "integer divide by zero"),
    row("error", &[], "failed", 10, "invalid digit found in string"),
    row("exit_zero", &[], "completed", 0, "exited with status 0"),
    row("exit_seven", &[], "failed", 10, "exited with status 1; standard error: no model is left"),
    row("block", &[], "stalled", 10, "task `entrypoint`"),
    row("pending", &[], "stalled", 10, "task `entrypoint`"),
    row("stalled_tasks", &[], "stalled", 10, "task `reads`"),
    row("sleep", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("poll_loop", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("poll_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("timer_flood", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("timer_flood", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("newline_flood", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("fields_flood", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("usage_flood", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("attribute_mint", &["--memory-limit", "4MiB"], "memory-limit", 12, "at most 4194304 are allowed"),
    // It waits for no time at all, again and again, which is a sign of life.
    row("burn", &["--unresponsive-timeout", "100ms", "--max-duration", "500ms"], "deadline", 12, "longer than 500ms"),
    row("burn", &["--fuel-limit", "50M"], "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("slow_shutdown", GRACE, "shutdown-timeout", 14, "within its shutdown grace of 200ms"),
    row("shutdown_loop", GRACE, "shutdown-timeout", 14, "within its shutdown grace of 200ms"),
    row("shutdown_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("trap_in_shutdown", &[], "trapped", 11, "panicked at tests/guests/trap_in_shutdown.rs"),
    row("large_call", &[], "hostcall-limit", 12, "bytes in one host call"),
    row("random_flood", &[], "hostcall-limit", 12, "bytes of randomness in one call"),
    row("handle_leak", &[], "hostcall-limit", 12, "open handles"),
    row("prewarm_spin", INIT, "init-timeout", 13, "initialization timed out, killing it: it took longer than 300ms"),
    row("spin_decide", &[], "init-timeout", 13, "`decide` took longer than 1.5s"),
    row("panic_decide", &[], "init-failed", 13, "cannot decide on AJ_"),
    row("decide_outside", &[], "init-failed", 13, "out of bounds"),
    row("prewarm_error", &[], "init-failed", 13, "prewarm failed: the table is not there"),
    row("prewarm_panic", &[], "init-failed", 13, "the table is upside down"),
    row("prewarm_large", &[], "memory-limit", 12, "at most 134217728 are allowed"),
    row("start_loop", INIT, "init-timeout", 13, "initialization timed out"),
    row("start_trap", &[], "init-failed", 13, "unreachable"),
    row("prewarm_half", &[], "init-failed", 13, "unreachable"),
    row("realloc_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("realloc_loop_at_events", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("realloc_loop_at_events", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("realloc_outside", &[], "trapped", 11, "realloc return"),
    row("realloc_reenter", &[], "trapped", 11, "cannot leave component instance"),
    row("post_return_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("destructor_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("destructor_loop", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("destructor_left", &[], "completed", 0, "the agent finished"),
    row("destructor_left", &["--handle-limit", "50"], "hostcall-limit", 12, "open handles"),
    row("clock_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("grow_by_page", &[], "memory-limit", 12, "at most 134217728 are allowed"),
    row("table_grow", &[], "trapped", 11, "unreachable"),
    row("out_of_bounds", &[], "trapped", 11, "out of bounds memory access"),
    row("call_wrong_type", &[], "trapped", 11, "indirect call type mismatch"),
    row("call_null", &[], "trapped", 11, "uninitialized element"),
    row("call_outside", &[], "trapped", 11, "undefined element"),
    row("convert_nan", &[], "trapped", 11, "invalid conversion to integer"),
    row("overflow", &[], "trapped", 11, "integer overflow"),
    row("panic_twice", &[], "trapped", 11, ""),
    row("abort", &[], "trapped", 11, "unreachable"),
    row("error_empty", &[], "failed", 10, ""),
    row("error_huge", &[], "hostcall-limit", 12, "bytes in one host call"),
    row("error_outside", &[], "trapped", 11, "out of bounds"),
    row("result_outside", &[], "init-failed", 13, "out of bounds"),
    row("result_neither", &[], "trapped", 11, "discriminant"),
    row("poll_many", &[], "hostcall-limit", 12, "bytes in one host call"),
    row("poll_nothing", &[], "trapped", 11, "empty"),
    row("log_huge", &[], "hostcall-limit", 12, "bytes in one host call"),
    row("log_not_text", &[], "trapped", 11, "utf-8"),
    row("log_no_level", &[], "trapped", 11, "unexpected discriminant: 77"),
    row("handle_dropped", &[], "trapped", 11, "unknown handle"),
    row("handle_dropped_twice", &[], "trapped", 11, "unknown handle"),
    row("handle_forged", &[], "trapped", 11, "unknown handle"),
    row("handle_wrong_kind", &[], "trapped", 11, "handle"),
    row("long_wait", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("wait", &[], "stalled", 10, "no timer"),
    row("listener", &[], "stalled", 10, "task `entrypoint`"),
    row("fill_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("copy_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("table_fill_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("fill_loop", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("table_fill_loop", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("tail_call_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("tail_call_loop", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("tiny_functions", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("long_block", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("stdout_no_newline", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("write_too_much", &[], "trapped", 11, "check-write"),
    row("zeroes_huge", &[], "trapped", 11, ""),
    row("options_overlap", &[], "completed", 0, ""),
    row("list_bomb", &[], "hostcall-limit", 12, "bytes in one host call"),
    // What the contract of steps makes possible.
    row("events_unread", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("wake_loop", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("call_flood", &[], "limit-calls", 12, "in one step"),
    row("call_bytes", &[], "limit-calls", 12, "in one step"),
    row("ids_unknown", &[], "completed", 0, ""),
    row("ids_left_open", DEADLINE, "deadline", 12, "longer than 300ms"),
    row("write_each_step", &["--memory-limit", "8MiB"], "memory-limit", 12, "at most 8388608 are allowed"),
    row("finish_twice", &[], "completed", 0, ""),
    row("finish_worse", &[], "failed", 10, "the first end counts"),
    row("finish_loop", UNRESPONSIVE, "unresponsive", 12, "job is unresponsive, killing it"),
    row("finish_loop", FUEL, "out-of-fuel", 12, "used up 50000000 units of fuel"),
    row("finish_trap", &[], "trapped", 11, "unreachable"),
    row("finish_wake", &[], "completed", 0, ""),
    row("grow_each_step", &[], "memory-limit", 12, "at most 134217728 are allowed"),
    row("block_in_step", &[], "trapped", 11, "the agent waited in `wasi:io/poll`"),
    row("poll_in_step", &[], "trapped", 11, "the agent waited in `wasi:io/poll`"),
    row("thread_sleep", &[], "trapped", 11, "the agent waited in `wasi:io/poll`"),
    row("handles_kept", &[], "completed", 0, ""),
    row("handle_each_step", &[], "hostcall-limit", 12, "open handles"),
    row("tasks_bomb", &[], "hostcall-limit", 12, "bytes in one host call"),
    row("random_huge", &[], "hostcall-limit", 12, "bytes of randomness in one call"),
    row("shutdown_flood", GRACE, "shutdown-timeout", 14, "within its shutdown grace of 200ms"),
];

#[test]
fn every_hostile_guest_gets_its_verdict() {
    // Built before anything is timed.
    guest("spin");
    let mut wrong = Vec::new();
    println!("{:<20} {:<16} {:<16} {:<7} {:>9} {:>10}", "guest", "expected", "found", "blame", "kill lag", "peak");
    for row in CORPUS {
        let began = Instant::now();
        let done = run_guest(row.guest, row.flags.iter().copied().chain(["--log-level", "off"])).done();
        let took = began.elapsed();
        let record = done.record();
        let verdict = &record["verdict"];
        let (line, peak_bytes) = line(row.guest, row.code, &record);
        println!("{line}");
        let right = verdict["code"] == row.code
            && verdict["blame"] == row.blame
            && done.exit == row.exit
            && verdict["detail"].as_str().unwrap_or_default().contains(row.detail)
            && peak_bytes <= row.memory_bytes_max()
            && took <= WALL_MAX;
        if !right {
            wrong.push(format!("{}: exit {} after {took:?} with {verdict}", row.guest, done.exit));
        }
    }
    for row in hostile_components::corpus() {
        let began = Instant::now();
        let run = ["run", row.file.to_str().unwrap(), "--job", "--log-level", "off"];
        let done = wasm_worker(run).args(row.flags.iter().copied()).done();
        let took = began.elapsed();
        let name = row.file.file_stem().unwrap().to_str().unwrap();
        let found = (!done.stdout.is_empty()).then(|| done.code());
        let (said, peak_bytes) = match (&found, row.code) {
            (Some(_), Some(code)) => {
                let record = done.record();
                let (line, peak_bytes) = line(name, code, &record);
                println!("{line}");
                (record["verdict"].to_string(), peak_bytes)
            }
            (found, expected) => {
                let [expected, found] = [expected, found.as_deref()].map(|code| code.unwrap_or("not loaded"));
                println!("{name:<20} {expected:<16} {found:<16} {:<7} {:>9} {:>10}", "guest", "-", "-");
                (done.stderr.clone(), 0)
            }
        };
        let right = done.exit == row.exit
            && found.as_deref() == row.code
            && row.says.iter().all(|part| said.contains(part))
            && !done.stderr.contains("panicked at")
            && peak_bytes <= MEMORY_MIB_MAX << 20;
        if !right || took > WALL_MAX {
            wrong.push(format!("{name}: exit {} after {took:?} with {}{}", done.exit, done.stdout, done.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A line of the table; its peak in bytes, which only a job has.
fn line(guest: &str, expected: &str, record: &Value) -> (String, u64) {
    let verdict = &record["verdict"];
    let text = |name: &str| verdict[name].as_str().unwrap_or_default().to_owned();
    let lag = verdict["kill_lag_us"].as_u64().map_or_else(|| "-".into(), |micros| format!("{micros} µs"));
    let peak_bytes = record["usage"]["memory_peak_bytes"].as_u64();
    let peak = peak_bytes.map_or_else(|| "-".into(), |bytes| format!("{} KiB", bytes >> 10));
    let line = format!("{guest:<20} {expected:<16} {:<16} {:<7} {lag:>9} {peak:>10}", text("code"), text("blame"));
    (line, peak_bytes.unwrap_or(0))
}

#[test]
fn trap_has_a_backtrace_of_function_names() {
    let record = run_guest("recurse", []).done().record();
    let backtrace = record["verdict"]["backtrace"].as_array().unwrap();
    assert_eq!(backtrace[0], "recurse::deeper");
    assert!(backtrace.len() > 10);
    assert_eq!(record["verdict"]["trap"], "stack-overflow");
}

#[test]
fn kill_has_a_backtrace_of_the_guest_that_runs() {
    let record = run_guest("spin", DEADLINE.iter().copied()).done().record();
    let backtrace = record["verdict"]["backtrace"].to_string();
    assert!(backtrace.contains("resume"), "{backtrace}");
    // One that waits is nowhere.
    let record = run_guest("sleep", DEADLINE.iter().copied()).done().record();
    assert_eq!(record["verdict"]["code"], "deadline");
    assert_eq!(record["verdict"]["backtrace"].as_array().map_or(0, Vec::len), 0, "{record}");
}

#[test]
fn verdict_names_the_party_that_ended_the_job() {
    let terminate = r#"{"inbox": [{"after_ms": 20, "event": {"terminate": {"reason": "room is closing"}}}]}"#;
    let done = run_guest("obedient", ["--spec", "-"]).stdin(terminate).done();
    assert_eq!((done.code().as_str(), done.exit), ("terminated", 0));
    assert_eq!(done.record()["verdict"]["blame"], "dispatcher");
    assert_eq!(done.texts()["end"], ["room is closing"]);

    let done = run_guest("ignore_stop", ["--spec", "-", "--shutdown-grace", "100ms"]).stdin(terminate).done();
    assert_eq!((done.code().as_str(), done.exit), ("shutdown-timeout", 14));

    let kill = r#"{"inbox": [{"after_ms": 20, "event": {"kill": {}}}]}"#;
    let done = run_guest("sleep", ["--spec", "-"]).stdin(kill).done();
    assert_eq!((done.code().as_str(), done.exit), ("killed", 14));
    assert_eq!(done.record()["verdict"]["blame"], "operator");
    assert_eq!(done.record()["verdict"]["retry"], true);
}

#[test]
fn agent_that_ignores_the_stop_request_still_runs_its_shutdown_callbacks() {
    let terminate = r#"{"inbox": [{"after_ms": 20, "event": {"terminate": {"reason": "room is closing"}}}]}"#;
    // The last one waits for no time at all, in a loop.
    let started = ["sleep", "block", "burn"]
        .map(|guest| run_guest(guest, ["--spec", "-", "--shutdown-grace", "20s"]).stdin(terminate).start());
    for job in started {
        let done = job.done();
        assert_eq!(done.code(), "terminated", "{}", done.stderr);
        assert!(done.stderr.contains("the entrypoint did not end after the request to stop"), "{}", done.stderr);
    }
}

#[test]
fn failed_decide_refuses_the_offer() {
    let done = run_guest("reject", []).done();
    let record = done.record();
    assert_eq!((done.exit, &record["refused"], &record["terminate"]), (4, &"rejected".into(), &true.into()));
    assert_eq!(record["detail"], "never in the mood");

    let done = run_guest("spin_decide", []).done();
    let record = done.record();
    assert_eq!((done.exit, record["refused"].as_str()), (13, Some("decide-failed")));
    assert_eq!(record["detail"], "init-timeout: `decide` took longer than 1.5s");
    assert_eq!(record["verdict"]["backtrace"][0], "decide");

    let done = run_guest("decide_outside", []).done();
    let record = done.record();
    assert_eq!((done.exit, record["refused"].as_str()), (13, Some("decide-failed")));
    assert_eq!(record["verdict"]["blame"], "guest");

    let done = run_guest("long_name", []).done();
    let record = done.record();
    assert_eq!((done.exit, record["refused"].as_str()), (4, Some("decide-failed")), "{record}");
    assert_eq!(record["detail"], "the agent wants an identity of 1000 bytes; at most 256 are allowed");

    let done = run_guest("verbose", []).done();
    let record = done.record();
    assert_eq!((done.exit, record["refused"].as_str()), (4, Some("decide-failed")), "{record}");
    let detail =
        "the agent wants identity, name, metadata and attributes of 300000 bytes together; at most 65536 are allowed";
    assert_eq!(record["detail"], detail);

    let done = run_guest("panic_decide", []).done();
    let record = done.record();
    assert!(record["detail"].as_str().unwrap().contains("cannot decide on AJ_"), "{record}");
    assert_eq!((done.exit, &record["verdict"]["blame"]), (13, &"guest".into()));
}
