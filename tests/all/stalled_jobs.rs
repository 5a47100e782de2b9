//! Jobs that nothing can wake: they end at once as `stalled`, and say what their tasks wait for.

use serde_json::{Value, json};

use crate::support::harness::{Done, run_guest};
use crate::support::scripted_server::{Server, run};

/// A job that stalls takes no longer, its start included; a slow machine has time for that.
const STALLS_WITHIN_US: u64 = 1_000_000;

#[track_caller]
fn stalls(done: &Done, task: &str) -> Value {
    let record = done.record();
    assert_eq!((done.code().as_str(), done.exit), ("stalled", 10), "{}{}", done.stdout, done.stderr);
    let verdict = &record["verdict"];
    assert_eq!((&verdict["blame"], &verdict["retry"]), (&"guest".into(), &false.into()), "{record}");
    let detail = verdict["detail"].as_str().unwrap();
    assert!(detail.starts_with("nothing can wake the job"), "{detail}");
    assert!(detail.contains(task), "{detail}");
    record
}

#[test]
fn agent_that_awaits_nothing_ends_within_a_second_and_its_task_is_named() {
    let done = run_guest("pending", []).done();
    let record = stalls(&done, "task `entrypoint` waits for nothing");
    // Of its first step on: the start of the process does not count.
    let wall_us = record["usage"]["wall_us"].as_u64().unwrap();
    assert!(wall_us < STALLS_WITHIN_US, "{wall_us}");
}

#[test]
fn every_task_is_named_with_what_it_waits_for() {
    let done = run_guest("stalled_tasks", []).done();
    let record = stalls(&done, "task `reads` waits for next_event");
    let detail = record["verdict"]["detail"].as_str().unwrap();
    assert!(detail.contains("task `forgets` waits for nothing"), "{detail}");
    assert!(detail.contains("task `entrypoint` waits for"), "{detail}");
}

#[test]
fn agent_without_the_sdk_stalls_without_tasks() {
    stalls(&run_guest("wait", []).done(), "no timer");
}

#[test]
fn scripted_room_stalls_when_its_script_is_over() {
    let script = json!({"inbox": [
        {"after_ms": 300, "event": {"participant-joined": {"identity": "bob"}}},
        {"after_ms": 300, "event": {"data": {"sender": "bob", "payload": "beep"}}}
    ]});
    let done = run_guest("listener", ["--spec", "-"]).stdin(&script.to_string()).done();
    let record = stalls(&done, "task `entrypoint`");
    // It heard all of it first.
    assert_eq!((&done.texts()["joined"], &done.texts()["data"]), (&vec!["bob".to_owned()], &vec!["beep".to_owned()]));
    assert!(record["usage"]["wall_us"].as_u64().unwrap() >= 600_000);
}

#[test]
fn stop_request_that_may_come_does_not_count() {
    // Nobody has asked it to stop, though somebody could.
    let done = run_guest("waits_for_stop", []).done();
    stalls(&done, "task `entrypoint` waits for shutdown_requested");
    // A stop that was asked for is no stall, and has its grace.
    let stop = json!({"inbox": [{"after_ms": 100, "event": {"terminate": {"reason": "enough"}}}]});
    let done = run_guest("waits_for_stop", ["--spec", "-"]).stdin(&stop.to_string()).done();
    assert_eq!(done.code(), "terminated", "{}", done.stderr);
    let done = run_guest("block", ["--spec", "-", "--shutdown-grace", "20s"]).stdin(&stop.to_string()).done();
    assert_eq!(done.code(), "terminated", "the SDK ends the entrypoint: {}", done.stderr);
}

#[test]
fn timer_and_open_call_are_pending() {
    let done = run_guest("nap", ["--metadata", "700"]).done();
    assert_eq!(done.code(), "completed", "{}", done.stderr);
    // A timer of hours, and a timer in each step.
    for guest in ["sleep", "long_wait", "wake_loop"] {
        let done = run_guest(guest, ["--max-duration", "300ms"]).done();
        assert_eq!(done.code(), "deadline", "{guest}: {}", done.stderr);
    }
    // Each call of it has an id that ends, whose event wakes it.
    let spec = json!({"metadata": "not supported"});
    let done = run_guest("steps", ["--spec", "-"]).stdin(&spec.to_string()).done();
    assert_eq!(done.code(), "completed", "{}", done.stderr);
}

#[test]
fn room_of_a_server_can_bring_something_as_long_as_the_job_is_in_it() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("block", &["--http", "off", "--shutdown-grace", "200ms"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        // Far longer than a stall takes.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert!(!worker.said().contains("stalled"), "{}", worker.said());
        worker.kill();

        let worker = server.worker("pending", &["--http", "off"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_2").await;
        let (_, _, said) = peer.report().await;
        assert!(said.starts_with("stalled: nothing can wake the job"), "{said}");
        worker.kill();
    });
}
