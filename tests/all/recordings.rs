//! Recordings of jobs, and their replays in another process: same calls, same fuel, same end, or the first difference.

mod conversations;
mod networks;
mod sound;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::conversations::{Talk, count, replays};
use crate::support::harness::{Call, Done, guest, path, run_guest, target_dir, wasm_worker};
use crate::support::interpreters::agent_in;
use crate::support::toolchains::Language;

/// A cache of these tests alone: a cache keeps a bounded number of agents, and a recording needs the agent that it was made with.
fn with_own_cache(call: Call) -> Call {
    call.env("WASM_WORKER_CACHE_DIR", target_dir().join("test-recordings-cache"))
}

/// The recordings of a directory, by name.
fn recordings(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|file| file.extension().is_some_and(|end| end == "recording")).collect();
    files.sort();
    files
}

/// The one recording of a job, made with these flags, and the job.
#[track_caller]
fn recorded(name: &str, spec: &Value, flags: &[&str]) -> (TempDir, PathBuf, Done) {
    recorded_agent(&guest(name), spec, flags)
}

/// The same of an agent that is no guest of the tests.
#[track_caller]
fn recorded_agent(agent: &Path, spec: &Value, flags: &[&str]) -> (TempDir, PathBuf, Done) {
    let dir = tempfile::tempdir().unwrap();
    let args = ["run", path(agent), "--job", "--spec", "-", "--record", path(dir.path())];
    let call = wasm_worker(args).args(flags.iter().copied());
    let done = with_own_cache(call).stdin(&spec.to_string()).done();
    let [file] = &recordings(dir.path())[..] else { panic!("{}{}", done.stdout, done.stderr) };
    let file = file.clone();
    (dir, file, done)
}

fn replay(file: &Path, flags: &[&str]) -> Done {
    with_own_cache(wasm_worker(["replay", path(file)])).args(flags.iter().copied()).done()
}

#[track_caller]
fn is_same(file: &Path) -> Value {
    let done = replay(file, &["--json"]);
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    let result = done.lines().pop().unwrap();
    assert_eq!((&result["record"], &result["same"]), (&"replay".into(), &true.into()), "{result}");
    assert_eq!(result["fuel"], result["recorded_fuel"], "{result}");
    result
}

fn chat() -> Value {
    let text = |text: &str| json!({"after_ms": 20, "event": {"text": {"sender": "ann", "text": text}}});
    json!({
        "metadata": "a word of the dispatcher",
        "participants": [{"identity": "ann"}],
        "inbox": [text("what is your name"), text("and whose is this"), text("good bye then")]
    })
}

