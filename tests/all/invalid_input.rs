//! Invalid agents, settings, arguments and job descriptions get a clear error and the right exit status.

use std::path::Path;

use crate::support::harness::{Done, guest, run_guest, wasm_worker};
use crate::support::skip_for_the_system;

fn run_file(dir: &Path, name: &str, bytes: &[u8]) -> Done {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    wasm_worker(["run", path.to_str().unwrap(), "--job"]).done()
}

#[test]
fn invalid_agent_file_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = wasm_worker(["run", "nothing-here.wasm", "--job"]).done();
    missing.fails_with(
        3,
        &["the agent `nothing-here.wasm` cannot be read", "No such file", "hint: an agent is a `.wasm`"],
    );

    let broken = run_file(dir.path(), "broken.wasm", b"\0asm\x0d\0\x01\0\xff\xff");
    broken.fails_with(
        3,
        &["agent `broken` is not a component that can run here", "hint: the file may be truncated, or use features"],
    );
    assert!(!broken.stderr.contains("no snapshot"), "{}", broken.stderr);

    let text = run_file(dir.path(), "text.wasm", b"hello");
    text.fails_with(3, &["agent `text` is not a WebAssembly component: it does not begin with `\\0asm`"]);
    run_file(dir.path(), "empty.wasm", b"").fails_with(3, &["is not a WebAssembly component: it is empty"]);
    run_file(dir.path(), "short.wasm", b"\0asm\x0d").fails_with(3, &["it ends within its first 8 bytes"]);

    let module = run_file(dir.path(), "module.wasm", b"\0asm\x01\0\0\0");
    module.fails_with(
        3,
        &["it is a core module; want a component", "hint: `wasm-worker build DIR`", "wasm-tools component new"],
    );

    let wat = run_file(dir.path(), "broken.wat", b"(component (core module (func))");
    wat.fails_with(3, &["agent `broken` is not WebAssembly text", "expected"]);

    let whole = std::fs::read(guest("randomness")).unwrap();
    for cut in [8, 100, whole.len() / 2, whole.len() - 1] {
        let done = run_file(dir.path(), "cut.wasm", &whole[..cut]);
        done.fails_with(3, &["agent `cut` "]);
    }
}

#[test]
fn component_for_another_world_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = run_file(dir.path(), "other.wat", b"(component)");
    other.fails_with(
        3,
        &[
            "agent `other` does not implement `wasm-worker:agent`",
            "it exports no `prewarm`, no `decide`, no `resume`",
            "hint: an agent exports",
        ],
    );

    let greedy = br#"(component
        (import "wasi:http/types@0.2.6" (instance))
        (import "golem:api/host@1.1.0" (instance))
        (import "wasi:filesystem/types@0.2.6" (instance))
        (import "wasi:clocks/wall-clock@0.2.6" (instance)))"#;
    let greedy = run_file(dir.path(), "greedy.wat", greedy);
    greedy.fails_with(
        3,
        &[
            // All at once, and no more.
            "it exports no `prewarm`, ",
            "; it imports interfaces that agents may not import: wasi:http/types@0.2.6, golem:api/host@1.1.0\n",
            "`-d http fetch-event`",
            "agents import what guest-sdk/wit lists",
            "an agent exports `prewarm`, ",
        ],
    );
    let later = br#"(component
        (import "wasi:cli/stdout@0.3.0" (instance))
        (core func (canon task.cancel)))"#;
    run_file(dir.path(), "later.wat", later).fails_with(3, &["the asynchronous functions of WASI 0.3", "`--sync`"]);

    let wrong_type = br#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (export "prewarm" (func $f)) (export "decide" (func $f))
        (export "resume" (func $f)))"#;
    run_file(dir.path(), "types.wat", wrong_type).fails_with(3, &["does not implement", "decide"]);
}

#[test]
fn invalid_settings_are_all_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "unresponsive = \"1s\"\nmemory-limit = \"lots\"\nlog-rate = 0\n").unwrap();
    let config = ["--config", file.to_str().unwrap(), "--init-timeout", "10"];
    run_guest("randomness", config).env("WASM_WORKER_HANDLE_LIMIT", "-1").done().fails_with(
        2,
        &[
            "the configuration has 5 faults",
            "`unresponsive` (",
            "no such setting; the settings are `init-timeout`",
            "`memory-limit`",
            "`lots` is not usable: want a size above zero, such as 512KiB or 128MiB",
            "`log-rate`",
            "`init-timeout` (command line): `10` is not usable: want a time above zero with its unit",
            "`handle-limit` (WASM_WORKER_HANDLE_LIMIT): `-1` is not usable",
        ],
    );

    std::fs::write(&file, "not toml").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    run_guest("randomness", config).done().fails_with(2, &["`config`", "not TOML", "line 1"]);
    run_guest("randomness", ["--config", "nowhere.toml"]).done().fails_with(2, &["nowhere.toml", "cannot be read"]);
}

