//! The SDK's own promises: participants, callbacks, sessions and their ends.

use crate::harness::run_guest;

#[test]
fn a_recorder_is_no_participant_to_wait_for_and_a_person_is() {
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
fn a_participant_is_known_even_when_the_inbox_was_full() {
    let text = r#"{"event": {"text": {"sender": "ann", "text": "hi"}}}"#;
    let join = r#"{"event": {"participant-joined": {"identity": "bob"}}}"#;
    let spec = format!(r#"{{"participants": [{{"identity": "ann"}}], "inbox": [{text}, {text}, {text}, {join}]}}"#);
    let done = run_guest("meeting", ["--spec", "-", "--inbox-limit", "1"]).stdin(&spec).done();
    assert_eq!(done.texts()["met"], ["ann"]);
}

#[test]
fn three_failed_replies_in_a_row_end_the_session_with_its_on_exit() {
    let done = run_guest("failing_model", []).done();
    assert_eq!(done.code(), "failed");
    assert_eq!(done.record()["verdict"]["detail"], "503 from the model");
    assert_eq!(done.texts()["asked"].len(), 3);
    assert_eq!(done.texts()["exit"], ["on_exit ran"]);
}

#[test]
fn a_session_can_be_closed_from_beside_it_and_sees_other_events() {
    let spec = r#"{"inbox": [{"after_ms": 1, "event": {"data": {"sender": "ann", "payload": "beep"}}}]}"#;
    let done = run_guest("patient", ["--spec", "-", "--max-duration", "5s"]).stdin(spec).done();
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    assert_eq!(done.texts()["data"], ["beep"]);
    assert_eq!(done.texts()["exit"], ["on_exit ran"]);
}

#[test]
fn a_session_ends_when_its_person_leaves() {
    let spec = r#"{
        "inbox": [
            {"event": {"participant-joined": {"identity": "ann"}}},
            {"event": {"participant-joined": {"identity": "bob"}}},
            {"event": {"participant-left": {"identity": "bob"}}},
            {"after_ms": 5, "event": {"participant-left": {"identity": "ann"}}}
        ]
    }"#;
    let done = run_guest("failing_model", ["--spec", "-"]).stdin(spec).done();
    assert_eq!(done.texts()["exit"], ["on_exit ran"]);
}