#[test]
fn recorded_job_is_replayed_in_another_process_with_the_same_calls_and_fuel() {
    let (_dir, file, done) = recorded("converse", &chat(), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let record = done.record();
    assert_eq!(file.file_stem().unwrap().to_str(), record["job"].as_str());
    let result = is_same(&file);
    assert_eq!(result["fuel"], record["usage"]["fuel"], "{result}");
    let text = replay(&file, &[]).stdout;
    assert!(text.starts_with("✔ same: ") && text.contains("verdict  ✔ completed"), "{text}");
    // The directory is the user's own too.
    let made = file.parent().unwrap().join("made");
    assert_eq!(run_guest("converse", ["--record", path(&made)]).done().code(), "stalled");
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn job_that_did_not_end_well_replays_to_the_same_end() {
    for (guest, flags, code) in [
        ("divide", vec![], "trapped"),
        ("panic", vec![], "trapped"),
        ("recurse", vec![], "trapped"),
        ("exit_seven", vec![], "failed"),
        ("error", vec![], "failed"),
        ("memory_bomb", vec![], "memory-limit"),
        ("spin", vec!["--fuel-limit", "20M"], "out-of-fuel"),
        ("spin", vec!["--unresponsive-timeout", "100ms"], "unresponsive"),
        ("burn", vec!["--max-duration", "200ms"], "deadline"),
        ("large_call", vec![], "hostcall-limit"),
        ("budget", vec!["--fuel-limit", "50M", "--memory-limit", "16MiB"], "completed"),
    ] {
        let (_dir, file, done) = recorded(guest, &json!({}), &flags);
        let record = done.record();
        assert_eq!(done.code(), code, "{guest}: {}", done.stderr);
        let result = replay(&file, &["--json"]);
        assert_eq!(result.exit, 0, "{guest} {code}: {}{}", result.stdout, result.stderr);
        let result = result.lines().pop().unwrap();
        let frames = record["verdict"]["backtrace"].as_array().cloned().unwrap_or_default();
        if code == "trapped" {
            assert_eq!(result["end"]["backtrace"], Value::Array(frames), "{guest}: {result}");
        }
        let text = replay(&file, &[]).stdout;
        assert!(text.contains(&format!("{code}: ")), "{guest}: {text}");
    }
}

#[test]
fn job_that_is_killed_while_it_waits_replays_to_its_last_step() {
    let spec = json!({"metadata": "wait", "inbox": [{"after_ms": 100, "event": {"kill": {}}}]});
    let (_dir, file, done) = recorded("steps", &spec, &[]);
    assert_eq!(done.code(), "killed", "{}", done.stderr);
    assert_eq!(is_same(&file)["steps"], 1);
}

#[test]
fn only_jobs_that_did_not_end_well_are_kept_by_record_failed() {
    let dir = tempfile::tempdir().unwrap();
    for guest in ["converse", "divide"] {
        let args = ["--spec", "-", "--record-failed", path(dir.path())];
        with_own_cache(run_guest(guest, args)).stdin(&chat().to_string()).done();
    }
    let [file] = &recordings(dir.path())[..] else { panic!("{:?}", recordings(dir.path())) };
    let result = is_same(file);
    assert_eq!(result["end"]["how"], "trapped: unreachable", "{result}");
}

#[test]
fn newest_part_of_a_long_failed_job_is_shown_and_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--record-failed", path(dir.path()), "--record-limit", "1KiB", "--max-duration", "6s"];
    assert_eq!(with_own_cache(run_guest("ignore_stop", args)).done().code(), "deadline");
    let [file] = &recordings(dir.path())[..] else { panic!("{:?}", recordings(dir.path())) };
    replay(file, &["--timeline"]).fails_with(2, &["its first steps are missing", "record the job with `--record`"]);
    assert!(fs::metadata(file).unwrap().len() < 6 << 10);
    let shown = replay(file, &["--timeline"]).stdout;
    assert!(shown.contains("… steps 1 to ") && shown.contains("✘ deadline"), "{shown}");
}

#[test]
fn contents_can_be_left_out_and_the_file_says_so() {
    let (_dir, file, done) = recorded("converse", &chat(), &["--record-content", "off"]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    let shown = replay(&file, &["--json"]);
    shown.fails_with(2, &["its contents were left out, by `record-content`", "hint: `--timeline`"]);
    assert!(
        shown.stdout.contains("\"name\":\"send-text\"") && shown.stdout.contains("\"name\":\"text\""),
        "{}",
        shown.stdout
    );
    for content in ["whose", "hello", "dispatcher"] {
        assert!(!shown.stdout.contains(content), "`{content}` in {}", shown.stdout);
    }
}

#[test]
fn recording_that_reaches_its_limit_is_replayed_as_far_as_it_goes() {
    let (_dir, file, _) = recorded("ignore_stop", &json!({}), &["--record-limit", "4KiB", "--max-duration", "4s"]);
    let done = replay(&file, &[]);
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("ends before its job: it reached `record-limit`"), "{}", done.stderr);
    assert!(fs::metadata(&file).unwrap().len() <= 4 << 10);
}

#[test]
fn file_that_is_cut_is_replayed_to_its_last_step_and_a_changed_one_is_refused() {
    let (dir, file, _) = recorded("converse", &chat(), &[]);
    let whole = fs::read(&file).unwrap();
    let steps = is_same(&file)["steps"].as_u64().unwrap();
    let changed = dir.path().join("changed.recording");
    fs::write(&changed, &whole[..whole.len() - 1]).unwrap();
    let cut = replay(&changed, &["--json"]);
    assert_eq!(cut.exit, 0, "{}{}", cut.stdout, cut.stderr);
    assert!(cut.stderr.contains("is cut short at byte "), "{}", cut.stderr);
    assert_eq!(cut.lines().pop().unwrap()["steps"], steps);

    let refused = |bytes: &[u8], part: &str| {
        fs::write(&changed, bytes).unwrap();
        replay(&changed, &[]).fails_with(2, &[part]);
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= byte;
        bytes
    };
    refused(&with(whole.len() / 2, 1), ": its checksum is wrong");
    refused(&with(8, 3), "it has version 2 of the format, want 1");
    refused(&with(1, 1), "it is not a recording: want a file that `--record`");
    refused(&whole[..30], "it ends before its first record");
    refused(b"", "it is not a recording");
    refused(&[whole.clone(), vec![0; 100]].concat(), "its checksum is wrong");
    wasm_worker(["replay", "/dev/zero"]).done().fails_with(2, &["it is not a regular file"]);
    wasm_worker(["replay", "nowhere.recording"]).done().fails_with(2, &["`nowhere.recording`: No such file"]);
}

#[test]
fn agent_that_is_not_in_the_cache_is_named_by_the_command() {
    let (_dir, file, _) = recorded("converse", &chat(), &[]);
    let empty = tempfile::tempdir().unwrap();
    let cache = ["--cache-dir", path(empty.path())];
    replay(&file, &cache).fails_with(
        3,
        &["was recorded with the agent `converse`, whose artifact ", "hint: name the component by --agent"],
    );
    let own = guest("converse");
    let done = replay(&file, &[cache[0], cache[1], "--agent", path(&own)]);
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("fuel, as recorded"), "{}", done.stdout);
}