#[test]
fn invalid_job_description_is_refused() {
    for (text, why) in [
        ("", "EOF while parsing"),
        ("{\"room\": 7}", "invalid type: integer `7`, expected a string at line 1 column 10"),
        ("{\"rom\": \"x\"}", "unknown field `rom`, expected one of `room`"),
        ("{\"inbox\": [{\"event\": {\"shout\": {}}}]}", "unknown variant `shout`"),
        ("[]", "want a JSON object"),
        ("{}x", "trailing characters"),
    ] {
        let done = run_guest("randomness", ["--spec", "-"]).stdin(text).done();
        done.fails_with(2, &["the job description `-` is not valid", why, "hint: for example"]);
        assert_eq!(done.stdout, "");
    }
    let large = format!("{{\"metadata\": \"{}\"}}", "x".repeat(5 << 20));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large.json");
    std::fs::write(&file, large).unwrap();
    let spec = ["--spec", file.to_str().unwrap()];
    run_guest("randomness", spec).done().fails_with(2, &["want at most 4194304 bytes"]);
    run_guest("randomness", ["--spec", "none.json"]).done().fails_with(2, &["`none.json` cannot be read"]);
}

#[test]
fn contradicting_flags_are_usage_errors() {
    let usage = |args: &[&str], part: &str| run_guest("randomness", args.iter().copied()).done().fails_with(2, &[part]);
    usage(&["--spec", "-", "--room", "x"], "cannot be used with");
    usage(&["--count", "0"], "0 is not in 1..");
    usage(&["--attribute", "novalue"], "want NAME=VALUE");
    usage(&["--concurrency", "100000"], "100000 is not in 1..=20000");
    usage(&["--no-such-flag"], "unexpected argument");
    let agent = guest("randomness");
    wasm_worker(["run", agent.to_str().unwrap(), "--count", "2"]).done().fails_with(2, &["--job"]);
    wasm_worker(["rnu"]).done().fails_with(2, &["unrecognized subcommand 'rnu'", "similar", "'run'"]);
    wasm_worker(["explain", "exploded"]).done().fails_with(2, &["exploded", "completed"]);
}

#[test]
fn agent_larger_than_its_memory_limit_ends_with_that_code() {
    let done = run_guest("randomness", ["--memory-limit", "64KiB"]).done();
    assert_eq!((done.exit, done.code().as_str()), (12, "memory-limit"));
    done.fails_with(12, &["at most 65536 are allowed", "hint: compare with the `memory_peak_bytes`"]);
}

#[test]
fn unusable_event_file_is_an_error() {
    let done = run_guest("randomness", ["--events", "/nowhere/events.jsonl"]).done();
    done.fails_with(2, &["the event file `/nowhere/events.jsonl` cannot be opened", "caused by: No such file"]);
    assert_eq!(done.stdout, "");
}

#[test]
fn closed_standard_output_is_an_error_and_no_panic() {
    let mut started = run_guest("randomness", ["--count", "2000", "--concurrency", "8"]).start();
    started.hang_up();
    let done = started.done();
    done.fails_with(1, &["Broken pipe"]);
}

#[test]
fn concurrency_beyond_the_kernel_s_memory_mappings_is_refused_at_the_start() {
    let limit: u32 = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    if limit > 100_000 {
        return skip_for_the_system(
            "concurrency_beyond_the_kernel_s_memory_mappings_is_refused_at_the_start",
            &format!("a vm.max_map_count of {limit} is enough for as many jobs as there are slots"),
        );
    }
    let done = run_guest("minimal", ["--count", "19000", "--concurrency", "19000"]).done();
    let told = format!("and the kernel allows {limit} for a process; at most ");
    done.fails_with(2, &["instances at once take about", &told, "hint: `sysctl -w vm.max_map_count="]);
    assert_eq!(done.stdout, "");
    // As many instances fit as take the least; of this one, whose memory is not from a snapshot, each takes more.
    let some = (limit / 5).to_string();
    let done = run_guest("prewarm_print", ["--count", &some, "--concurrency", &some]).done();
    done.fails_with(2, &["agent `prewarm_print` needs too many memory mappings", &told, "hint: `sysctl -w vm.max_map"]);
    assert_eq!(done.stdout, "");
}
