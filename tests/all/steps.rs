//! The contract of steps: events in, calls out, and what holds of a step whatever the agent does in it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::harness::{Done, run_guest};

/// Far longer than anything here takes.
const LONG: [&str; 4] = ["--max-duration", "5m", "--unresponsive-timeout", "5m"];

/// One trial of the guest `steps`.
fn trial(name: &str, spec: Value, flags: &[&'static str]) -> Done {
    let mut spec = spec;
    spec["metadata"] = name.into();
    let args = ["--spec", "-"].into_iter().chain(LONG).chain(flags.iter().copied());
    run_guest("steps", args).stdin(&spec.to_string()).done()
}

#[track_caller]
fn said(done: &Done) -> Vec<String> {
    done.texts().remove("said").unwrap_or_else(|| panic!("nothing was said: {}{}", done.stdout, done.stderr))
}

fn texts(count: usize) -> Value {
    let text = |n| json!({"event": {"text": {"sender": "ann", "text": format!("{n}")}}});
    json!({"inbox": (0..count).map(text).collect::<Vec<_>>()})
}

#[test]
fn step_that_traps_or_calls_too_much_sends_nothing() {
    let done = trial("trap", json!({}), &[]);
    assert_eq!(done.code(), "trapped", "{}", done.stderr);
    assert_eq!(said(&done), ["kept"]);
    assert_eq!(done.record()["activity"]["attributes"], json!({}));

    let done = trial("too many calls", json!({}), &[]);
    assert_eq!(done.code(), "limit-calls", "{}", done.stderr);
    assert_eq!(done.record()["verdict"]["detail"], "more than 4096 calls in one step");
    assert_eq!(said(&done), ["kept"]);
}

#[test]
fn step_that_is_killed_sends_nothing() {
    let spec = json!({"metadata": "killed"}).to_string();
    for (limit, code) in [(["--fuel-limit", "50M"], "out-of-fuel"), (["--max-duration", "300ms"], "deadline")] {
        let done = run_guest("steps", ["--spec", "-"].into_iter().chain(limit)).stdin(&spec).done();
        assert_eq!(done.code(), code, "{}", done.stderr);
        assert_eq!(said(&done), ["kept"]);
    }
}

#[test]
fn time_stands_still_in_a_step_and_goes_on_between_steps() {
    let done = trial("time", json!({}), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(said(&done), ["stood true, same true"; 4]);
    // Three pauses of 50 ms.
    assert!(done.record()["usage"]["wall_us"].as_u64().unwrap() >= 150_000);
}

#[test]
fn prewarm_has_a_fixed_time_and_fixed_chance_and_each_job_its_own() {
    let (mut prewarms, mut drawn) = (BTreeSet::new(), Vec::new());
    for mode in ["snapshot", "pool"] {
        // A cache of its own, so that each runs its prewarm.
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().to_str().unwrap();
        let args = ["--count", "10", "--metadata", "chance", "--prewarm", mode, "--cache-dir", cache];
        let done = run_guest("steps", args).done();
        for record in done.lines() {
            let texts = record["activity"]["texts"].as_array().unwrap();
            let texts: Vec<&str> = texts.iter().map(|sent| sent["text"].as_str().unwrap()).collect();
            prewarms.insert(texts[0].to_owned());
            drawn.extend(texts[1..].iter().map(|text| (*text).to_owned()));
        }
    }
    assert_eq!(drawn.len(), 40);
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 40, "{drawn:?}");
    // 2026-01-01T00:00:00Z in milliseconds.
    assert_eq!(prewarms.len(), 1, "{prewarms:?}");
    assert!(prewarms.first().unwrap().contains(" 1767225600000 "), "{prewarms:?}");
}

#[test]
fn calls_of_the_last_step_are_carried_out() {
    let done = trial("last step", json!({}), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(said(&done), ["the last words"]);
    assert_eq!(done.texts()["parts"], ["one, two"]);
    assert_eq!(done.record()["activity"]["attributes"], json!({"mood": "good"}));
}

#[test]
fn ids_count_from_one_and_each_ends_once() {
    let done = trial("ids", json!({}), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(said(&done), ["[1, 2, 3, 4, 0, 5]", "done 1", "done 2", "done 3", "done 4", "done 5"]);
}

#[test]
fn nothing_is_heard_of_an_id_that_was_cancelled() {
    let done = trial("cancel", json!({}), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(said(&done), ["nothing is heard of it"]);
    assert!(!done.texts().contains_key("parts"), "{}", done.stdout);
}

#[test]
fn calls_that_cannot_be_carried_out_fail_with_their_codes() {
    let done = trial("not joined", json!({}), &[]);
    assert_eq!(done.code(), "failed", "{}", done.stderr);
    assert_eq!(done.record()["verdict"]["detail"], "1 not-joined, 2 not-joined");

    let done = trial("not supported", json!({}), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    let [refused, missing] = ["not-allowed 0", "not-supported 0"];
    assert_eq!(said(&done), [refused, refused, missing, missing, missing, missing]);
}

#[test]
fn events_come_in_order_and_in_bounded_batches() {
    let done = trial("batches", texts(200), &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(said(&done), ["at most 64 at once, in order: true"]);
}

#[test]
fn agent_that_was_late_hears_what_was_lost() {
    let done = trial("lost", texts(10), &["--inbox-limit", "4"]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    let said = said(&done);
    assert_eq!(said[..4], ["0", "1", "2", "3"], "the newest are dropped");
    assert_eq!(said[4..], ["lost 6 of text 0"]);
    assert_eq!(done.record()["usage"]["inbox_dropped"], 6);
}

#[test]
fn last_timer_of_a_step_counts_and_is_used_up_by_the_step_that_is_due() {
    let done = trial("timer", json!({}), &[]);
    // Nothing can wake it after that.
    assert_eq!(done.code(), "stalled", "{}", done.stderr);
    assert_eq!(said(&done), ["earlier", "due"]);
    let waited = done.record()["usage"]["wall_us"].as_u64().unwrap();
    assert!((400_000..60_000_000).contains(&waited), "{waited}");
}

#[test]
fn participants_are_those_that_the_events_have_told_of() {
    let spec = json!({
        "participants": [{"identity": "recorder", "kind": "egress"}],
        "inbox": [
            {"after_ms": 500, "event": {"participant-joined": {"identity": "ann"}}},
            {"after_ms": 5, "event": {"participant-left": {"identity": "recorder"}}},
            {"after_ms": 5, "event": {"participant-left": {"identity": "ann"}}}
        ]
    });
    let done = trial("participants", spec, &[]);
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    let said = said(&done);
    assert_eq!(said[0], "recorder joined: recorder");
    assert!(said[1].starts_with("connected as agent-AJ_") && said[1].ends_with(": recorder"), "{said:?}");
    assert_eq!(said.last().unwrap(), "ann left: ");
}

#[test]
fn calls_of_prewarm_and_decide_do_nothing() {
    for mode in ["snapshot", "pool"] {
        let done = trial("before", json!({"participants": [{"identity": "ann"}]}), &["--prewarm", mode]);
        assert_eq!(done.code(), "completed", "{}", done.stderr);
        let said = said(&done);
        assert!(said[0].ends_with("[0, 0, 0] 0") && said[1] == "decide [0, 0, 0] 0", "{said:?}");
        assert_eq!(done.texts().len(), 1, "{}", done.stdout);
    }
}

#[test]
fn agent_that_waits_in_a_step_traps_with_the_rule() {
    for guest in ["block_in_step", "poll_in_step", "thread_sleep"] {
        let done = run_guest(guest, []).done();
        assert_eq!(done.code(), "trapped", "{guest}: {}", done.stderr);
        let detail = done.record()["verdict"]["detail"].as_str().unwrap().to_owned();
        let rule =
            "the agent waited in `wasi:io/poll`; an agent returns from `resume` to wait, and `job.wake` sets its timer";
        assert!(detail.contains(rule), "{guest}: {detail}");
    }
}

#[test]
fn waiting_job_is_killed_without_a_step() {
    // Whenever it is killed, it has run its first step and no other.
    let mut fuel = BTreeSet::new();
    for after_ms in [100, 150, 250] {
        let kill = json!({"inbox": [{"after_ms": after_ms, "event": {"kill": {}}}]});
        let done = trial("wait", kill, &[]);
        assert_eq!(done.code(), "killed", "{}", done.stderr);
        let record = done.record();
        assert_eq!(record["verdict"]["backtrace"].as_array().map_or(0, Vec::len), 0, "{record}");
        assert_eq!(record["usage"]["hostcalls"]["inbox"]["calls"], 1, "{record}");
        fuel.insert(record["usage"]["fuel"].as_u64().unwrap());
    }
    assert_eq!(fuel.len(), 1, "{fuel:?}");
}

#[test]
fn same_conversation_takes_the_same_fuel() {
    let text = |text: &str| json!({"after_ms": 700, "event": {"text": {"sender": "ann", "text": text}}});
    let spec = json!({
        "participants": [{"identity": "ann"}],
        "inbox": [text("what is your name"), text("and whose is this"), text("good bye then")]
    });
    let args = ["--count", "20", "--concurrency", "20", "--spec", "-"];
    let done = run_guest("converse", args).stdin(&spec.to_string()).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let facts = |record: &Value| (record["usage"]["fuel"].as_u64().unwrap(), record["activity"].clone());
    let lines = done.lines();
    let first = facts(&lines[0]);
    assert_eq!((lines.len(), first.1["texts"].as_array().unwrap().len()), (20, 12));
    for record in &lines {
        assert_eq!(facts(record).0, first.0, "{}", done.stdout);
    }
}
