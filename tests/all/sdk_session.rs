//! The SDK: participants, callbacks, and sessions with their ends.

use crate::support::harness::run_guest;

#[test]
fn wait_for_participant_skips_a_recorder_and_returns_a_person() {
    let spec = r#"{
        "participants": [{"identity": "recorder", "kind": "egress"}],
        "inbox": [
            {"after_ms": 5, "event": {"participant-joined": {"identity": "other", "kind": "agent"}}},
            {"after_ms": 5, "event": {"participant-left": {"identity": "recorder"}}},
            {"after_ms": 5, "event": {"participant-joined": {"identity": "ann"}}}
        ]
    }"#;
    let done = run_guest("meeting", ["--spec", "-"]).stdin(spec).done();
    assert_eq!((done.code().as_str(), done.exit), ("failed", 10));
    assert_eq!(done.texts()["met"], ["ann"]);
    assert_eq!(done.texts()["there"], ["ann,other"]);
    assert_eq!(done.texts()["callback"], ["first", "second", "added late", "added late"]);
}

#[test]
fn participant_is_known_after_the_inbox_was_full() {
    let text = r#"{"event": {"text": {"sender": "bob", "text": "hi"}}}"#;
    let join = r#"{"event": {"participant-joined": {"identity": "bob"}}}"#;
    let spec = format!(r#"{{"inbox": [{text}, {text}, {text}, {join}]}}"#);
    let done =
        run_guest("deaf_meeting", ["--spec", "-", "--inbox-limit", "1", "--max-duration", "5m"]).stdin(&spec).done();
    assert_eq!(done.texts()["met"], ["bob"]);
    assert_eq!(done.record()["usage"]["inbox_dropped"], 3);
}

#[test]
fn stop_request_ends_a_session_during_on_enter() {
    let spec = r#"{"inbox": [{"after_ms": 20, "event": {"terminate": {"reason": "enough"}}}]}"#;
    let done = run_guest("slow_enter", ["--spec", "-"]).stdin(spec).done();
    assert_eq!(done.code(), "terminated");
    assert_eq!(done.texts()["exit"], ["on_exit ran"]);
}

#[test]
fn three_failed_replies_in_a_row_end_the_session_with_on_exit() {
    let done = run_guest("failing_model", []).done();
    assert_eq!(done.code(), "failed");
    assert_eq!(done.record()["verdict"]["detail"], "503 from the model");
    assert_eq!(done.texts()["asked"].len(), 3);
    assert_eq!(done.texts()["exit"], ["on_exit ran"]);
}

#[test]
fn session_is_closed_through_its_handle_and_delivers_other_events() {
    let spec = r#"{"inbox": [{"after_ms": 1, "event": {"data": {"sender": "ann", "payload": "beep"}}}]}"#;
    let done = run_guest("patient", ["--spec", "-", "--max-duration", "5m"]).stdin(spec).done();
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(done.texts()["data"], ["beep"]);
    assert_eq!(done.texts()["exit"], ["on_exit ran"]);
}

#[test]
fn session_ends_when_its_participant_leaves() {
    let joined = |who: &str| format!(r#"{{"event": {{"participant-joined": {{"identity": "{who}"}}}}}}"#);
    let left = |who: &str| format!(r#"{{"after_ms": 5, "event": {{"participant-left": {{"identity": "{who}"}}}}}}"#);
    let late = r#"{"after_ms": 300000, "event": {"terminate": {"reason": "too late"}}}"#;
    // Ann came first, or was there already; that bob comes and goes does not matter.
    let came =
        format!(r#"{{"inbox": [{}, {}, {}, {}, {late}]}}"#, joined("ann"), joined("bob"), left("bob"), left("ann"));
    let there = format!(
        r#"{{"participants": [{{"identity": "ann"}}], "inbox": [{}, {}, {}, {late}]}}"#,
        joined("bob"),
        left("bob"),
        left("ann")
    );
    for spec in [came, there] {
        let done = run_guest("listener", ["--spec", "-"]).stdin(&spec).done();
        assert_eq!(done.code(), "completed", "{}", done.stderr);
        assert_eq!(done.texts()["left"], ["bob"]);
        assert_eq!(done.texts()["exit"], ["on_exit ran"]);
    }
}

#[test]
fn facts_of_a_job_reach_decide_and_the_entrypoint() {
    let flags = ["--room", "r", "--metadata", "m", "--attribute", "a=1", "--attribute", "b=x=y"];
    let expected = r#"JobKind::Room r () for nobody: m [("a", "1"), ("b", "x=y")] dispatch `` attempt 1 of echo"#;
    for mode in ["snapshot", "pool"] {
        let done = run_guest("echo", flags.into_iter().chain(["--prewarm", mode])).done();
        assert_eq!(done.texts()["job"], [expected]);
        assert_eq!(done.texts()["offer"], [expected], "what `decide` keeps is there in the job");
        assert!(done.stderr.contains(&format!("offered {expected}")), "{}", done.stderr);
    }

    let spec = r#"{
        "room": "r", "room_metadata": "rm", "metadata": "m", "attributes": {"a": "1"}, "dispatch_id": "AD_1",
        "attempt": 3, "participant": {"identity": "ann"}
    }"#;
    let done = run_guest("echo", ["--spec", "-"]).stdin(spec).done();
    let expected = r#"JobKind::Participant r (rm) for ann: m [("a", "1")] dispatch `AD_1` attempt 3 of echo"#;
    assert_eq!(done.texts()["job"], [expected]);
    let record = done.record();
    assert_eq!((&record["dispatch"], &record["attempt"]), (&"AD_1".into(), &3.into()));
}
