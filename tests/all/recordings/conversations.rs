//! Random conversations: random people, texts, calls, kills and requests to stop, with agents in Rust, C, Python and JavaScript.
//! Each is replayed in another process. `WASM_WORKER_RECORDINGS` sets how many.

use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::recordings;
use crate::support::harness::{path, wasm_worker};
use crate::support::interpreters::with_interpreters;

/// Conversations of each agent.
const EACH: usize = 12;
/// Jobs of one process, which run side by side.
const AT_ONCE: usize = 6;
/// Bytes of a component that is compiled in seconds.
const SMALL: u64 = 4 << 20;
const PEOPLE: [&str; 4] = ["ann", "bob", "Ünal", ""];
const TEXTS: [&str; 8] =
    ["hello big world", "dice", "stop", "history", "short", "bye", "fail", "one two three four five six"];

/// What people say to an agent, and the flags of its runs.
#[derive(Default)]
pub(super) struct Talk<'a> {
    /// Texts besides those that every agent hears.
    pub(super) texts: &'a [String],
    pub(super) flags: &'a [&'a str],
}

/// What happens, at random times. Some jobs are killed, some asked to stop, some fail. The first of the texts is heard in any case.
fn script(rng: &mut StdRng, texts: &[String]) -> Value {
    let first = texts.iter().take(1).map(|text| json!({"event": {"text": {"sender": "ann", "text": text}}}));
    let mut inbox: Vec<Value> = first.collect();
    inbox.extend((0..rng.random_range(1..14)).map(|_| event(rng, texts)));
    let last = match rng.random_range(0..4) {
        0 => json!({"kill": {}}),
        _ => json!({"terminate": {"reason": "enough"}}),
    };
    inbox.push(json!({"after_ms": rng.random_range(0..200), "event": last}));
    json!({"participants": [{"identity": "ann"}], "metadata": "random", "inbox": inbox})
}

fn event(rng: &mut StdRng, texts: &[String]) -> Value {
    let who = *PEOPLE.choose(rng).unwrap();
    let text = match rng.random_range(0..10) {
        0 => "word ".repeat(rng.random_range(1..500)),
        1..6 if !texts.is_empty() => texts.choose(rng).unwrap().clone(),
        _ => (*TEXTS.choose(rng).unwrap()).to_owned(),
    };
    let event = match rng.random_range(0..10) {
        0 => json!({"participant-joined": {"identity": who, "name": "N", "attributes": {"a": "b"}}}),
        1 => json!({"participant-left": {"identity": who}}),
        2 => json!({"attributes-changed": {"identity": who, "changed": {"mood": "good"}}}),
        3 => json!({"data": {"sender": who, "topic": "t", "payload": text}}),
        4 => json!({"rpc": {"sender": who, "method": "m", "payload": text, "timeout_ms": rng.random_range(1..300)}}),
        _ => json!({"text": {"sender": who, "text": text}}),
    };
    json!({"after_ms": rng.random_range(0..80), "event": event})
}

/// Flags of some runs, so that limits end jobs too. An agent without a snapshot is compiled once more, which takes long for an
/// interpreter.
fn flags(rng: &mut StdRng, is_small: bool) -> Vec<String> {
    match rng.random_range(0..6) {
        0 => vec!["--max-duration".into(), format!("{}ms", rng.random_range(20..600))],
        1 => vec!["--fuel-limit".into(), format!("{}k", rng.random_range(200..20_000))],
        2 if is_small => vec!["--inbox-limit".into(), "3".into(), "--prewarm".into(), "pool".into()],
        _ => Vec::new(),
    }
}

/// Record many conversations of one agent, and replay the directory. A line that says how many they were.
pub(super) fn replays(name: &str, component: &Path, count: usize, talk: &Talk<'_>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let is_small = component.metadata().unwrap().len() < SMALL;
    for number in 1..=count.div_ceil(AT_ONCE) {
        let script = script(&mut rng, talk.texts).to_string();
        let converse = |limits: &[String]| {
            let at_once = AT_ONCE.to_string();
            let args =
                ["run", path(component), "--job", "--spec", "-", "--record", path(dir.path()), "--count", &at_once];
            let run = wasm_worker(args).args(["--concurrency", &at_once, "--log-level", "off"]);
            let run = with_interpreters(run.args(talk.flags.iter().copied()).args(limits.iter().map(String::as_str)));
            let done = run.stdin(&script).done();
            assert!(!done.stdout.contains("host-fault"), "{name}, seed {seed}: {}", done.stdout);
        };
        let limits = flags(&mut rng, is_small);
        converse(&limits);
        // A job whose decision meets a limit is refused, and has no recording. Others take its place.
        if !limits.is_empty() && recordings(dir.path()).len() < number * AT_ONCE {
            converse(&[]);
        }
    }
    let files = recordings(dir.path());
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    let began = Instant::now();
    // From the cache, by the artifact that they name.
    let done = with_interpreters(wasm_worker(["replay", path(dir.path()), "--json"])).done();
    let rows = done.lines();
    let steps: u64 = rows.iter().map(|row| row["steps"].as_u64().unwrap()).sum();
    let differ: Vec<&Value> = rows.iter().filter(|row| row["result"] != "same" || row["detail"] != "").collect();
    if !differ.is_empty() {
        let kept = dir.keep();
        panic!("{name}, seed {seed}, {}: {differ:#?}\n{}", kept.display(), done.stderr);
    }
    assert_eq!((done.exit, rows.len()), (0, files.len()), "{}", done.stderr);
    assert!(files.len() >= count, "{name}, seed {seed}: {} of {count}", files.len());
    format!(
        "{name}: {} recordings of {steps} steps, {bytes} bytes, {} a step, replayed in {:?}",
        files.len(),
        bytes / steps.max(1),
        began.elapsed()
    )
}

/// How many conversations of each agent.
pub(super) fn count() -> usize {
    let wanted = std::env::var_os("WASM_WORKER_RECORDINGS").and_then(|value| value.into_string().ok());
    wanted.and_then(|value| value.parse().ok()).unwrap_or(EACH)
}
