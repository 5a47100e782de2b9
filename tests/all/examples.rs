//! The examples behave as they are described.

use std::process::Command;

use serde_json::Value;

use crate::support::harness::{Done, cache_dir, root, run_guest, target_dir, wasm_worker};
use wasm_worker_sandbox::sound::wav;

fn run<'a>(example: &str, args: impl IntoIterator<Item = &'a str>) -> Done {
    let path = root().join("examples").join(example);
    wasm_worker(["run", path.to_str().unwrap(), "--job"]).args(args).done()
}

#[test]
fn hello_completes_with_a_usage_record() {
    let done = run("hello", ["--room", "lobby"]);
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let record = done.record();
    assert_eq!(record["verdict"]["code"], "completed");
    assert_eq!(record["room"], "lobby");
    // Its sleep; how much of that is counted as waiting depends on how soon it comes to wait.
    assert!(record["usage"]["wall_us"].as_u64().unwrap() >= 20_000);
    assert!(done.stderr.contains("hello, room `lobby`") && done.stderr.contains("✔ completed"), "{}", done.stderr);
    let wasm = target_dir().join("wasm32-wasip2/agent/hello.wasm");
    assert!(std::fs::metadata(wasm).unwrap().len() < 150_000);
}

#[test]
fn lifecycle_shows_every_hook_between_the_host_s_events() {
    let done = run("lifecycle", ["--cache-dir", tempfile::tempdir().unwrap().path().to_str().unwrap()]);
    let order = [
        "1 prewarm",
        "agent.loaded",
        "2 decide",
        "job.created",
        "job.started",
        "job.ready",
        "job.launched",
        "3 entrypoint",
        "4 on_enter",
        "5 on_user_turn_completed: `what is your name?`",
        "6 llm_node",
        "5 on_user_turn_completed: `(nobody should answer this)`",
        "no reply to this turn",
        "5 on_user_turn_completed: `goodbye`",
        "6 llm_node",
        "7 on_exit",
        "8 entrypoint",
        "9 shutdown callback: the user said goodbye",
        "job.closed",
    ];
    let mut rest = done.stderr.as_str();
    for step in order {
        let at = rest.find(step).unwrap_or_else(|| panic!("`{step}` is missing or out of order in:\n{}", done.stderr));
        rest = &rest[at + step.len()..];
    }
    assert!(done.stderr.contains(r#"\"room\":\"local\""#), "{}", done.stderr);
    let record = done.record();
    assert_eq!(record["identity"], "lifecycle-agent");
    assert_eq!(record["usage"]["models"][0]["kind"], "llm");
    assert_eq!(record["usage"]["models"][0]["counters"]["output_tokens"], 10.0);
    assert_eq!((&record["record"], &record["attempt"]), (&"job".into(), &1.into()));
    assert_eq!(record["activity"]["texts"][1]["text"], "you asked: what is your name?");
}

#[test]
fn lifecycle_takes_its_own_turns_first_and_refuses_foreign_metadata() {
    let path = root().join("examples/lifecycle");
    let spec = r#"{
        "participants": [{"identity": "alice"}],
        "inbox": [{"after_ms": 1, "event": {"text": {"sender": "alice", "text": "HELLO"}}}]
    }"#;
    let done = wasm_worker(["run", path.to_str().unwrap(), "--job", "--spec", "-"]).stdin(spec).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let turns = ["what is your name?", "(nobody should answer this)", "goodbye", "HELLO"];
    let taken = turns.map(|turn| done.stderr.contains(&format!("on_user_turn_completed: `{turn}`")));
    // The agent's own turns come first, and its goodbye ends the session before alice is heard.
    assert_eq!(taken, [true, true, true, false], "{}", done.stderr);
    let refused = wasm_worker(["run", path.to_str().unwrap(), "--job", "--metadata", "not for me"]).done();
    assert_eq!((refused.exit, refused.record()["refused"].as_str()), (4, Some("rejected")));
}

#[test]
fn usage_prewarms_once_and_counts_model_calls() {
    let snapshot = run("usage", []).record();
    let pool = run("usage", ["--prewarm", "pool"]).record();
    let prewarm = |record: &Value| record["usage"]["prewarm"]["fuel"].as_u64().unwrap();
    assert_eq!(prewarm(&snapshot), 0);
    assert!(prewarm(&pool) > 1_000_000);
    let models = snapshot["usage"]["models"].as_array().unwrap();
    assert_eq!((&models[0]["kind"], &models[1]["kind"]), (&"tts".into(), &"llm".into()));
    assert_eq!(models[0]["counters"]["audio_duration"], 4.0);
}

#[test]
fn llm_holds_the_conversations_of_its_scenarios() {
    let agent = root().join("examples/llm");
    let play = || {
        // A variable of the user's own is no setting of a scenario.
        let call =
            wasm_worker(["test", agent.to_str().unwrap(), "--json"]).env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
        let done = call.done();
        assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
        let facts = |line: Value| (line["name"].clone(), line["fuel"].clone(), line["lasted_ms"].clone());
        done.lines().into_iter().map(facts).collect::<Vec<_>>()
    };
    let first = play();
    assert_eq!((first.len(), &first), (8, &play()), "every run is the same");
}

#[test]
fn echo_and_tone_hold_the_conversations_of_their_scenarios() {
    for (example, scenarios) in [("echo", 3), ("tone", 1)] {
        let agent = root().join("examples").join(example);
        let done = wasm_worker(["test", agent.to_str().unwrap(), "--json"]).done();
        assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
        assert_eq!(done.lines().len(), scenarios, "{}", done.stdout);
    }
}

#[test]
fn echo_hears_and_speaks_files() {
    let (dir, agent) = (tempfile::tempdir().unwrap(), root().join("examples/echo"));
    let [file, said] = ["in.wav", "out.wav"].map(|name| dir.path().join(name));
    std::fs::copy(agent.join("tests/low.wav"), &file).unwrap();
    let run =
        |flags: &[&str]| wasm_worker(["run", agent.to_str().unwrap(), "--job"]).args(flags.iter().copied()).done();
    let done = run(&["--audio-in", file.to_str().unwrap(), "--audio-out", said.to_str().unwrap()]);
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let used = &done.record()["usage"]["audio"];
    // What is said has 0.9 s, and some silence before its end is known.
    let millis = |key: &str| used[key].as_u64().unwrap();
    assert!((900..1_600).contains(&millis("heard_ms")) && (900..1_600).contains(&millis("spoken_ms")), "{used}");
    let sound = wav::read(&std::fs::read(&said).unwrap()).unwrap();
    assert_eq!(sound.rate, 24_000);
    // Silence until the person pauses, and then the tone.
    let is_loud = |sample: &&i16| sample.unsigned_abs() > 1_000;
    let first = sound.samples.iter().position(|sample| is_loud(&sample)).unwrap();
    assert!((24_000..4 * 24_000).contains(&first), "{first}");
    let crossings = sound.samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    assert!((380..=400).contains(&crossings), "{crossings} periods in 0.9 s");

    std::fs::write(&file, b"no sound").unwrap();
    run(&["--audio-in", file.to_str().unwrap()])
        .fails_with(2, &["in.wav` cannot be spoken: the file is no WAV", "ffmpeg"]);
    run(&["--audio-in", "none.wav"]).fails_with(2, &["`none.wav` cannot be read: No such file"]);
    run(&["--audio-out", "x.wav", "--count", "2"]).fails_with(2, &["are for one job"]);
}

#[test]
fn file_for_what_an_agent_says_is_there_before_its_job() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let run = |out: &str| run_guest("echo", ["--audio-out", out]).done();
    let (missing, here) = (place("missing/out.wav"), place("."));
    let mkdir = format!("hint: `mkdir -p {}`", place("missing"));
    for (out, says) in [(missing, ["No such file or directory", mkdir.as_str()]), (here, ["Is a directory", "hint: "])]
    {
        let done = run(&out);
        done.fails_with(2, &[&format!("`{out}` cannot be written: "), says[0], says[1]]);
        assert_eq!(done.lines(), Vec::<Value>::new(), "no job has run");
    }
    // An agent that plays nothing leaves an older file as it is, and makes no new one.
    let [older, new] = ["older.wav", "new.wav"].map(place);
    std::fs::write(&older, "older").unwrap();
    for out in [&older, &new] {
        let done = run(out);
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(done.stderr.contains("played nothing"), "{}", done.stderr);
    }
    assert_eq!(std::fs::read_to_string(&older).unwrap(), "older");
    assert!(!std::path::Path::new(&new).exists());
}

#[test]
fn agent_in_text_format_runs() {
    let done = run_guest("minimal", ["--count", "5"]).done();
    assert_eq!((done.exit, done.lines().len()), (0, 5), "{}", done.stderr);
    assert!(done.lines().iter().all(|record| record["verdict"]["code"] == "completed"));
}

#[test]
fn embed_serves_an_agent_and_ends_by_itself() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut embed = Command::new(cargo);
    embed.args(["run", "--quiet", "--locked", "--example", "embed", "--target-dir"]).arg(target_dir());
    let output =
        embed.arg("--").arg("examples/hello").current_dir(root()).env("XDG_CACHE_HOME", cache_dir()).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{stdout}{stderr}");
    assert!(lines[0].starts_with("dispatched AD_") && lines[0].contains(" at ws://127.0.0.1:"), "{stdout}");
    assert!(lines[1].starts_with("AJ_") && lines[1].contains(" completed: "), "{stdout}");
    assert_eq!(lines[2], "the worker has ended, with 0 jobs cut short");
}
