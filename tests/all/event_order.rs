//! The order of events: a job publishes the right events, each once.

use crate::support::harness::run_guest;

fn names(guest: &str, args: &[&str]) -> Vec<String> {
    let done = run_guest(guest, args.iter().copied().chain(["--events", "-"])).done();
    let named = done.lines().into_iter().filter_map(|line| line["event"].as_str().map(ToOwned::to_owned));
    named.collect()
}

#[test]
fn completed_job_publishes_its_events_in_order() {
    let expected = ["agent.loaded", "job.created", "job.started", "job.ready", "job.launched", "job.closed"];
    assert_eq!(names("randomness", &[]), expected);
}

#[test]
fn killed_job_publishes_a_warning_and_the_kill_before_its_end() {
    let expected = [
        "agent.loaded",
        "job.created",
        "job.started",
        "job.ready",
        "job.launched",
        "job.warning",
        "job.killed",
        "job.closed",
    ];
    let limits = ["--unresponsive-timeout", "2s", "--unresponsive-warning", "30ms"];
    assert_eq!(names("spin", &limits), expected);
}

#[test]
fn trap_publishes_no_kill() {
    let names = names("panic", &[]);
    assert!(!names.contains(&"job.killed".to_owned()), "{names:?}");
    assert_eq!(names.last().unwrap(), "job.closed");
}

#[test]
fn failed_agent_and_refused_offer_publish_one_event_each() {
    assert_eq!(names("prewarm_error", &[]), ["agent.failed"]);
    assert_eq!(names("reject", &[]), ["agent.loaded", "offer.refused"]);
}

#[test]
fn event_file_is_appended_to_and_holds_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    for _ in 0..2 {
        let done = run_guest("randomness", ["--count", "20", "--concurrency", "4", "--events", file.to_str().unwrap()]);
        assert_eq!(done.done().exit, 0);
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let closed = lines.iter().filter(|line| line["event"] == "job.closed");
    assert_eq!(closed.clone().count(), 40);
    assert!(closed.clone().all(|line| line["verdict"]["code"] == "completed" && line["usage"]["fuel"].is_u64()));
    assert!(lines.iter().all(|line| line["at"].as_str().unwrap().ends_with('Z')));
    assert_eq!(lines.len(), 2 + 40 * 5);
}