#[test]
fn other_build_shows_its_first_difference_and_a_directory_is_a_table() {
    let (dir, file, _) = recorded("converse", &chat(), &[]);
    let other = guest("echo");
    let done = replay(&file, &["--agent", path(&other)]);
    assert_eq!(done.exit, 16, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.starts_with("✘ differs at step ") && done.stdout.contains("\n  - "), "{}", done.stdout);

    fs::write(dir.path().join("broken.recording"), "{}").unwrap();
    let table = replay(dir.path(), &["--agent", path(&other)]);
    assert_eq!(table.exit, 16, "{}{}", table.stdout, table.stderr);
    let rows: Vec<&str> = table.stdout.lines().collect();
    assert!(
        rows[0].contains("RECORDING") && rows[0].contains("STEPS") && rows[0].contains("RESULT"),
        "{}",
        table.stdout
    );
    assert!(table.stdout.contains("differs: at step ") && table.stdout.contains("fails: `"), "{}", table.stdout);
    assert_eq!(rows.last(), Some(&"2 recordings: 0 same, 1 different, 1 failed"));
    fs::remove_file(dir.path().join("broken.recording")).unwrap();
    let own = replay(dir.path(), &["--agent", path(&guest("converse"))]);
    assert!(own.exit == 0 && own.stdout.ends_with("1 recording: 1 same, 0 different, 0 failed\n"), "{}", own.stdout);
    let empty = tempfile::tempdir().unwrap();
    replay(empty.path(), &[]).fails_with(2, &["has no file that ends in `.recording`"]);
}

#[test]
fn timeline_shows_events_calls_fuel_and_time_of_each_step() {
    let (dir, file, _) = recorded("converse", &chat(), &[]);
    let shown = replay(&file, &["--timeline", "--until", "4"]).stdout;
    for part in
        ["step 1    +0.0 ms", "← started", "→ connect #1", "← connected", "→ send-text #2", "text: `hello`", " fuel\n"]
    {
        assert!(shown.contains(part), "`{part}` is missing in {shown}");
    }
    assert!(shown.contains("step 4 ") && !shown.contains("step 5 ") && shown.contains("✔ same: 4 steps"), "{shown}");

    let page = dir.path().join("page.html");
    assert_eq!(replay(&file, &["--html", path(&page)]).exit, 0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("what is your name") && page.starts_with("<!DOCTYPE html>"));
    for loads in ["src=", "href=", "http://", "https://"] {
        assert!(!page.contains(loads), "{loads}");
    }
}

#[test]
fn http_and_sockets_replay_exactly_and_without_a_server() {
    networks::of_http_and_sockets();
}

#[test]
fn conversation_with_a_model_replays_exactly() {
    networks::of_a_model();
}

#[test]
fn sound_replays_exactly() {
    sound::of_an_echo();
}

#[test]
fn random_conversations_with_servers_replay_exactly() {
    println!("{}", networks::of_random_conversations());
}

#[test]
fn random_conversations_of_an_agent_in_rust_replay_exactly() {
    println!("{}", replays("Rust", &guest("talker"), count(), &Talk::default()));
}

#[test]
fn random_conversations_of_an_agent_in_c_replay_exactly() {
    agent_in(Language::C)
        .iter()
        .for_each(|component| println!("{}", replays("C", component, count(), &Talk::default())));
}

#[test]
fn random_conversations_of_an_agent_in_python_replay_exactly() {
    agent_in(Language::Python)
        .iter()
        .for_each(|component| println!("{}", replays("Python", component, count(), &Talk::default())));
}

#[test]
fn random_conversations_of_an_agent_in_javascript_replay_exactly() {
    agent_in(Language::JavaScript)
        .iter()
        .for_each(|component| println!("{}", replays("JavaScript", component, count(), &Talk::default())));
}
